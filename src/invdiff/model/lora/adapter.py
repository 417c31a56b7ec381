"""LoRA on a frozen diffusers denoiser: G(z_t, t, y) = f_adapted(z_t, t, y) - f_base(z_t, t, y).

The adapter is an ordinary PEFT LoRA named `NAME`. Its file: :mod:`invdiff.model.lora.adapter_file`.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from invdiff.errors import ModelError

NAME = "invdiff"
"""The adapter's name inside PEFT; the file on disk does not contain it."""

# Endings of the layers that carry the adapter. Attention alone is far worse at the same rank: the
# groups differ in what convolutions draw as much as in what attention reads from the prompt.
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "to_out", "to_qkv_mlp_proj")
JOINT_ATTENTION = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
FEED_FORWARD = (
    "net.0.proj", "net.2", "proj_mlp", "proj_in", "proj_out", "linear_1", "linear_2", "linear_in",
    "linear_out", "w1", "w2", "w3",
)  # fmt: skip
CONVOLUTION = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv_inverted", "conv_point")
OUTSIDE = "distilled_guidance_layer."  # Chroma's shift and scale by the timestep, for all blocks
ENDINGS = ATTENTION + JOINT_ATTENTION + FEED_FORWARD + CONVOLUTION


def targets(module: nn.Module) -> list[str]:
    """Names of the layers that get a LoRA: attention, feed-forward and convolution of every block.

    Layers outside the repeated blocks (first and last convolution, time embedding) stay untouched.
    Raises ModelError when the network has none.
    """
    names = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and any(part.isdigit() for part in name.split("."))
        and any(name.endswith(f".{ending}") for ending in ENDINGS)
        and getattr(layer, "groups", 1) == 1
        and not name.startswith(OUTSIDE)
    ]
    if not names:
        raise ModelError(
            f"{type(module).__name__} has no layer that a LoRA can go to (names ending in "
            f"{', '.join(ENDINGS)}); pass the denoiser, pipe.unet or pipe.transformer"
        )
    return names


def add_lora(module: nn.Module, rank: int, seed: int) -> None:
    """Add a trainable LoRA that changes nothing yet, and freeze everything else.

    A is drawn from a generator of its own that depends on `seed` alone, in PEFT's distribution
    (uniform, bound 1/sqrt(fan-in)); B is zero, so the network's output is the base's, bit for bit.
    Adapter weights are float32 even on a half-precision base: optimizers need it.
    """
    if rank < 1:
        raise ModelError(f"rank is {rank}; it must be a whole number of at least 1")
    require_free(module)
    module.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets(module))
    with torch.random.fork_rng(devices=[]):  # PEFT's own draws must not disturb the caller's stream
        with_methods(module).add_adapter(config, adapter_name=NAME)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in named_parameters(module):
        weight.data = weight.data.float()
        if name.endswith("lora_A.weight"):
            draw = torch.rand(weight.shape, generator=generator)
            weight.data.copy_((2 * draw - 1) / math.sqrt(weight[0].numel()))
        else:
            nn.init.zeros_(weight)


def parameters(module: nn.Module) -> list[nn.Parameter]:
    """The adapter's parameters in a fixed order, made once: clip and step over this list."""
    return [tensor for _, tensor in named_parameters(module)]


def state(module: nn.Module) -> dict[str, Tensor]:
    """The adapter's weights, copied to the CPU: `<layer>.lora_A.weight` and `.lora_B.weight`."""
    return {name: tensor.detach().cpu().clone() for name, tensor in named_parameters(module)}


