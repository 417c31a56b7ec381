"""Loading a checkpoint in one file, offline: diffusers renames the weights.

It takes the configurations from :mod:`invdiff.model.sizing.single_file`; the words of CLIP, which
such files lack, come along in ``assets/clip``.
"""

import json
import lzma
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from invdiff.model.sizing import shapes
from invdiff.model.sizing.description import INDEX, Description
from invdiff.model.sizing.single_file import describe_file

SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def load_file(path: Path, dtype: str, absent: Collection[str]) -> Any:
    """The stock pipeline; networks named in ``absent`` are on the meta device."""
    import diffusers

    base = describe_file(path)
    ready: dict[str, Any] = {
        name: shapes.build(part) for name, part in base.parts.items() if name in absent
    }
    for which in ("", "_2"):
        if f"text_encoder{which}" in base.parts:
            ready[f"tokenizer{which}"] = clip_words("!" if which else SPECIAL[1])
    with TemporaryDirectory() as folder:
        _write_configs(base, Path(folder), ready)
        kind = getattr(diffusers, base.pipeline)
        options = {"config": folder, "local_files_only": True, "dtype": getattr(torch, dtype)}
        return kind.from_single_file(str(path), **options, **ready)


def clip_words(padding: str) -> CLIPTokenizer:
    """CLIP's tokenizer; bytes, the same at a word's end, then what is joined, are its tokens."""
    packed = files("invdiff").joinpath("assets", "clip", "merges.txt.xz").read_bytes()
    merges = [tuple(line.split()) for line in lzma.decompress(packed).decode().splitlines()]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{one}</w>" for one in letters), *map("".join, merges), *SPECIAL]
    vocabulary = {word: row for row, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token=padding)


def _write_configs(base: Description, folder: Path, ready: Mapping[str, Any]) -> None:
    """A pipeline's folder without weights, for diffusers to read."""
    index: dict[str, Any] = {"_class_name": base.pipeline}
    if base.pipeline == "StableDiffusionPipeline":
        index |= {"requires_safety_checker": False}
    for name, part in base.parts.items():
        index[name] = [part.library, part.kind]
        (folder / name).mkdir()
        scheduler = name == "scheduler"
        file = "scheduler_config.json" if scheduler else "config.json"
        config = {"_class_name": part.kind, **part.config}
        (folder / name / file).write_text(json.dumps(config), encoding="utf-8")
    index |= {name: ["transformers", "CLIPTokenizer"] for name in ready if "tokenizer" in name}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
