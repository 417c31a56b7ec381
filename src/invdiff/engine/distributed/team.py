"""The processes that train together: rank 0 runs the command, the others help it.

Rank 0 alone opens the run folder, writes and prints. The others wait in :meth:`Team.serve` for what
it asks of them with :meth:`Team.ask`. torch.distributed is used
as it is: what accelerate adds to it (loaders, checkpoints, wrapped models) would lose the order of
the data, and a LoRA's gradients are one short vector. ``accelerate launch`` starts the processes as
well as ``torchrun`` does: both say who is who in the same environment variables.

Where a stage keeps what it has finished as it goes, Ctrl-C and SIGTERM end it at once. A training
step is not such a place: here the first signal is noted, the loop saves and raises Interrupted. The
second one ends the process at once, which is safe because files appear whole or not at all.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from invdiff.engine.distributed import pool
from invdiff.engine.distributed.pool import (
    held_back,
    how_ended,
    one_thread,
    run_shards,
    silence,
    start_worker,
)
from invdiff.errors import Interrupted, InvDiffError, RunError
from invdiff.terminal import Bar

Work = TypeVar("Work")
Result = TypeVar("Result")

PATIENCE = timedelta(days=30)  # the others wait while rank 0 discovers, samples and evaluates
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Whether somebody has asked to stop."""

    asked: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def noted() -> Iterator[Stop]:
    """Within it, the first SIGINT or SIGTERM is only noted. A signal that is ignored stays so.

    Python lets the main thread alone handle signals: in another one nothing is ever noted.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {n: h for n in SIGNALS if (h := signal.getsignal(n)) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, stop.note)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Team:
    """``size`` processes, of which this is number ``rank``; one alone needs no process group."""

    rank: int = 0
    size: int = 1
    stop: Stop = field(default_factory=Stop)
    members: Sequence[BaseProcess] = ()  # the others, where this process has started them

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def parts(self, count: int, parts: int) -> tuple[torch.Tensor, ...]:
        """The rows of this process, of ``count`` that all share, in ``parts`` parts."""
        if self.size * parts > count:
            raise RunError(
                f"{self.size} processes in {parts} parts each cannot share a batch of {count}: "
                "raise train.batch_size, or take fewer processes"
            )
        return torch.arange(count).tensor_split(self.size)[self.rank].tensor_split(parts)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, the same bits on each of them."""
        if self.size > 1:
            with _heard(self.members):
                dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter], more: torch.Tensor) -> None:
        """Add up gradients and ``more`` (on the CPU) over the ranks, in place and at once."""
        if self.size == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.float() for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients] + [more.to(gradients[0].device)])
        sizes = [g.numel() for g in gradients] + [len(more)]
        *summed, others = self.sum(flat).split(sizes)
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient.view_as(parameter).clone()
        more.copy_(others)

    def share(self, value: Any = None) -> Any:
        """What rank 0 has, on every rank."""
        held = [value]
        if self.size > 1:
            with _heard(self.members):
                dist.broadcast_object_list(held)
        return held[0]

    def map(
        self, work: Callable[[Work], Result], shards: Sequence[Work], *, title: str
    ) -> Iterator[tuple[Work, Result]]:
        """Results of ``work`` in the order of ``shards``, on every rank; the ranks take turns.

        Raises:
            Interrupted: somebody has asked one of the ranks to stop.
        """
        if self.size == 1:
            for pair in run_shards(work, shards, processes=1, title=title):
                yield pair
                self.stop_if_asked()
            return
        for start in Bar(range(0, len(shards), self.size), title, disable=not self.leads):
            turn = list(shards[start : start + self.size])
            own = work(turn[self.rank]) if self.rank < len(turn) else None
            results: list[Any] = [None] * self.size
            with _heard(self.members):
                dist.all_gather_object(results, own)
            self.stop_if_asked()
            yield from zip(turn, results[: len(turn)], strict=True)

    def stop_if_asked(self) -> None:
        """Raise Interrupted on all ranks if one of them was asked to stop."""
        if self.sum(torch.tensor(float(self.stop.asked))).item():
            raise Interrupted

    def share_tensor(self, tensor: torch.Tensor | None) -> torch.Tensor:
        """The CPU tensor that rank 0 has, on every rank, without a second copy of it there."""
        shape, dtype = self.share(None if tensor is None else (tensor.shape, tensor.dtype))
        held = torch.empty(shape, dtype=dtype) if tensor is None else tensor.contiguous()
        if self.size > 1:
            with _heard(self.members):
                dist.broadcast(held, 0)
        return held

    def ask(self, function: Callable[..., object], *args: Any) -> None:
        """Let the other ranks call ``function(team, *args)`` while rank 0 does its own part."""
        self.share((function, args))

    def serve(self) -> None:
        """Do what rank 0 asks for, until it needs no more."""
        while (asked := self.share()) is not None:
            function, args = asked
            with suppress(Interrupted):  # rank 0 has saved, and tells it
                function(self, *args)

    def dismiss(self) -> None:
        """Rank 0 needs the others no more."""
        self.share(None)


