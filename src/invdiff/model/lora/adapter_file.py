"""The file of an adapter: written, read, compared with a network and loaded into it.

At strength 1 it is a LoRA for every tool that reads one. `alpha == rank` always: a file whose alpha
differs is read at another strength wherever the same header is not (kohya, ComfyUI), silently. So
the factor alpha / rank of a file of other origin is multiplied into B on reading, once and for all.

People load a LoRA at weight 1. So once a strength is recommended, B is multiplied by it in the
file, and the header says so ("weight_scale"); whatever reads the file here divides by it again.
InvDiff's strengths are of the adapter as it was trained; weight 1 elsewhere is the recommended one.
"""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from invdiff.errors import ModelError
from invdiff.model.lora import adapter

FILE = LORA_WEIGHT_NAME_SAFE
SETTINGS_KEY = "invdiff"
SCALE_KEY = "weight_scale"
SCALED_KEY = "strength_scales"
"""What the recommended strength is of, "weights" or "prediction" (if it is not there)."""
HASH_KEY = "invdiff_sha256"
"""Of the weights and what the header says of them: who reads the file notices damage."""
COMPONENTS = ("unet", "transformer")
FACTORS = (".lora_A.weight", ".lora_B.weight")


@dataclass(frozen=True)
class LoraFile:
    """The LoRA of one denoiser; its scale is 1 (as trained, from :func:`read`), alpha is the rank.

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

    def prefixed(self, prefix: str = "") -> dict[str, Tensor]:
        """The weights as files name them, with diffusers ``unet.<layer>.lora_A.weight``."""
        return {f"{prefix or self.component}.{k}": tensor for k, tensor in self.weights.items()}

    def at(self, strength: float) -> "LoraFile":
        """The same for stock loaders: B is scaled so that weight 1 is ``strength`` (not at 0)."""
        if strength in (0, 1):
            return self
        up = {k: v for k, v in self.weights.items() if k.endswith(FACTORS[1])}
        scaled = {key: value.float() * strength for key, value in up.items()}
        return replace(
            self,
            weights=self.weights | scaled,
            settings=self.settings | {SCALE_KEY: strength},
        )

    def config(self) -> dict[str, Any]:
        """Rank, alpha and layers as PEFT names them."""
        rank = max(self.ranks.values())
        other = {layer: own for layer, own in self.ranks.items() if own != rank}
        config: dict[str, Any] = {"r": rank, "lora_alpha": rank, "target_modules": self.layers}
        if other:
            config |= {"rank_pattern": other, "alpha_pattern": other}
        return config

    def header(self) -> dict[str, str]:
        """The settings, and rank and alpha for diffusers, which else guesses some ranks wrong."""
        named = {f"{self.component}.{key}": value for key, value in self.config().items()}
        settings = json.dumps(self.settings, sort_keys=True)
        told = {LORA_ADAPTER_METADATA_KEY: json.dumps(named), SETTINGS_KEY: settings}
        return told | {HASH_KEY: _digest(self.prefixed(), told)}


def read(folder: Path) -> LoraFile:
    """The LoRA in ``folder``. Raises ModelError for what is no LoRA of a single denoiser."""
    with opened(folder / FILE) as file:
        header = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    _require_whole(folder, tensors, header)
    found = sorted({key.partition(".")[0] for key in tensors})
    if len(found) != 1 or found[0] not in COMPONENTS:
        raise ModelError(
            f"{folder / FILE} holds {', '.join(found) or 'nothing'}; export takes a LoRA of one "
            "unet or one transformer in diffusers format, as `invdiff train` and save_lora_weights "
            "write it"
        )
    peft = _told(folder, header, LORA_ADAPTER_METADATA_KEY)
    weights, own = (
        {key.removeprefix(f"{found[0]}."): value for key, value in some.items()}
        for some in (tensors, peft)
    )
    _require_plain(weights, own, folder)
    settings = _told(folder, header, SETTINGS_KEY)
    return LoraFile(found[0], _folded(weights, own, settings.pop(SCALE_KEY, 1.0)), settings)


def _told(folder: Path, header: Mapping[str, str], key: str) -> dict[str, Any]:
    """An entry of a header that is JSON; ModelError for what is none."""
    try:
        return dict(json.loads(header.get(key, "{}")))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{folder / FILE} is damaged: {key!r} in its header, {error}") from None


def _digest(weights: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    found = hashlib.sha256()
    for key in (LORA_ADAPTER_METADATA_KEY, SETTINGS_KEY):
        found.update(header.get(key, "").encode())
    for name, tensor in sorted(weights.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _require_whole(folder: Path, weights: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """ModelError if the file is another than was written; those of other origin have no hash."""
    if (known := header.get(HASH_KEY)) and known != _digest(weights, header):
        raise ModelError(
            f"{folder / FILE} is damaged: its hash is another than when it was written; put it "
            "back from a copy, or make it again with `invdiff train RUN --redo` or `export`"
        )


def _require_plain(weights: Mapping[str, Tensor], peft: Mapping[str, Any], folder: Path) -> None:
    if peft.get("use_dora"):
        raise ModelError(f"{folder / FILE} is a DoRA; only a plain LoRA can be used")
    paired = {key.removesuffix(end) for end in FACTORS for key in weights if key.endswith(end)}
    if strange := sorted({layer + end for layer in paired for end in FACTORS} ^ set(weights)):
        raise ModelError(
            f"{folder / FILE} is no plain LoRA: {strange[0]} has no place in pairs of lora_A and "
            "lora_B; save it with save_lora_weights"
        )
    if broken := [key for key, tensor in weights.items() if not tensor.float().isfinite().all()]:
        raise ModelError(
            f"{folder / FILE} holds values that are no numbers in {len(broken)} of {len(weights)} "
            f"tensors, first {broken[0]}: it would draw black pictures; take an earlier checkpoint"
        )


def _folded(
    weights: Mapping[str, Tensor], peft: Mapping[str, Any], scaled: float
) -> dict[str, Tensor]:
    """B as it was trained, times alpha / rank (/ sqrt(rank) for rank-stabilised LoRA), float32."""
    folded, patterns = dict(weights), peft.get("alpha_pattern") or {}
    for key, tensor in weights.items():
        layer = key.removesuffix(FACTORS[1])
        if layer == key:
            continue
        rank = len(weights[layer + FACTORS[0]])
        alpha = patterns.get(get_pattern_key(patterns, layer), peft.get("lora_alpha", rank))
        scale = alpha / (math.sqrt(rank) if peft.get("use_rslora") else rank)
        if scale != scaled:
            folded[key] = tensor.float() * scale / scaled
    return folded


def save(module: nn.Module, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write `<folder>/pytorch_lora_weights.safetensors` for the stock `pipe.load_lora_weights`.

    `settings` (JSON) goes to the header under "invdiff"; its `recommended_strength` is what
    `attach` uses when no strength is given. The LoRA's own metadata holds only rank, alpha and
    layer names: PEFT's full config would be refused by every PEFT that doesn't know its newest
    field. The file appears complete or not at all. Returns its path.
    """
    lora = LoraFile(adapter.component(module), adapter.state(module), dict(settings))
    return _write(lora, folder)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in an adapter's header; {} for a LoRA that InvDiff did not write."""
    with opened(folder / FILE) as file:
        return _told(folder, file.metadata() or {}, SETTINGS_KEY)


