"""The adapter added into the weights of the base: a pipeline that any tool opens without a LoRA.

The result is the guidance at strength 1 exactly. At another strength s it is the LoRA at weight s,
which only approximates s times the guidance (see :mod:`invdiff.core.diffusion.guidance`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from invdiff.errors import ModelError
from invdiff.model.denoiser import denoiser_module
from invdiff.model.lora.loading import require_fit
from invdiff.model.lora.lora_file import LoraFile


def save_merged(pipe: Any, lora: LoraFile, strength: float, folder: Path) -> None:
    """Write the whole pipeline with the LoRA in its weights; ``pipe`` is left as it was."""
    with merged(denoiser_module(pipe), lora, strength):
        pipe.save_pretrained(folder, safe_serialization=True)


@contextmanager
def merged(module: nn.Module, lora: LoraFile, strength: float) -> Iterator[None]:
    """The network with W + strength B A for W, then as it was, bit for bit."""
    shapes = {key: tuple(tensor.shape) for key, tensor in lora.weights.items()}
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
            weight = layer.weight
            assert isinstance(weight, Tensor)
            before[name] = weight.detach().to("cpu", copy=True)
            change = strength * product(lora, name, layer).to(weight.device)
            weight.data.copy_(weight.data.float() + change)
        yield
    finally:
        for name, tensor in before.items():
            layers[name].weight.data.copy_(tensor)  # type: ignore[operator]


def product(lora: LoraFile, name: str, layer: nn.Module) -> Tensor:
    """B A in float32, shaped like the layer's weight. A convolution's kernel is all in A."""
    if getattr(layer, "groups", 1) != 1:
        raise ModelError(f"{name} is a grouped convolution; its LoRA cannot be merged")
    a, b = (lora.weights[f"{name}.lora_{factor}.weight"].float() for factor in "AB")
    return (b.flatten(1) @ a.flatten(1)).reshape(b.shape[0], *a.shape[1:])
