"""What an adapted layer computes, told in two other ways: in fewer passes, or in its weights."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import ModelError
from invdiff.model.denoiser import denoiser_module
from invdiff.model.lora.adapter import NAME, adapted_layers
from invdiff.model.lora.adapter_file import FACTORS, LoraFile, require_fit
from invdiff.model.sizing.description import INDEX

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
VARIANT = re.compile(r"\.(fp16|bf16|fp32)(?=\.)")


@contextmanager
def fused_branches(module: nn.Module) -> Iterator[None]:
    """The network with its adapted layers computed in fewer passes over memory, then as it was.

    PEFT adds B(A(x)) times a scale to a layer's output as a product, a scaling and a sum, each of
    which reads and writes the whole output, forwards and backwards. The scale is 1 here (alpha is
    the rank), and then product and sum are one operation of the linear algebra library. Results
    differ from PEFT's by rounding. A layer is left to PEFT while its adapter is off or not the only
    one, and if layer and adapter differ in precision.
    """
    with ExitStack() as after:
        for layer in adapted_layers(module).values():
            usual: Callable[..., Tensor] = layer.forward
            layer.forward = partial(_forward, layer, usual)
            after.callback(delattr, layer, "forward")
        yield


def _forward(layer: Any, usual: Callable[..., Tensor], x: Tensor) -> Tensor:
    down, up = layer.lora_A[NAME], layer.lora_B[NAME].weight
    plain = x.dtype == up.dtype == layer.base_layer.weight.dtype
    alone = layer.active_adapters == [NAME] and layer.scaling[NAME] == 1
    if layer.disable_adapters or layer.merged or not (alone and plain):
        return usual(x)
    base: Tensor = layer.base_layer(x)
    if up.dim() == 2:
        hidden = down(x).flatten(0, -2)
        return torch.addmm(base.flatten(0, -2), hidden, up.t()).view_as(base)
    each = up.flatten(1).expand(len(x), -1, -1)
    return torch.baddbmm(base.flatten(2), each, down(x).flatten(2)).view_as(base)


def save_merged(
    pipe: Any, lora: LoraFile, strength: float, folder: Path, place: Path | None = None
) -> None:
    """Write the whole pipeline with the LoRA in its weights; ``pipe`` is left as it was.

    All but the denoiser's weights are copied byte for byte from ``place``, the folder that ``pipe``
    was loaded from: libraries of today save tokenizers that those of yesterday can't open. What is
    there in a variant alone (``model.fp16.safetensors``) gets the plain name. Without a ``place``
    all is saved as it is in memory, but for tokenizers that tell where they are from.
    """
    module = denoiser_module(pipe)
    with merged(module, lora, strength):
        if place is None:
            pipe.save_pretrained(folder, safe_serialization=True)
            for name, part in pipe.components.items():
                origin = str(getattr(part, "name_or_path", ""))
                if origin and hasattr(part, "get_vocab"):  # none is not the current folder
                    for own in {*part.vocab_files_names.values(), *TOKENIZER}:
                        if (Path(origin) / own).is_file():
                            shutil.copyfile(Path(origin) / own, folder / name / own)
            return
        getattr(pipe, lora.component).save_pretrained(folder / lora.component)
    index = json.loads((place / INDEX).read_text(encoding="utf-8"))
    parts = [name for name, kind in index.items() if isinstance(kind, list) and kind[0]]
    copied = [place / INDEX, place / lora.component / "config.json"]
    copied += [one for name in parts if name != lora.component for one in (place / name).rglob("*")]
    for file in filter(Path.is_file, copied):
        to = folder / file.relative_to(place)
        plain = VARIANT.sub("", to.name)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to if file.with_name(plain).exists() else to.with_name(plain))


@contextmanager
def merged(module: nn.Module, lora: LoraFile, strength: float) -> Iterator[None]:
    """The network with W + strength B A for W, then as it was, bit for bit.

    The result is the guidance at strength 1 exactly. At another strength s it is the LoRA at weight
    s, which only approximates s times the guidance (see :mod:`invdiff.core.diffusion.guidance`).
    """
    shapes = {key: tensor.shape for key, tensor in lora.weights.items()}
    require_fit(module, shapes, Path("the file"))
    layers = {name: module.get_submodule(name) for name in lora.layers}
    if wrapped := [name for name, layer in layers.items() if hasattr(layer, "base_layer")]:
        raise ModelError(
            f"the network carries a LoRA already ({wrapped[0]}); call pipe.unload_lora_weights() "
            "or detach first"
        )
    before: dict[str, Tensor] = {}
    try:
        for name, layer in layers.items():
            if getattr(layer, "groups", 1) != 1:
                raise ModelError(f"{name} is a grouped convolution; its LoRA cannot be merged")
            weight = layer.weight
            assert isinstance(weight, Tensor)
            before[name] = weight.detach().to("cpu", copy=True)
            a, b = (lora.weights[name + factor].float() for factor in FACTORS)
            product = (b.flatten(1) @ a.flatten(1)).reshape(b.shape[0], *a.shape[1:])
            weight.data.copy_(weight.data.float() + strength * product.to(weight.device))
        yield
    finally:
        for name, tensor in before.items():
            layers[name].weight.data.copy_(tensor)  # type: ignore[operator]
