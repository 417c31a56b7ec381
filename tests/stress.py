"""Kill runs with SIGKILL, over and over, and compare what they end with to a run left in peace.

    python tests/stress.py --kills 50 --processes 1 2
    python tests/stress.py --damage 20   # flip, cut, empty and remove files of a finished run

Each stage of a run is killed a few times and then finished; half of the kills come after a random
time, half just before or after a random one of the operations that put a file in its place (fsync
and rename), so that saves are hit for sure. With two processes a kill takes the leader, one of the
others or all of them. At the end the adapter, scores, groups, pictures and figures must be those of
the undisturbed run, byte for byte. Attempts are forked from one process that has imported
everything: starting Python would take most of the time.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from invdiff.app import cli
from invdiff.app.api import Run
from invdiff.engine.distributed import pool
from invdiff.engine.settings import config as configuration
from invdiff.engine.storage.files import read_json
from invdiff.engine.workflow import HOMES

sys.path.insert(0, str(Path(__file__).parents[1]))  # also a script of its own
from tests import damage, tiny_world

STAGES = ("discover", "train", "sample", "evaluate")
SETTINGS = (
    "train.steps=8", "train.checkpointing_steps=2", "train.share_feedback=[0.5]",
    "train.ema_decay=0.5",    "train.validation_steps=3", "train.preview_steps=4",
)  # fmt: skip
PLACING = ("fsync", "replace")  # the operations of `os` that put a file in its place
PASSING = ("events.jsonl", "stages", "checkpoints", "config.toml")  # times, places
ENOUGH = 20  # attempts at one kill: a random moment may come after the end


@dataclass(frozen=True)
class Undisturbed:
    """A run left in peace: its folder, and for each stage its seconds and file operations."""

    run: Path
    seconds: dict[str, float]
    operations: dict[str, int]


@dataclass
class Harness:
    """Runs of the tiny world in processes that can be killed."""

    root: Path
    size: int
    chance: random.Random
    killed: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.config = self.root / f"settings-{self.size}.toml"
        world = tiny_world.World(self.root / "model", self.root / "data")
        more = (f"processes={self.size}", f"train.processes={self.size}")
        self.config.write_text(configuration.dump(world.config(*SETTINGS, *more)))

    def start(self, run: Path, stage: str, die_at: int = 0, log: Path | None = None) -> int:
        """Begin ``stage`` in a process of its own; at file operation ``die_at`` it kills itself."""
        pid = os.fork()
        if pid:
            return pid
        os.setpgid(0, 0)
        out = os.open(self.root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        count_operations(die_at, log)
        torch.set_num_threads(1)
        code = 1
        try:
            code = cli.main([stage, "--config", str(self.config), "--out", str(run)])
        finally:
            os._exit(code)

    def finish(self, run: Path, stage: str, log: Path | None = None) -> float:
        """Do ``stage`` to its end; the seconds it took."""
        begun = time.monotonic()
        status = waited(self.start(run, stage, log=log))
        if status != 0:
            raise SystemExit(f"{stage} did not go on (exit code {status}): see {self.root}/log")
        return time.monotonic() - begun

    def undisturbed(self) -> Undisturbed:
        run, seconds, operations = self.root / f"peace-{self.size}", {}, {}
        for stage in STAGES:
            log = self.root / "operations"
            log.write_bytes(b"")
            seconds[stage] = self.finish(run, stage, log)
            operations[stage] = log.stat().st_size
        return Undisturbed(run, seconds, operations)

    def kill(self, run: Path, stage: str, peace: Undisturbed) -> bool:
        """Begin ``stage`` and kill it at a random moment; False if it ended before."""
        if self.chance.random() < 0.5:
            # what is done stays done: within a third of the stage, so that three kills fit
            moments = 2 * peace.operations[stage] // (3 * self.size)
            at = self.chance.randint(1, max(2, moments))
            status = waited(pid := self.start(run, stage, die_at=at))
            how = "while it saved"
        else:
            pid = self.start(run, stage)
            time.sleep(self.chance.uniform(0, peace.seconds[stage]))
            victim = self.chance.choice(["all", "leader", "other"]) if self.size > 1 else "leader"
            strike(pid, victim, self.chance)
            status = waited(pid)
            how = f"at a random time, {victim}"
        bury(pid)
        if status == 0:
            return False
        self.killed[f"{stage}, {how}"] += 1
        return True

    def trial(self, name: str, kills_per_stage: int, peace: Undisturbed) -> None:
        """One run whose every stage is killed, then finished, then compared."""
        run = self.root / name
        for stage in STAGES:
            killed = 0
            for _ in range(ENOUGH):
                killed += killed < kills_per_stage and self.kill(run, stage, peace)
            self.finish(run, stage)
        compare(run, peace.run)
        shutil.rmtree(run)


def count_operations(die_at: int, log: Path | None) -> None:
    """Count the file operations of this process and those it forks; the last one kills it.

    Operation 2n - 1 is the moment before the n-th call, 2n the one after it.
    """
    seen = [0]

    def counted(original):
        def call(*args):
            for moment in ("before", "after"):
                if moment == "after":
                    original(*args)
                seen[0] += 1
                if seen[0] == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            if log is not None:
                with log.open("ab") as handle:
                    handle.write(b".")

        return call

    for name in PLACING:
        setattr(os, name, counted(getattr(os, name)))


def strike(pid: int, victim: str, chance: random.Random) -> None:
    """SIGKILL for a process, one of its children, or the whole family."""
    children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    target = chance.choice(children) if victim == "other" and children else pid
    with suppress(ProcessLookupError):  # it has ended meanwhile
        os.killpg(pid, signal.SIGKILL) if victim == "all" else os.kill(target, signal.SIGKILL)


def waited(pid: int) -> int:
    """The exit code of a child; negative is the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def bury(pid: int) -> None:
    """Wait until the whole family of ``pid`` has ended by itself, as it must."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    raise SystemExit("processes stayed after their leader was killed")


def compare(run: Path, peace: Path) -> None:
    """SystemExit unless both runs ended with the same adapter, scores, pictures and figures."""
    different = []
    one, two = (tiny_world.contents(folder) for folder in (run, peace))
    for name in sorted(one.keys() | two.keys()):
        parts = name.split("/")
        # beside their names: what a killed process had not finished
        if parts[0] in PASSING or any(part.startswith(".") for part in parts):
            continue
        if name == "training.json":
            same = timeless(run / name) == timeless(peace / name)
        elif name.endswith("pytorch_lora_weights.safetensors") and name in one and name in two:
            pair = [tiny_world.tensors(folder / name) for folder in (run, peace)]
            same = pair[0].keys() == pair[1].keys()
            same = same and all(torch.equal(pair[0][k], pair[1][k]) for k in pair[0])
        else:
            same = one.get(name) == two.get(name)
        if not same:
            different.append(name)
    if different:
        raise SystemExit(f"{run} differs from {peace}: {', '.join(different)}")


def timeless(path: Path) -> dict:
    return {key: value for key, value in read_json(path).items() if key != "seconds"}


def prepare(root: Path) -> None:
    """Pictures and a model, and everything imported that a stage needs."""
    tiny_world.pictures(root / "data")
    tiny_world.save_pipeline(root / "model")
    for module, _ in HOMES.values():
        importlib.import_module(module)
    from diffusers import StableDiffusionPipeline

    StableDiffusionPipeline.from_pretrained(root / "model")
    pool.START = "fork"


def damaged(root: Path, flips: int, seed: int) -> int:
    """Damage every file of a finished run in turn; 1 if a reader was silent or fell over."""
    torch.set_num_threads(1)
    world = tiny_world.World(root / "model", root / "data")
    small = (
        "sample.images_per_prompt=1", "sample.guidance_scales=[2.5]", "processes=1",
        "calibrate.images_per_prompt=2", "train.steps=4", "discover.images_per_prompt=40",
    )  # fmt: skip
    run = Run(root / "run", world.config(*SETTINGS, *small))
    run.run_all()
    damage.with_an_attribute(run.path)
    sweep = damage.Sweep(run.path, root / "place", flips=flips, seed=seed)
    for file in sweep.files:
        sweep.go(file)
        print(f"{file}: {sweep.told()}", flush=True)
    print({reader: round(seconds) for reader, seconds in sweep.seconds.most_common()})
    print("\n".join(sweep.wrong) or "every damage was told, or did no harm")
    return 1 if sweep.wrong else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="at least so many in all (50)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damage", type=int, metavar="FLIPS", help="damage a finished run instead")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="invdiff-stress-"))
    print(f"runs in {root}", flush=True)
    prepare(root)
    if asked.damage is not None:
        sys.exit(damaged(root, asked.damage, asked.seed))
    told, total = {}, 0
    for number, size in enumerate(asked.processes, 1):
        harness = Harness(root, size, random.Random(asked.seed))
        peace = harness.undisturbed()
        wanted, trials = asked.kills * number / len(asked.processes), 0
        while total + harness.killed.total() < wanted:
            trials += 1
            left = wanted - total - harness.killed.total()
            harness.trial(f"trial-{size}-{trials}", min(3, -(-int(left) // 4)) or 1, peace)
            print(f"{size} processes: {harness.killed.total()} kills", flush=True)
        total += harness.killed.total()
        told[f"{size} processes"] = {"runs": trials, "kills": dict(harness.killed)}
    print(json.dumps(told, indent=1))
    print(f"{total} kills, every run ended as if it had been left in peace")
    shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
