"""Which layers of a LoRA file ComfyUI would find, by the names it looks for.

ComfyUI answers a name that it doesn't know with a warning and an unguided picture. It knows the
layers of a UNet as ``lora_unet_<name with underscores>``, or as diffusers named them before PEFT
(with ``processor``), so that a PEFT file of a UNet loses all attention layers there; transformers
of SD3, Flux and PixArt it knows by diffusers' names (``comfy/lora.py``, ``model_lora_keys_unet``).
"""

from collections.abc import Iterable

from invdiff.model.formats import kohya

TRANSFORMERS = ("SD3Transformer2DModel", "FluxTransformer2DModel", "PixArtTransformer2DModel")
SUFFIXES = (".lora_A.weight", ".lora_down.weight")


def unread(layers: Iterable[str], keys: Iterable[str], denoiser: str) -> list[str]:
    """The ``layers`` of a network of class ``denoiser`` that no key of the file stands for."""
    stems = {key.removesuffix(end) for key in keys for end in SUFFIXES if key.endswith(end)}
    return [layer for layer in layers if not stems & names(layer, denoiser)]


def names(layer: str, denoiser: str) -> set[str]:
    """The names under which ComfyUI accepts a layer's LoRA; empty for families it doesn't know."""
    if denoiser == kohya.UNET:
        old = layer.replace(".to_", ".processor.to_")
        old = old.removesuffix(".0") if old.endswith(".to_out.0") else old
        return {"lora_unet_" + layer.replace(".", "_"), old, f"unet.{old}"}
    if denoiser not in TRANSFORMERS:
        return set()
    known = {f"transformer.{layer}"}
    if denoiser == kohya.FLUX:
        known.add(f"lora_unet_{kohya.joined_layer(layer)[0]}")
    return known
