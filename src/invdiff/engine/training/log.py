"""What training tells while it works: one JSON line a step, and the same to trackers by name."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from invdiff.engine.storage.files import plain, write_text
from invdiff.errors import MissingExtra

FILE = "training-log.jsonl"


class Tracker(Protocol):
    """Something that takes the numbers of a step."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take in the numbers of one step."""

    def close(self) -> None:
        """Nothing more comes."""


class Log:
    """All places that the log goes to.

    Lines from ``start`` on are of a session that was interrupted after its last checkpoint: those
    steps are done again, and so are their lines.

    Raises:
        MissingExtra: a tracker is not installed.
    """

    def __init__(self, run: Path, trackers: Sequence[str], start: int) -> None:
        self._open = ExitStack()
        self._places: list[Tracker] = [Lines(run / FILE, start)]
        self._places += [TRACKERS[name](run, start) for name in trackers]
        for place in self._places:
            self._open.callback(place.close)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Tell numbers of one step."""
        for place in self._places:
            place.write(step, numbers)

    def close(self) -> None:
        """Close all places."""
        self._open.close()


class Lines:
    """A file with one JSON object a step."""

    def __init__(self, path: Path, start: int) -> None:
        write_text(path, "".join(f"{line}\n" for line in _before(path, start)))
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """One line."""
        self._file.write(json.dumps(plain({"step": step, **numbers})) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _before(path: Path, start: int) -> list[str]:
    """The whole lines of the steps before ``start``."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = []
    for line in lines:
        try:
            if json.loads(line)["step"] < start:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            continue
    return kept


class _TensorBoard:
    def __init__(self, run: Path, start: int) -> None:
        kind = _needed("torch.utils.tensorboard", "tensorboard").SummaryWriter
        # purge_step: what an interrupted session told of later steps is not shown
        self._writer = kind(str(run / "tensorboard"), purge_step=start or None)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """One run of Weights & Biases for one run folder; WANDB_MODE says whether it is uploaded."""

    def __init__(self, run: Path, start: int) -> None:
        wandb = _needed("wandb", "wandb")
        name = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "invdiff"),
            id=name,
            name=run.name,
            dir=str(run),
            resume="allow",
            settings=wandb.Settings(silent=True),
        )

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({f"train/{name}": value for name, value in numbers.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[Path, int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
}


def _needed(module: str, library: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(library, "trackers") from None
