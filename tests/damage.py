"""Damage every file of a finished run in turn, let everybody read it, and count who noticed.

    python tests/stress.py --damage 20

A reader that goes on must do so with the result of an undamaged run, or say what it met; else it
was silent. One that stops must do so with one line; else it was a traceback.
"""

import contextlib
import io
import logging
import random
import shutil
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from safetensors import safe_open

from invdiff.app.api import Run
from invdiff.app.cli import main
from invdiff.engine.run.records import Attributes, FoundAttribute, ValueShare
from invdiff.engine.run.results import Results
from invdiff.engine.run.stages import FILES, STAGES
from invdiff.engine.storage.files import read_json, write_parquet
from invdiff.errors import InvDiffError
from tests.tiny_world import resealed

Outcome = dict[str, object]
Reader = Callable[[Path, Path], Outcome]
TIMES = ("begun", "done", "seconds", "sha256_of_record", "files")
PASSING = ("cache", "checkpoints", "events.jsonl", ".lock", "training-log.jsonl", "previews")


class Told(Exception):
    """A reader has stopped with a line."""


def command(*words: str | Path) -> None:
    """Run the command; Told if it stops."""
    code = main([str(word) for word in words])
    if code:
        raise Told(f"exit code {code}")


def files_of(folder: Path) -> Outcome:
    """What is in a folder but for times, and for what may be made again in other pieces."""
    found: Outcome = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] in PASSING:
            continue
        if name.startswith("stages/") or name == "training.json":
            record = read_json(path)
            found[name] = {key: value for key, value in record.items() if key not in TIMES}
        elif path.suffix == ".safetensors":  # whose header has no order
            with safe_open(path, "np") as file:
                tensors = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
                found[name] = (file.metadata(), tensors)
        else:
            found[name] = path.read_bytes()
    return found


def again(stage: str) -> Reader:
    def read(run: Path, _: Path) -> Outcome:
        command(stage, "--redo", "--out", run)
        return {name: c for name, c in files_of(run).items() if name != "report.html"}  # times

    return read


def go_on(run: Path, _: Path) -> Outcome:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    command("run", "--out", run)
    here = {str(p.relative_to(run)): content for p, content in before.items()}
    return {name: c for name, c in here.items() if name.split("/")[0] not in PASSING}


def one_stage(stage: str) -> Reader:
    def read(run: Path, _: Path) -> Outcome:
        command(stage, "--out", run)
        return {}

    return read


def export(form: str) -> Reader:
    def read(run: Path, out: Path) -> Outcome:
        command("export", run, "--format", form, "--strength", "1", "--out", out)
        return files_of(out)

    return read


def adapter(run: Path, out: Path) -> Outcome:
    command("export", run / "adapter", "--format", "diffusers", "--strength", "1", "--out", out)
    return files_of(out)


def augment(run: Path, out: Path) -> Outcome:
    command("augment", run, "--images-per-prompt", "2", "--out", out)
    return {name: c for name, c in files_of(out).items() if name != "augmentation.json"}


def objects(run: Path, _: Path) -> Outcome:
    opened = Run(run)
    text = repr(opened)
    if "problem:" in text:
        raise Told(text)
    text = text.replace(str(run), "")
    groups, metrics, found = opened.groups, opened.metrics, opened.attributes
    return {
        "repr": text,
        "groups": [groups.sample_ids, groups.memberships.tobytes(), groups.weights.tobytes()],
        "attributes": repr(found) + repr(found.stored()),
        "metrics": repr(metrics) + repr(metrics.record),
        "settings": repr(opened.config),
    }


READERS: dict[str, Reader] = {
    "run": go_on,
    **{stage: one_stage(stage) for stage in STAGES},
    **{f"{stage} --redo": again(stage) for stage in STAGES},
    "export of the adapter": adapter,
    **{f"export {form}": export(form) for form in ("diffusers", "kohya", "merged", "peft")},
    "augment": augment,
    "Run objects": objects,
}


SLOW = {*(f"{stage} --redo" for stage in STAGES), "augment", "export kohya", "export merged",
        "export peft"}  # fmt: skip
"""These do their work where nothing stops them, and take turns with the random flips. The others
see every one, and all see a file that is cut, emptied or removed."""


def with_an_attribute(run: Path) -> Path:
    """The run as if discovery had found an attribute, which it does not in a model of chance."""
    results = Results(run)
    groups, q = results.groups, results.groups.membership
    rows = list(groups.sample_id)
    share = ValueShare(share=0.2, low=0.1, high=0.3)
    one = FoundAttribute(
        id="a-b", verdict="clear", tied=True, chosen=True, explained=0.1, information=0.2,
        alignment=(0.9,), gap=1.5, stability=0.98, p_value=0.001, origin="a direction",
        prompts=dict.fromkeys(groups.prompt, share),
        value_0=rows[:3], value_1=rows[3:6], border=rows[6:9],
    )  # fmt: skip
    results.write(Attributes(attributes=(one,), read_from="loss"))
    columns = {"sample_id": rows, "prompt": list(groups.prompt), "q_a-b": q}
    write_parquet(run / "attributes.parquet", columns)
    resealed(run)
    command("report", run, "--redo")
    return run


