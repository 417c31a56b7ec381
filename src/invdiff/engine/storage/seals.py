"""What a run says of its own files, so that damage is told and never becomes another result.

The record of a stage holds the SHA-256 of every file that the stage has left. A record carries the
hash of its own values, the settings that of their text. A run of an earlier version has none and
stays without.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from invdiff.engine.storage.files import canonical, plain, read_json, write_json, write_text
from invdiff.errors import RunError

SEAL = "sha256_of_record"
SETTINGS, ENVIRONMENT = "config.toml", "environment.json"
COPY = "put it back from a copy, or begin again in another --out"
UNSEALED = ("cache", "checkpoints", "tensorboard", "wandb")
"""What has checksums of its own and is made again, and what belongs to other programs."""
SPARE = ("previews", "training-log.jsonl", "strength-curve")
"""What nothing is made from: it may be missing."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seals:
    """The hashes in the run folder ``run``."""

    run: Path

    def write_settings(self, text: str) -> None:
        """Write ``config.toml`` with the hash of its text in the last line."""
        seal = f"# {SEAL} = {hashlib.sha256(text.encode()).hexdigest()}\n"
        write_text(self.run / SETTINGS, text + seal if self._any() else text)

    def require_settings(self) -> None:
        """RunError if ``config.toml`` is not what was written."""
        path = self.run / SETTINGS
        text, mark, seal = path.read_bytes().rpartition(f"# {SEAL} = ".encode())
        if mark and seal.strip() == hashlib.sha256(text).hexdigest().encode():
            return
        if mark or self._any():
            raise RunError(
                f"{path} is not what was written (damaged, or changed by hand; options change "
                f"settings, as in --train.steps 900): {COPY}"
            )

    def write(self, name: str, values: Mapping[str, Any], new: bool = False) -> None:
        """Write a record as JSON with the hash of its values; the first one makes the run new."""
        held = plain(values)
        write_json(self.run / name, held | {SEAL: _digest(held)} if new or self._any() else held)

    def read(self, name: str, repair: str = COPY) -> dict[str, Any]:
        """The values of a record; RunError with the way to ``repair`` it if they are others."""
        values: Any = None
        try:
            values = read_json(self.run / name)
            seal = values.pop(SEAL, None)
            # Without a seal it is of an earlier version, unless it or the run shows that it is not.
            early = name != ENVIRONMENT and "files" not in values
            if seal == _digest(values) or (seal is None and (early or not self._any())):
                return dict(values)
        except (RunError, AttributeError):  # not JSON, or no JSON object
            if not (self.run / name).exists():
                raise
        raise RunError(f"{self.run / name} is damaged: {repair}") from None

    def _any(self) -> bool:
        """Whether a version made the run that seals what it writes."""
        paths = (self.run / SETTINGS, self.run / ENVIRONMENT, *self.run.glob("stages/*.json"))
        return any(SEAL.encode() in path.read_bytes() for path in paths if path.is_file())

    def of(self, names: Iterable[str]) -> dict[str, str]:
        """Each file of ``names`` and below, such as ``samples/a-hat/000-base-1.png``, hashed."""
        tops = [self.run / name for name in names if name not in UNSEALED]
        paths = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
        return {
            path.relative_to(self.run).as_posix(): str(_hashed(path))
            for path in sorted(paths)
            # hidden is what a killed process left, metadata.* what a user adds to pictures
            if path.is_file() and path.name[0] != "." and path.stem != "metadata"
        }

    def verify(self, stages: Iterable[str], only: str | None = None) -> None:
        """RunError if a file that one of the finished ``stages`` left, or the one, is another."""
        if (self.run / ENVIRONMENT).exists():
            self.read(ENVIRONMENT)
        for stage in stages:
            if not (self.run / f"stages/{stage}.json").is_file():
                continue
            files = self.record(stage).get("files")
            if files is None:
                _say_unsealed(self.run)
                continue
            wanted = files if only is None else {only} & files.keys()
            wrong = [file for file in wanted if _hashed(self.run / file) != files[file]]
            spare = [file for file in wrong if file.split("/")[0] in SPARE]
            wrong = [file for file in wrong if file not in spare or (self.run / file).exists()]
            if wrong:
                more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
                raise RunError(
                    f"damaged or missing in {self.run}: {', '.join(wrong[:3])}{more} (of {stage}): "
                    + (
                        "delete them, nothing is made from them"
                        if spare == wrong
                        else _again(self.run, stage)
                    )
                )

    def record(self, stage: str) -> dict[str, Any]:
        """What ``stages/<stage>.json`` of a finished stage holds. RunError if it is damaged."""
        return self.read(f"stages/{stage}.json", _again(self.run, stage))


def _again(run: Path, stage: str) -> str:
    """How to repair what a stage has left."""
    place = f"--out {run}" if stage == "discover" else run
    return f"`invdiff {stage} {place} --redo` makes it again"


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def _hashed(path: Path) -> str | None:
    """SHA-256 of a file, computed once a process unless the file changes; None without a file."""
    if not path.is_file():
        return None
    state = path.stat()
    return _hash_of(path, state.st_mtime_ns, state.st_size)


@cache
def _hash_of(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _say_unsealed(run: Path) -> None:
    logger.warning("%s was made before files had hashes: damage to them would go unseen", run)
