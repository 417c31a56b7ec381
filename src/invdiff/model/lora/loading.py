"""Opening a LoRA file, and comparing it with a network before anything is changed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from invdiff.errors import ModelError

Shape = tuple[int, ...]


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


def require_fit(module: nn.Module, shapes: Mapping[str, Shape], folder: Path) -> None:
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
        elif not _fits(factor, shape, tuple(weight.shape)):
            wrong.append(f"{key} ({list(shape)} for a weight of {list(weight.shape)})")
    if wrong or not shapes:
        shown = ", ".join(wrong[:3]) or "the file is empty"
        raise ModelError(
            f"the adapter in {folder} was made for another network: {len(wrong)} of {len(shapes)} "
            f"tensors do not fit {type(module).__name__}: {shown}; use the base model it was "
            "trained on"
        )


def _fits(factor: str, shape: Shape, weight: Shape) -> bool:
    """Weight (outputs, inputs, *kernel): A is (rank, inputs, *kernel), B (outputs, rank, 1...)."""
    return shape[1:] == weight[1:] if factor == "A" else shape[:1] == weight[:1]
