"""Weights that figures are made with: known files, fetched when asked for and checked every time.

Nothing downloads by itself. Each file has the SHA-256 that is published for it, or, where none is,
the one that was recorded when it was first fetched (``recorded.json``): a later fetch and every
`invdiff weights verify` compare with it.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from invdiff.engine.storage.files import read_json, write_json
from invdiff.errors import ConfigError, ModelError
from invdiff.model.vision.extractors.common import file_hash
from invdiff.model.vision.extractors.networks import (
    INCEPTION_FILE,
    INCEPTION_SHA256,
    VGG16_FILE,
    VGG16_SHA256,
)
from invdiff.terminal import Bar

PLACE = "INVDIFF_WEIGHTS"
RECORDED = "recorded.json"
HUB = "https://huggingface.co"
PATIENCE = 60  # seconds without a byte
TORCH_FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"


@dataclass(frozen=True)
class WeightSet:
    """One set of weights: its files with where they are and their hash ("": recorded)."""

    files: tuple[tuple[str, str, str], ...]
    use: str
    licence: str


def _of_hub(
    name: str, repository: str, revision: str, files: tuple[str, ...]
) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (f"{name}/{file}", f"{HUB}/{repository}/resolve/{revision}/{file}", "") for file in files
    )


_TEXT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_VISION = ("config.json", "preprocessor_config.json", "model.safetensors")
WEIGHTS = {
    "inception": WeightSet(
        ((INCEPTION_FILE, f"{TORCH_FIDELITY}/{INCEPTION_FILE}", INCEPTION_SHA256),),
        "FID and KID as published: --extractor inception, and torch-fidelity",
        "Apache-2.0",
    ),
    "vgg16": WeightSet(
        ((VGG16_FILE, f"https://download.pytorch.org/models/{VGG16_FILE}", VGG16_SHA256),),
        "precision and recall of --protocol official",
        "BSD-3-Clause",
    ),
    "dinov2-base": WeightSet(
        _of_hub(
            "dinov2-base", "facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
            _VISION,
        ),
        "distances on DINOv2: --extractor dinov2-base",
        "Apache-2.0",
    ),
    "clip-vit-base-patch16": WeightSet(
        _of_hub(
            "clip-vit-base-patch16", "openai/clip-vit-base-patch16", "main", _VISION + _TEXT
        ),
        "CLIP-T: --clip clip-vit-base-patch16",
        "MIT",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class FileState:
    """How a file stands: ``missing``, ``good``, ``altered`` or ``unknown`` (never recorded)."""

    name: str
    path: Path
    state: str
    sha256: str


def folder() -> Path:
    """Where weights are: $INVDIFF_WEIGHTS, else in the user's cache."""
    named = os.environ.get(PLACE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache) / "invdiff" / "weights"


def fetch(name: str, place: Path, mirror: str = "") -> list[Path]:
    """Get the files of ``name`` that are not there yet; the paths of all.

    ``mirror`` is a folder, or an address, that holds the files under the same names.

    Raises:
        ConfigError: an unknown name.
        ModelError: a file that cannot be had, or one with another hash; nothing
            of it is kept.
    """
    files = known_weights(name).files
    for (file, address, pinned), state in zip(files, verify(name, place), strict=True):
        if state.state == "good":
            continue
        recorded = _recorded(place)
        source = f"{mirror.rstrip('/')}/{file}" if mirror else address
        found = _get(source, state.path, pinned or recorded.get(file, ""))
        if not pinned:
            write_json(place / RECORDED, recorded | {file: found})
    return [place / file for file, _, _ in files]


def verify(name: str, place: Path) -> Iterator[FileState]:
    """Each file of ``name`` hashed anew."""
    for file, _, pinned in known_weights(name).files:
        path = place / file
        wanted = pinned or _recorded(place).get(file, "")
        found = file_hash(path) if path.is_file() else ""
        known = "unknown" if not wanted else "good" if found == wanted else "altered"
        yield FileState(file, path, known if found else "missing", found)


def known_weights(name: str) -> WeightSet:
    """The entry of a name. ConfigError for an unknown one."""
    if name not in WEIGHTS:
        raise ConfigError(f"{name!r} are no known weights: take {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _recorded(place: Path) -> dict[str, str]:
    path = place / RECORDED
    return dict(read_json(path)) if path.is_file() else {}


def _get(source: str, path: Path, wanted: str) -> str:
    """Copy or download a file; its hash, which must be ``wanted`` unless that is ""."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    address = source if "://" in source else Path(source).absolute().as_uri()
    part = path.with_name(f".{path.name}.partial")  # one name: what a killed fetch left is replaced
    try:
        found = _download(address, part)
        if wanted and found != wanted:
            raise ModelError(
                f"{source} is not the known file (its SHA-256 is {found}, not {wanted}): it was "
                "not kept"
            )
        os.replace(part, path)
    except (OSError, ValueError, HTTPException) as problem:
        reason = getattr(problem, "reason", None) or str(problem).strip() or type(problem).__name__
        raise ModelError(
            f"{source} cannot be had ({reason}): bring the file from elsewhere and give its folder "
            "as --mirror"
        ) from problem
    finally:
        part.unlink(missing_ok=True)
    return found


def _download(address: str, part: Path) -> str:
    """The SHA-256 of what came; OSError if that was not all."""
    digest, came = hashlib.sha256(), 0
    with urlopen(address, timeout=PATIENCE) as source, part.open("wb") as out:
        total = int(source.headers.get("Content-Length") or 0)
        with Bar(desc=part.name[1:-8], total=total or None, unit="B", unit_scale=True) as bar:
            while block := source.read(1 << 20):
                digest.update(block)
                came += out.write(block)
                bar.update(len(block))
    if came < total:
        raise OSError(f"{came:,} of {total:,} bytes came")
    return digest.hexdigest()
