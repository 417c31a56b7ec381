"""Conditions of prompts, each encoded once and kept on the CPU, in memory or on the disk.

On the disk they are safetensors files of up to a batch of prompts. Discovery, training and sampling
of a run share them, and so do its worker processes. A file says in its header which model its
conditions are of and which rows they are; one that says anything else, or that was altered, is not
read.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import safe_open

from invdiff.engine.storage.hashed_tensors import read_about, read_hashed, write_hashed
from invdiff.model.denoiser import Condition, Denoiser

BATCH = 64


class InMemory:
    """For models that have no name by which a later process could find its conditions again."""

    def __init__(self) -> None:
        self._known: dict[str, Condition] = {}

    def missing(self, prompts: Sequence[str]) -> list[str]:
        """Those that have to be encoded, each once, in their order."""
        return [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]

    def get(self, prompts: Sequence[str]) -> Condition:
        """The conditions of prompts that are all there."""
        return Condition.cat([self._known[prompt] for prompt in prompts])

    def put(self, prompts: Sequence[str], condition: Condition) -> None:
        """Keep the conditions of these prompts."""
        self._known |= {prompt: condition[[row]] for row, prompt in enumerate(prompts)}

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Condition:
        """The conditions of prompts that are all there, on ``device``."""
        return self.get(prompts).to(device)


class OnDisk:
    """Conditions in ``folder``, of the text encoders that ``key`` names."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._place: dict[str, tuple[Path, int]] = {}
        self._seen: dict[Path, object] = {}

    def missing(self, prompts: Sequence[str]) -> list[str]:
        """Those that have to be encoded; another process may have done some by now."""
        wanted = list(dict.fromkeys(prompts))
        self._forget({self._place[one][0] for one in map(_digits, wanted) if one in self._place})
        if any(_digits(prompt) not in self._place for prompt in wanted):
            self._look()
        return [prompt for prompt in wanted if _digits(prompt) not in self._place]

    def get(self, prompts: Sequence[str]) -> Condition:
        """The conditions of prompts that are all there; each is read once."""
        by_file: dict[Path, list[tuple[str, int]]] = defaultdict(list)
        for prompt in dict.fromkeys(prompts):
            path, row = self._place[_digits(prompt)]
            by_file[path].append((prompt, row))
        found: dict[str, Condition] = {}
        for path, rows in by_file.items():
            with safe_open(path, "pt") as file:
                parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                for prompt, row in rows:
                    tensors = {name: part[row : row + 1] for name, part in parts.items()}
                    found[prompt] = Condition(tensors)
        return Condition.cat([found[prompt] for prompt in prompts])

    def put(self, prompts: Sequence[str], condition: Condition) -> None:
        """Write the conditions of these prompts as one file."""
        names = [_digits(prompt) for prompt in prompts]
        path = self._folder / f"prompts-{_digits(' '.join(names))}.safetensors"
        tensors = {name: tensor.clone().contiguous() for name, tensor in condition.tensors.items()}
        write_hashed(path, tensors, self._about(names))
        self._note(path, names, _state(path))

    def _look(self) -> None:
        """Note files that came since the last look, after checking them."""
        for path in sorted(self._folder.glob("prompts-*.safetensors")):
            if path in self._seen:
                continue
            state = _state(path)
            names = (read_about(path) or {}).get("prompts", [])
            if read_hashed(path, self._about(names)) is not None:
                self._note(path, names, state)

    def _forget(self, files: set[Path]) -> None:
        """Those that are gone by now, or no longer what was checked."""
        if gone := {path for path in files if _state(path) != self._seen[path]}:
            self._seen = {path: at for path, at in self._seen.items() if path not in gone}
            self._place = {name: at for name, at in self._place.items() if at[0] not in gone}

    def _note(self, path: Path, names: Sequence[str], state: object) -> None:
        self._seen[path] = state
        self._place |= {name: (path, row) for row, name in enumerate(names)}

    def _about(self, names: Sequence[str]) -> dict[str, object]:
        return {"text encoders": self._key, "prompts": list(names)}


def _state(path: Path) -> tuple[int, ...]:
    """Changes with the file; () without one."""
    with suppress(FileNotFoundError):
        now = path.stat()
        return now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino
    return ()


Store = InMemory | OnDisk


def encode_known(denoiser: Denoiser, prompts: Sequence[str]) -> InMemory:
    """Encode the distinct ones of ``prompts``, and the null prompt alone.

    In batches, because free captions are many and the encoders of some families are large.
    """
    names, known = sorted(set(prompts) - {""}), InMemory()
    for batch in [*(names[at : at + BATCH] for at in range(0, len(names), BATCH)), [""]]:
        known.put(batch, denoiser.encode_prompts(batch).to("cpu"))
    return known


def _digits(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:32]