@contextmanager
def _heard(members: Sequence[BaseProcess]) -> Iterator[None]:
    """A rank that has ended shows as an error of the connection: say it in one line."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            f"one of the processes that train together has ended ({how_ended(members)}): run the "
            "same command again to go on; if it ends so again, with fewer of them (train.processes)"
        ) from error


@contextmanager
def assembled(size: int) -> Iterator[Team]:
    """The team of this process as its leader: the launcher's, or ``size`` processes of our own."""
    if dist.is_initialized():
        yield Team(dist.get_rank(), dist.get_world_size())
    elif size == 1:
        yield Team()
    else:
        with TemporaryDirectory(prefix="invdiff-") as place:
            yield from _spawned(size, f"file://{place}/meeting")


def _spawned(size: int, meeting: str) -> Iterator[Team]:
    context: Any = multiprocessing.get_context(pool.START)
    members, doors = [], []
    try:
        with held_back(signal.SIGINT):
            for rank in range(1, size):
                door, theirs = context.Pipe()
                member = context.Process(target=_member, args=(rank, size, meeting, theirs))
                member.start()
                theirs.close()
                members.append(member)
                doors.append(door)
        with _heard(members):
            for door in doors:
                _await(door)
        team = replace(_join(0, size, meeting), members=members)
        yield team
        team.dismiss()
        for member in members:
            member.join()
    finally:
        for member in members:
            member.kill()  # only what did not end by itself: it writes nothing
        leave()


def _await(door: Connection) -> None:
    """Wait until a member is there; RuntimeError if it ended before."""
    try:
        door.recv()
    except EOFError:
        raise RuntimeError("a member ended before it was ready") from None


def _member(rank: int, size: int, meeting: str, door: Connection) -> None:
    """A process of our own making, from beginning to end."""
    start_worker(quiet=True)
    os.environ["LOCAL_RANK"] = str(rank)
    door.send("ready")
    _serve(_join(rank, size, meeting))


def _serve(team: Team) -> None:
    """Help until there is nothing more to do; what goes wrong is told by rank 0."""
    with suppress(InvDiffError):
        team.serve()
    leave()


def together(lead: Callable[[], int]) -> int:
    """Lead the processes of a launcher with ``lead``, or help its leader; the exit code."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    one_thread()
    if rank > 0:
        silence()
        _serve(_join(rank, size))
        return 0
    team = _join(rank, size)
    code = lead()
    if code == 0:  # else the launcher ends the others
        team.dismiss()
        leave()
    return code


def _join(rank: int, size: int, meeting: str = "env://") -> Team:
    """Enter the process group that meets at ``meeting``: gloo for the CPU, NCCL beside it."""
    backend = "gloo"
    if torch.cuda.is_available():  # not run in our tests: they have no GPU
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(backend, meeting, PATIENCE, size, rank)
    return Team(rank, size)


def leave() -> None:
    """Leave the process group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()
