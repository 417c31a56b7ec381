"""Plain worker processes for work that falls into independent shards.

A shard's result depends on the shard alone, so the number of processes changes the time and
nothing else. Workers run torch on one thread: two OpenMP threads on a shared core are slower than
one. Ctrl-C reaches the parent only; what workers have written by then stays. A worker imports
libraries and loads the model for seconds, so within :func:`kept_workers` it stays for more passes.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partialmethod
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TypeVar

import torch
from tqdm import tqdm

from invdiff.engine import distributed
from invdiff.errors import RunError
from invdiff.terminal import Bar

Shard = TypeVar("Shard")
Result = TypeVar("Result")

START = "spawn"  # a fork would share threads, locks and a GPU's context with its parent

_kept: dict[tuple[int, bool], ProcessPoolExecutor] | None = None
"""Pools that wait for the next pass, by what they were made with; None: no pool stays."""


def worker_count(requested: int, device: str) -> int:
    """How many processes to use: as many as are asked for, else one from Python."""
    return requested or (automatic(device) if distributed.by_command else 1)


def automatic(device: str) -> int:
    """2 on a CPU with 2 cores or more, else 1."""
    return min(2, os.cpu_count() or 1) if device == "cpu" else 1


def one_thread() -> None:
    """What every process of ours does first."""
    torch.set_num_threads(1)


def start_worker(quiet: bool) -> None:
    """Make a new process ours: it ends with its parent and leaves Ctrl-C to it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_follow_parent, daemon=True).start()
    one_thread()
    if quiet:
        silence()


def silence() -> None:
    """No progress bars in this process; tqdm reads TQDM_DISABLE when it is imported, too early."""
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)


def _follow_parent() -> None:
    """End with the parent, even if it was killed: nobody else would end this process."""
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """Take a signal only afterwards; processes that are started meanwhile never take it.

    A new worker imports for seconds before it can ignore Ctrl-C, and would end with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_shards(
    work: Callable[[Shard], Result],
    shards: Sequence[Shard] | Iterator[Shard],
    *,
    processes: int,
    title: str,
    count: int | None = None,
    unit: str = "batch",
    done: int = 0,
    quiet: bool = False,
) -> Iterator[tuple[Shard, Result]]:
    """Results of ``work`` as they come, under a progress bar; ``done`` shards came before.

    ``count`` is how many there are, for ``shards`` that are made as they are asked for. With one
    process the work is done here and in order. For work that has progress bars of its own,
    ``quiet`` does it in workers that show none.
    """
    count = len(list(shards)) if count is None else count
    with Bar(desc=title, total=done + count, initial=done, unit=unit) as bar:
        for pair in _results(work, shards, min(processes, count), quiet):
            yield pair
            bar.update()


def _results(
    work: Callable[[Shard], Result], shards: Iterable[Shard], processes: int, quiet: bool
) -> Iterator[tuple[Shard, Result]]:
    if processes <= 1 and not quiet:
        yield from ((shard, work(shard)) for shard in shards)
        return
    distributed.only_once()
    pool = _pool(max(1, processes), quiet)
    workers: list[BaseProcess] = []
    try:
        with held_back(signal.SIGINT):
            futures = {pool.submit(work, shard): shard for shard in shards}
        workers += (pool._processes or {}).values()
        for future in as_completed(futures):
            yield futures[future], future.result()
        if _kept is None:
            pool.shutdown()
    except BrokenProcessPool:
        _forget(pool)
        pool.shutdown(wait=False, cancel_futures=True)
        raise RunError(
            f"a worker process ended before its work was done ({how_ended(workers)}): run the same "
            "command again to go on; if it ends so again, with fewer processes or smaller batches"
        ) from None
    except BaseException:
        _forget(pool)
        _dismiss(pool)
        raise


def how_ended(processes: Sequence[BaseProcess]) -> str:
    """What ended the first of ``processes`` that did not end well: its signal or its exit code."""
    for process in processes:
        process.join(5)  # the pool has asked those that were left to end
    distributed.require_guard(process.exitcode for process in processes)
    codes = [process.exitcode for process in processes if process.exitcode]
    # Those that are left when one has ended are sent a SIGTERM.
    code = next((code for code in codes if code != -signal.SIGTERM), codes[0] if codes else 0)
    if code < 0:
        return f"by the signal {signal.Signals(-code).name}"
    return f"exit code {code}; what it said is above" if code else "how is not known"


@contextmanager
def kept_workers() -> Iterator[None]:
    """Workers that a pass has started stay for the next ones; all end together."""
    global _kept
    if _kept is not None:
        yield
        return
    _kept = {}
    try:
        yield
    finally:
        pools, _kept = list(_kept.values()), None
        for pool in pools:
            pool.shutdown()


def _pool(processes: int, quiet: bool) -> ProcessPoolExecutor:
    known = {} if _kept is None else _kept
    if (processes, quiet) not in known:
        context = get_context(START)
        known[processes, quiet] = ProcessPoolExecutor(processes, context, start_worker, (quiet,))
    return known[processes, quiet]


def _forget(pool: ProcessPoolExecutor) -> None:
    """No pass gets this pool again."""
    for key in [key for key, kept in (_kept or {}).items() if kept is pool]:
        del (_kept or {})[key]


def _dismiss(pool: ProcessPoolExecutor) -> None:
    """Nobody waits for shards that may take minutes: after Ctrl-C the next run does them."""
    for worker in (pool._processes or {}).values():
        worker.terminate()
    pool.shutdown(wait=False, cancel_futures=True)