def write_settings(folder: Path, **settings: Any) -> None:
    """Add settings to the header of a saved adapter; weight 1 becomes its recommended strength."""
    lora = read(Path(folder))
    lora = replace(lora, settings=lora.settings | settings)
    _write(lora.at(lora.settings.get("recommended_strength", 1.0)), Path(folder))


def _write(lora: LoraFile, folder: Path) -> Path:
    """The file beside, then in its place; not by `save_file`, which gives it mode 0600."""
    folder.mkdir(parents=True, exist_ok=True)
    path, beside = folder / str(FILE), folder / f".adapter-{os.getpid()}"
    try:
        beside.write_bytes(to_bytes(lora.prefixed(), {"format": "pt"} | lora.header()))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def load(module: nn.Module, folder: Path, pipeline: object = None) -> None:
    """Load a saved adapter beside whatever LoRA the network has, and switch it on.

    The file is compared with the network first: a layer of another name or shape, or half of one,
    is a ModelError, where the stock loader warns and goes on. `pipeline` lets the loader re-apply
    CPU offloading.
    """
    adapter.require_free(module)
    prefix = adapter.component(module)
    with opened(folder / FILE) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = file.metadata() or {}
    _require_whole(folder, tensors, header)
    if tensors and not any(key.startswith(f"{prefix}.") for key in tensors):
        raise ModelError(
            f"the adapter in {folder} was made for another network: none of its {len(tensors)} "
            f"tensors begins with {prefix!r}, as {next(iter(tensors))} should; use the base model "
            "it was trained on, or save it with save_lora_weights"
        )
    own = {key.removeprefix(f"{prefix}."): tensor for key, tensor in tensors.items()}
    peft = _told(folder, header, LORA_ADAPTER_METADATA_KEY)
    _require_plain(own, {key.removeprefix(f"{prefix}."): peft[key] for key in peft}, folder)
    require_fit(module, {key: tuple(tensor.shape) for key, tensor in own.items()}, folder)
    others = {
        name: list(layer.active_adapters)
        for name, layer in module.named_modules()
        if isinstance(layer, LoraLayer) and not layer.disable_adapters
    }
    with warnings.catch_warnings():  # a second LoRA is what was asked for
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        adapter.with_methods(module).load_lora_adapter(
            str(folder),
            weight_name=FILE,
            prefix=prefix,
            adapter_name=adapter.NAME,
            _pipeline=pipeline,
        )
    for name, layer in adapter.adapted_layers(module).items():  # loading has switched others off
        layer.set_adapter([*others.get(name, ()), adapter.NAME])
    # PEFT has rounded the adapter to its layer's storage type. Layerwise casting to 8 bits covers
    # the layer, not the adapter that came later: nothing would lift it for use.
    scale = read_settings(folder).get(SCALE_KEY, 1.0)
    with opened(folder / FILE) as file:
        for name, weight in adapter.named_parameters(module):
            rounded, scaled = weight.element_size() == 1, name.endswith(FACTORS[1])
            if rounded or (scaled and scale != 1):
                exact = file.get_tensor(f"{prefix}.{name}").to(weight.device, torch.float32)
                exact = exact / scale if scaled else exact
                weight.data = exact if rounded else exact.to(weight.dtype)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, its header read and its tensors not. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path.parent} holds no {path.name}; give the adapter folder of a run")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error})") from error