def load_state(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights made by `state` back, exactly. Raises ModelError on any other name or shape."""
    own = dict(named_parameters(module))
    needed, given = ({name: list(some[name].shape) for name in some} for some in (own, weights))
    for name in sorted(needed.keys() | given.keys()):
        if needed.get(name) != given.get(name):
            raise ModelError(
                f"the weights do not fit the adapter: {name} is {given.get(name, 'missing')}, "
                f"{type(module).__name__} needs {needed.get(name, 'missing')}; "
                "use the rank and the base model they were trained with"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def switched_on(module: nn.Module) -> bool:
    """Whether the network carries an InvDiff adapter that takes part in what it computes."""
    return has_adapter(module) and any(map(_is_on, adapted_layers(module).values()))


@contextmanager
def switched(module: nn.Module, on: bool) -> Iterator[None]:
    """The network with the adapter on or off, then as it was. A fused adapter is a ModelError."""
    changed = [layer for layer in adapted_layers(module).values() if _is_on(layer) != on]
    try:
        for layer in changed:
            _switch(layer, on)
        yield
    finally:
        for layer in changed:
            _switch(layer, not on)


@contextmanager
def weighted(module: nn.Module, weight: float) -> Iterator[None]:
    """The adapter's weights times ``weight``, as a file is loaded at it; 1 is as it was trained."""
    layers = adapted_layers(module).values() if weight != 1 else ()
    before = [layer.scaling[NAME] for layer in layers]
    try:
        for layer, own in zip(layers, before, strict=True):
            layer.scaling[NAME] = own * weight
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.scaling[NAME] = own


def disabled(module: nn.Module) -> AbstractContextManager[None]:
    """The base network, bit for bit, for the length of a `with` block."""
    return switched(module, on=False)


def remove(module: nn.Module) -> None:
    """Take the adapter out. The network computes what it did before `add_lora`, bit for bit."""
    adapted_layers(module)
    if set(module.peft_config) == {NAME}:  # type: ignore[arg-type]
        with_methods(module).unload_lora()
    else:
        with_methods(module).delete_adapters(NAME)


def has_adapter(module: nn.Module) -> bool:
    """Whether the network carries an InvDiff adapter."""
    return NAME in (getattr(module, "peft_config", None) or {})


def component(module: nn.Module) -> str:
    """What pipelines call this denoiser, "unet" or "transformer": the prefix in a LoRA file."""
    return "unet" if "UNet" in type(module).__name__ else "transformer"


def adapted_layers(module: nn.Module) -> dict[str, LoraLayer]:
    """Layers with the adapter, by name, in the network's own order."""
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, LoraLayer) and NAME in layer.lora_A
    }
    if not layers:
        raise ModelError(
            f"{type(module).__name__} has no InvDiff adapter; "
            "add_lora starts a new one, attach loads a saved one"
        )
    return layers


def named_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's parameters by the names of :func:`state`, in the network's own order."""
    for name, layer in adapted_layers(module).items():
        for factor, part in (("lora_A", layer.lora_A[NAME]), ("lora_B", layer.lora_B[NAME])):
            yield f"{name}.{factor}.weight", cast(nn.Parameter, part.weight)


def _is_on(layer: LoraLayer) -> bool:
    if layer.merged_adapters:
        raise ModelError("a LoRA is fused into the weights; call pipe.unfuse_lora() first")
    return NAME in layer.active_adapters and not layer.disable_adapters


def _switch(layer: LoraLayer, on: bool) -> None:
    """Turn the adapter on or off in one layer, and nothing else: what is trainable stays so."""
    others = [name for name in layer.active_adapters if name != NAME]
    factors = [part[name].weight for part in (layer.lora_A, layer.lora_B) for name in part]
    trainable = [factor.requires_grad for factor in factors]
    if others or (on and NAME not in layer.active_adapters):
        layer.set_adapter([*others, NAME] if on else others)
    if layer.disable_adapters == (on or bool(others)):
        layer.enable_adapters(on or bool(others))
    for factor, flag in zip(factors, trainable, strict=True):
        factor.requires_grad = flag


def require_free(module: nn.Module) -> None:
    """Raises ModelError where no adapter can go: no network of diffusers, or it has one already."""
    if not isinstance(module, ModelMixin):
        raise ModelError(
            f"{type(module).__name__} is no network of diffusers; pass pipe.unet or so"
        )
    if has_adapter(module):
        raise ModelError("the network already has an InvDiff adapter; call remove or detach first")


def with_methods(module: nn.Module) -> Any:
    """The network with diffusers' methods for LoRAs, also where it has none of its own (PixArt's).

    Such a one is seen as a subclass that has them; both views are of one state, and the network
    itself stays what it was.
    """
    if isinstance(module, PeftAdapterMixin):
        return module
    kind = type(module)
    view: Any = object.__new__(type(kind.__name__, (kind, PeftAdapterMixin), {}))
    view.__dict__ = module.__dict__
    return view
