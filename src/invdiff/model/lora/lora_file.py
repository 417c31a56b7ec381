"""A LoRA file in diffusers format, read so that its alpha is its rank.

A file whose alpha differs from its rank is read at another strength by every tool that does not
read the same header (kohya's converters write alpha = rank, ComfyUI reads no PEFT metadata), and
nobody is told. So the factor alpha / rank is multiplied into B on reading, once and for all.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft.utils.other import get_pattern_key
from torch import Tensor

from invdiff.errors import ModelError
from invdiff.model.lora.adapter_file import FILE, SETTINGS_KEY
from invdiff.model.lora.loading import opened

COMPONENTS = ("unet", "transformer")
FACTORS = (".lora_A.weight", ".lora_B.weight")


@dataclass(frozen=True)
class LoraFile:
    """The LoRA of one denoiser; its scale is 1, alpha is the rank.

    ``component`` is "unet" or "transformer"; ``weights`` has ``<layer>.lora_A.weight`` (rank,
    inputs, *kernel) and ``<layer>.lora_B.weight`` (outputs, rank, 1...), ``settings`` is what
    InvDiff wrote into the header, empty for a LoRA of other origin.
    """

    component: str
    weights: dict[str, Tensor]
    settings: dict[str, Any]

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the file's order."""
        ending = FACTORS[0]
        return [key.removesuffix(ending) for key in self.weights if key.endswith(ending)]

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each layer."""
        return {layer: len(self.weights[layer + FACTORS[0]]) for layer in self.layers}

    def prefixed(self) -> dict[str, Tensor]:
        """The weights as the file names them, ``unet.<layer>.lora_A.weight``."""
        return {f"{self.component}.{key}": tensor for key, tensor in self.weights.items()}

    def header(self) -> dict[str, str]:
        """What diffusers reads back as rank and alpha; without it some ranks are guessed wrong."""
        rank = max(self.ranks.values())
        other = {layer: own for layer, own in self.ranks.items() if own != rank}
        config: dict[str, Any] = {"r": rank, "lora_alpha": rank, "target_modules": self.layers}
        if other:
            config |= {"rank_pattern": other, "alpha_pattern": other}
        named = {f"{self.component}.{key}": value for key, value in config.items()}
        return {LORA_ADAPTER_METADATA_KEY: json.dumps(named)}


def read(folder: Path) -> LoraFile:
    """The LoRA in ``folder``. Raises ModelError for what is no LoRA of a single denoiser."""
    with opened(folder / FILE) as file:
        header = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    component = _component(tensors, folder)
    weights = {key.removeprefix(f"{component}."): tensor for key, tensor in tensors.items()}
    peft = json.loads(header.get(LORA_ADAPTER_METADATA_KEY, "{}"))
    own = {key.removeprefix(f"{component}."): value for key, value in peft.items()}
    _require_plain(weights, own, folder)
    settings = json.loads(header.get(SETTINGS_KEY, "{}"))
    return LoraFile(component, _folded(weights, own), settings)


def _component(tensors: Mapping[str, Tensor], folder: Path) -> str:
    found = {key.partition(".")[0] for key in tensors}
    if len(found) != 1 or not found <= set(COMPONENTS):
        names = ", ".join(sorted(found)) or "nothing"
        raise ModelError(
            f"{folder / FILE} holds {names}; export takes a LoRA of one unet or one transformer in "
            "diffusers format, as `invdiff train` and save_lora_weights write it"
        )
    return found.pop()


def _require_plain(weights: Mapping[str, Tensor], peft: Mapping[str, Any], folder: Path) -> None:
    paired = {key[: -len(end)] for key in weights for end in FACTORS if key.endswith(end)}
    expected = {layer + end for layer in paired for end in FACTORS}
    if strange := sorted(expected ^ set(weights)):
        raise ModelError(
            f"{folder / FILE} is no plain LoRA: {strange[0]} has no place in pairs of lora_A and "
            "lora_B; save it with save_lora_weights"
        )
    if peft.get("use_dora"):
        raise ModelError(f"{folder / FILE} is a DoRA; only a plain LoRA can be exported")


def _folded(weights: Mapping[str, Tensor], peft: Mapping[str, Any]) -> dict[str, Tensor]:
    """B times alpha / rank (alpha / sqrt(rank) for rank-stabilised LoRA), in float32."""
    folded = dict(weights)
    for key, tensor in weights.items():
        layer = key.removesuffix(FACTORS[1])
        if layer == key:
            continue
        rank = len(weights[layer + FACTORS[0]])
        patterns = peft.get("alpha_pattern") or {}
        alpha = patterns.get(get_pattern_key(patterns, layer), peft.get("lora_alpha", rank))
        scale = alpha / (math.sqrt(rank) if peft.get("use_rslora") else rank)
        if scale != 1:
            folded[key] = (tensor.float() * scale).to(tensor.dtype)
    return folded
