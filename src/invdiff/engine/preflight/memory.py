"""How much memory and computation a configuration asks for, before any weight is there.

    memory of a stage = weights + adapter + MARGIN x highest memory of its largest pass
    weights           = parameters of all components x bytes of model.dtype
    adapter           = 16 bytes a parameter in training (float32 weight, gradient, two moments of
                        AdamW), 4 otherwise
    largest pass      = forward and backward of one training batch; one forward pass of a batch of
                        discovery or of sampling (twice the batch under classifier-free guidance);
                        encoding or decoding the pictures of one batch
    computation       = denoiser passes (see `engine.plan`) x operations of one

Passes are traced on the meta device (:mod:`sizing.shapes`) at the configuration's picture
size: training with its own batch, the rest with one picture, times the batch. Operations are those
of the denoiser alone, at that size. A training step takes one part of its batch
(train.gradient_accumulation_steps) and keeps what its backward pass needs, which is less with
train.gradient_checkpointing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from invdiff.engine.base_model.architecture import describe, published
from invdiff.engine.base_model.loading import hushed
from invdiff.engine.settings.schema import Config
from invdiff.errors import refused
from invdiff.model.lora import adapter
from invdiff.model.sizing import shapes
from invdiff.model.sizing.description import Description
from invdiff.model.sizing.shapes import MARGIN, checkpointed, trace

TRAINING_BYTES, RESTING_BYTES = 16, 4


@dataclass(frozen=True)
class MemoryEstimate:
    """Parameters by component, bytes of memory by stage, operations of one image's pass."""

    source: str
    pipeline: str
    image_size: int
    dtype: str
    parameters: Mapping[str, int]
    adapter: int
    memory: Mapping[str, int]
    operations: float
    one_pass: bool

    @property
    def peak(self) -> int:
        """Bytes that the stage with the highest need takes."""
        return max(self.memory.values())


def estimate_memory(config: Config) -> MemoryEstimate | None:
    """What ``config`` needs; None when nothing is known about its model.

    Raises:
        ModelError: the model's files are damaged, or its family is not known.
    """
    base = describe(config.model.path) or published(config.model.path)
    if base is None:
        return None
    with refused(f"the description of {base.source} cannot be used", "give a whole copy"):
        return of_description(base, config)


def of_description(base: Description, config: Config) -> MemoryEstimate:
    """What ``config`` needs on the model ``base``."""
    dtype, own_size = getattr(torch, config.model.dtype), base.image_size
    with hushed():
        built: dict[str, Any] = {name: shapes.build(part) for name, part in base.parts.items()}
        modules = {name: module.to(dtype) for name, module in built.items() if module is not None}
    sizes = {name: module.num_parameters() for name, module in modules.items()}
    denoiser = modules[base.component]
    size = config.data.image_size or own_size
    one_pass = shapes.guided_in_one_pass(base.denoiser)

    one = trace(denoiser, shapes.call(denoiser, base, 1, size, dtype))
    drawn = one  # pictures are drawn at the size that the model was made for
    if size != own_size:
        drawn = trace(denoiser, shapes.call(denoiser, base, 1, own_size, dtype))
    doubled = 1 if one_pass or max(config.sample.guidance_scales) == 1 else 2
    passes = {
        "discover": one.peak * config.discover.batch_size,
        "sample": drawn.peak * config.sample.batch_size * doubled,
    }
    if vae := modules.get("vae"):
        encoding = _coding(vae, base, size, dtype)[0] * config.discover.batch_size
        decoding = _coding(vae, base, own_size, dtype)[1] * config.sample.batch_size
        passes["discover"] = max(passes["discover"], encoding)
        passes["sample"] = max(passes["sample"], decoding)
    part = -(-config.train.batch_size // config.train.gradient_accumulation_steps)
    step = shapes.call(denoiser, base, part, size, dtype)
    lora, passes["train"] = _training(denoiser, config, step)
    weights = sum(sizes.values()) * dtype.itemsize
    held = {"train": TRAINING_BYTES * lora, "sample": RESTING_BYTES * lora}
    memory = {
        stage: round(weights + held.get(stage, 0) + MARGIN * passes[stage])
        for stage in ("discover", "train", "sample")
    }
    facts = base.source, base.pipeline, size, config.model.dtype
    return MemoryEstimate(*facts, sizes, lora, memory, one.operations, one_pass)


def _training(denoiser: Any, config: Config, call: Callable[[], Any]) -> tuple[int, int]:
    """Parameters of the adapter, and the memory of one training step beside them."""
    adapter.add_lora(denoiser, config.train.rank, seed=0)
    lora = sum(tensor.numel() for tensor in adapter.parameters(denoiser))
    if config.train.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing(checkpointed)
    return lora, trace(denoiser, call, backward=True).peak - RESTING_BYTES * lora


def _coding(vae: Any, base: Description, size: int, dtype: torch.dtype) -> tuple[int, int]:
    """Memory of encoding one picture, and of decoding one latent."""
    side, config = size // base.latent_pixels, base.parts["vae"].config
    films = (1,) if "z_dim" in config else ()
    channels = config["z_dim" if films else "latent_channels"]
    picture = torch.empty(1, 3, *films, size, size, dtype=dtype, device="meta")
    latent = torch.empty(1, channels, *films, side, side, dtype=dtype, device="meta")
    return trace(vae, lambda: vae.encode(picture)).peak, trace(vae, lambda: vae.decode(latent)).peak
