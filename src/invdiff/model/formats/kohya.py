"""A LoRA under the names that ComfyUI, A1111, Forge, SD.Next and InvokeAI read ("kohya").

UNets keep diffusers' layer names with underscores, by diffusers' own converter. Flux takes the
names of sd-scripts, where query, key and value are one layer: the three LoRAs become one of three
times the rank whose B is block-diagonal, which is the same matrix and which diffusers' loader takes
apart again. Tools match by name and skip what they don't know, at most with a warning; hence one
name too few is an error here.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from diffusers.utils import convert_state_dict_to_kohya
from torch import Tensor

from invdiff.errors import ModelError
from invdiff.model.lora.lora_file import FACTORS, LoraFile

FILE = "invdiff_kohya.safetensors"
UNET, FLUX = "UNet2DConditionModel", "FluxTransformer2DModel"

# Layers of sd-scripts' Flux, each with those of diffusers that it joins, in its order.
DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn_proj": ("attn.to_out.0",),
    "txt_attn_proj": ("attn.to_add_out",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
}
SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
}
BLOCKS = (
    (re.compile(r"transformer_blocks\.(\d+)\.(.+)"), "double_blocks", DOUBLE),
    (re.compile(r"single_transformer_blocks\.(\d+)\.(.+)"), "single_blocks", SINGLE),
)


def convert(lora: LoraFile, denoiser: str) -> dict[str, Tensor]:
    """The weights as ``lora_unet_<layer>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``.

    ``denoiser`` is the class name of the network. ``alpha`` is the rank everywhere.

    Raises:
        ModelError: the family has no kohya names that diffusers' loader could check.
    """
    require_supported(denoiser)
    if denoiser == UNET:
        return _floats(convert_state_dict_to_kohya(lora.prefixed()))
    return _flux(lora)


def supports(denoiser: str) -> bool:
    """Whether :func:`convert` knows the names of this network's layers."""
    return denoiser in (UNET, FLUX)


def require_supported(denoiser: str) -> None:
    """ModelError with the other ways, unless :func:`supports`."""
    if not supports(denoiser):
        raise ModelError(
            f"a LoRA of {denoiser} has no kohya names that diffusers can read back; export it with "
            "--format diffusers, which ComfyUI reads for SD3 and PixArt, or --format merged"
        )


def _floats(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.float() if k.endswith(".alpha") else v for k, v in weights.items()}


def _flux(lora: LoraFile) -> dict[str, Tensor]:
    left = set(lora.layers)
    converted: dict[str, Tensor] = {}
    for layer in lora.layers:
        if layer not in left:
            continue
        name, parts = joined_layer(layer)
        if missing := [part for part in parts if part not in left]:
            raise ModelError(
                f"kohya joins {', '.join(parts)} in one layer, and the LoRA has no {missing[0]}; "
                "export it with --format diffusers"
            )
        left -= set(parts)
        pairs = [[lora.weights[part + factor] for factor in FACTORS] for part in parts]
        converted |= _one_layer(f"lora_unet_{name}", pairs)
    return converted


def joined_layer(layer: str) -> tuple[str, list[str]]:
    """The layer of sd-scripts that ``layer`` is a part of, and all parts by diffusers' names."""
    for pattern, blocks, known in BLOCKS:
        if not (found := pattern.fullmatch(layer)):
            continue
        at, ending = found.groups()
        stem = layer.removesuffix(ending)
        for name, endings in known.items():
            if ending in endings:
                return f"{blocks}_{at}_{name}", [stem + one for one in endings]
    raise ModelError(f"kohya has no name for the layer {layer}; export it with --format diffusers")


def _one_layer(name: str, pairs: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
    down = torch.cat([a for a, _ in pairs])
    up = torch.block_diag(*(b for _, b in pairs))
    return {
        f"{name}.lora_down.weight": down.contiguous(),
        f"{name}.lora_up.weight": up.contiguous(),
        f"{name}.alpha": torch.tensor(float(len(down))),
    }
