"""How much memory and computation a configuration asks for, before any weight is there.

    memory of a stage = MARGIN (weights + adapter + highest memory of its largest pass)
    weights           = parameters of all components x bytes of model.dtype
    adapter           = 16 bytes a parameter in training (float32 weight, gradient, two moments of
                        AdamW), 4 otherwise
    largest pass      = forward and backward of one training batch; one forward pass of a batch of
                        discovery or of sampling (twice the batch under classifier-free guidance);
                        encoding or decoding the pictures of one batch
    computation       = denoiser passes (see `engine.plan`) x operations of one

Passes are traced on the meta device (:mod:`invdiff.model.tracing`), with the configuration's own
batch and picture size. Operations are those of the denoiser alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from invdiff.engine.architecture import describe, published
from invdiff.engine.config import Config
from invdiff.engine.models import hushed
from invdiff.model import adapter, shapes
from invdiff.model.description import Description
from invdiff.model.tracing import MARGIN, trace

TRAINING_BYTES, RESTING_BYTES = 16, 4


@dataclass(frozen=True)
class Estimate:
    """Parameters by component, bytes of memory by stage, operations of one image's pass."""

    source: str
    pipeline: str
    image_size: int
    parameters: Mapping[str, int]
    adapter: int
    memory: Mapping[str, int]
    operations: float
    one_pass: bool

    @property
    def peak(self) -> int:
        """Bytes that the stage with the highest need takes."""
        return max(self.memory.values())


def estimate(config: Config) -> Estimate | None:
    """What ``config`` needs; None when nothing is known about its model.

    Raises:
        ModelError: the model's files are damaged, or its family is not known.
    """
    base = describe(config.model.path) or published(config.model.path)
    return None if base is None else of_description(base, config)


def of_description(base: Description, config: Config) -> Estimate:
    """What ``config`` needs on the model ``base``."""
    dtype = getattr(torch, config.model.dtype)
    with hushed():
        built = {name: shapes.build(part) for name, part in base.parts.items()}
        modules = {name: module.to(dtype) for name, module in built.items() if module is not None}
    sizes = {name: shapes.parameters(module) for name, module in modules.items()}
    denoiser = modules[base.component]
    size = config.data.image_size or base.image_size
    one_pass = shapes.guided_in_one_pass(base.denoiser)

    def predict(batch: int) -> Callable[[], Any]:
        return shapes.call(denoiser, base, batch, size, dtype)

    operations = trace(denoiser, predict(1)).operations
    sampled = config.sample.batch * (1 if one_pass or max(config.sample.guidance_scales) == 1 else 2)
    passes = {
        "discover": trace(denoiser, predict(config.discover.batch)).peak,
        "sample": trace(denoiser, predict(sampled)).peak,
    }
    if "vae" in modules:
        coded = {
            "discover": _coding(modules["vae"], base, config.discover.batch, size, dtype, "encode"),
            "sample": _coding(modules["vae"], base, config.sample.batch, size, dtype, "decode"),
        }
        passes = {stage: max(passes[stage], coded[stage]) for stage in passes}
    lora, passes["train"] = _training(denoiser, config, predict(config.train.batch))
    weights = sum(sizes.values()) * dtype.itemsize
    held = {"train": TRAINING_BYTES * lora, "sample": RESTING_BYTES * lora}
    memory = {
        stage: round(MARGIN * (weights + held.get(stage, 0) + passes[stage]))
        for stage in ("discover", "train", "sample")
    }
    return Estimate(
        base.source, base.pipeline, size, sizes, lora, memory, operations, one_pass
    )  # fmt: skip


def _training(denoiser: Any, config: Config, call: Callable[[], Any]) -> tuple[int, int]:
    """Parameters of the adapter, and the memory of one training step beside them."""
    adapter.add_lora(denoiser, config.train.rank, seed=0)
    lora = sum(tensor.numel() for tensor in adapter.parameters(denoiser))
    return lora, trace(denoiser, call, backward=True).peak - RESTING_BYTES * lora


def _coding(
    vae: Any, base: Description, batch: int, size: int, dtype: torch.dtype, direction: str
) -> int:
    """Memory of encoding or decoding a batch of pictures."""
    side = size // base.latent_pixels
    channels = base.parts["vae"].config["latent_channels"]
    shape = (batch, 3, size, size) if direction == "encode" else (batch, channels, side, side)
    inputs = torch.empty(shape, dtype=dtype, device="meta")
    return trace(vae, lambda: getattr(vae, direction)(inputs, return_dict=False)[0]).peak