def matters(file: str, reader: str) -> bool:
    """Whether ``reader`` can meet ``file``: what is done again first is thrown away."""
    stage, _, again = reader.partition(" ")
    top = file.split("/")[0]
    made_by = next((name for name, tops in FILES.items() if top in tops), None)
    if again != "--redo" or made_by is None:
        return not (top in ("checkpoints", "previews", "tensorboard") and reader in SLOW)
    return STAGES.index(stage) > STAGES.index(made_by)


def ways(content: bytes, chance: random.Random, flips: int) -> Iterator[tuple[str, bytes | None]]:
    """The content with one bit flipped at random places, cut in half, emptied, and none at all."""
    for _ in range(flips if content else 0):
        at, bit = chance.randrange(len(content)), chance.randrange(8)
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        yield f"bit {bit} of byte {at}", bytes(flipped)
    if content:
        yield "cut in half", content[: len(content) // 2]
        yield "emptied", b""
    yield "removed", None


@dataclass
class Sweep:
    """Damage to copies of ``run`` in ``place``, read by ``readers``."""

    run: Path
    place: Path
    readers: dict[str, Reader] = field(default_factory=lambda: dict(READERS))
    flips: int = 20
    seed: int = 0
    counts: Counter = field(default_factory=Counter)
    """How often a reader was silent, a traceback, told and unharmed."""
    wrong: list[str] = field(default_factory=list)
    seconds: Counter = field(default_factory=Counter)
    """What the readers took."""

    @cached_property
    def whole(self) -> dict[str, object]:
        """What each reader makes of the run as it is."""
        found = {name: self.read(name, None, b"") for name in self.readers}
        assert all(how == "went on" for how, _ in found.values()), found
        return {name: outcome for name, (_, outcome) in found.items()}

    @property
    def files(self) -> list[str]:
        """Every file of the run."""
        every = sorted(path for path in self.run.rglob("*") if path.is_file())
        return [path.relative_to(self.run).as_posix() for path in every]

    def go(self, file: str) -> None:
        """Damage one file in every way."""
        chance = random.Random(f"{self.seed} {file}")
        whole = (self.run / file).read_bytes()
        for number, (way, content) in enumerate(ways(whole, chance, self.flips)):
            if content is None and file.startswith("stages/"):
                continue  # the stage is then not done
            for reader in self.readers_of(file, number if way.startswith("bit") else None):
                how, outcome = self.read(reader, file, content)
                if how == "went on":
                    how = "unharmed" if outcome == self.whole[reader] else "silent"
                self.counts[file, reader] += how == "unharmed"
                self.counts[how] += 1
                if how in ("silent", "traceback"):
                    self.wrong.append(f"{how}: {file}, {way}, {reader}: {outcome!r:.300}")

    def readers_of(self, file: str, flip: int | None) -> list[str]:
        """Who reads a file that is damaged; of random flips one of the slow readers in turn."""
        every = [reader for reader in self.readers if matters(file, reader)]
        if flip is None:
            return every
        others = [reader for reader in every if reader in SLOW]
        turn = others[flip % len(others)] if others else ""
        spared = self.counts[file, turn]
        quick = [reader for reader in every if reader not in SLOW]
        return quick if spared or not turn else [*quick, turn]

    def told(self) -> str:
        """The counts so far."""
        kinds = ("silent", "traceback", "told", "unharmed")
        return ", ".join(f"{self.counts[kind]} {kind}" for kind in kinds)

    def read(self, reader: str, file: str | None, content: bytes | None) -> tuple[str, object]:
        """How ``reader`` takes a copy of the run whose ``file`` has another content, or is gone."""
        copy, out = self.place / "run", self.place / "out"
        for folder in (copy, out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.run, copy)
        if file is not None and content is None:
            (copy / file).unlink()
        elif file is not None:
            (copy / file).write_bytes(content)
        said, begun = io.StringIO(), time.monotonic()
        listener = logging.StreamHandler(said)
        logging.getLogger("invdiff").addHandler(listener)
        try:
            with (
                warnings.catch_warnings(record=True) as warned,
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()) as errors,
            ):
                warnings.simplefilter("always")
                outcome = self.readers[reader](copy, out)
        except (Told, InvDiffError) as error:
            return "told", str(error)
        except Exception:
            return "traceback", traceback.format_exc()[-300:]
        finally:
            logging.getLogger("invdiff").removeHandler(listener)
            self.seconds[reader] += time.monotonic() - begun
        lines = errors.getvalue() + said.getvalue() + "".join(str(w.message) for w in warned)
        if file is not None and ("damaged" in lines or "altered" in lines):
            return "told", lines
        return "went on", outcome