def require_fit(module: nn.Module, shapes: Mapping[str, Sequence[int]], folder: Path) -> None:
    """Every LoRA tensor belongs to a layer of the network and fits its weight, or ModelError.

    `shapes` by key without the pipeline's prefix: `<layer>.lora_A.weight`. The stock loader only
    warns about a key it doesn't know, and the picture is then simply not guided.
    """
    layers = dict(module.named_modules())
    wrong = []
    for key, shape in shapes.items():
        name, _, factor = key.removesuffix(".weight").rpartition(".lora_")
        layer = layers.get(name)
        weight = getattr(getattr(layer, "base_layer", layer), "weight", None)
        if weight is None:
            wrong.append(f"{key} (no such layer)")
        # The weight is (outputs, inputs, *kernel), A (rank, inputs, *kernel), B (outputs, rank, 1).
        elif (shape[1:] != weight.shape[1:]) if factor == "A" else (shape[0] != weight.shape[0]):
            wrong.append(f"{key} ({list(shape)} for a weight of {list(weight.shape)})")
    if wrong or not shapes:
        shown = ", ".join(wrong[:3]) or "the file is empty"
        raise ModelError(
            f"the adapter in {folder} was made for another network: {len(wrong)} of {len(shapes)} "
            f"tensors do not fit {type(module).__name__}: {shown}; use the base model it was "
            "trained on"
        )
