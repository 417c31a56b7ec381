"""A LoRA under the names that ComfyUI, A1111, Forge, SD.Next and InvokeAI read ("kohya").

UNets keep diffusers' layer names with underscores, by diffusers' own converter, but for that of
SDXL: not all of sd-scripts reads those (``sdxl_merge_lora``, ``--network_weights``). Flux takes the
names of sd-scripts, where query, key and value are one layer: the three LoRAs become one of three
times the rank whose B is block-diagonal, which is the same matrix and which diffusers' loader takes
apart again. Tools match by name and skip what they don't know, at most with a warning; hence one
name too few is an error here, and :func:`unread_by_comfyui` counts them.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import torch
from diffusers.utils import convert_state_dict_to_kohya
from torch import Tensor

from invdiff.errors import ModelError
from invdiff.model.lora.adapter_file import FACTORS, LoraFile
from invdiff.model.networks import NETWORKS, UNET

FILE = "invdiff_kohya.safetensors"
FLUX = "FluxTransformer2DModel"
SUPPORTED = UNET, FLUX
SUFFIXES = (".lora_A.weight", ".lora_down.weight")

# Names of SDXL's authors: of layers of residual blocks, and of those outside the blocks.
SAI_LAYERS = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
SAI_BLOCK = re.compile(
    r"(down|mid|up)_blocks?(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
SAI_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}

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


def convert(lora: LoraFile, denoiser: str, sdxl_layers: int = 0) -> dict[str, Tensor]:
    """The weights as ``lora_unet_<layer>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``.

    ``denoiser`` is the class name of the network; ``sdxl_layers`` its ``layers_per_block`` if it is
    that of SDXL, which takes the names of its authors. ``alpha`` is the rank everywhere.

    Raises:
        ModelError: the family has no kohya names that diffusers' loader could check.
    """
    require_supported(denoiser)
    if denoiser == FLUX:
        return _flux(lora)
    if sdxl_layers:
        names = {layer: sai_name(layer, sdxl_layers) for layer in lora.layers}
        renamed = {
            names[layer] + end: lora.weights[layer + end] for layer in names for end in FACTORS
        }
        lora = replace(lora, weights=renamed)
    weights = convert_state_dict_to_kohya(lora.prefixed())
    return {k: v.float() if k.endswith(".alpha") else v for k, v in weights.items()}


def require_supported(denoiser: str) -> None:
    """ModelError with the other ways for a network whose layers :func:`convert` can't name."""
    if denoiser not in SUPPORTED:
        raise ModelError(
            f"a LoRA of {denoiser} has no kohya names that diffusers can read back; export it with "
            "--format diffusers, which ComfyUI reads for transformers but Sana, or --format merged"
        )


def sai_name(layer: str, layers_per_block: int) -> str:
    """The name of a UNet's layer in the code of SDXL's authors, ``input_blocks.4.1.proj_in``.

    A block below is that many layers and what makes it smaller, a block above one layer more, and
    its last one what makes it larger (third, after the attention, as in all blocks of SDXL's).
    """
    if layer in SAI_ENDS:
        return SAI_ENDS[layer]
    if not (found := SAI_BLOCK.fullmatch(layer)):
        raise ModelError(
            f"kohya has no name for the layer {layer}; export it with --format diffusers"
        )
    side, at, kind, inner, ending = found.groups()
    ending = SAI_LAYERS.get(ending, ending)
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(inner)}.{ending}"
    first = int(at) * (layers_per_block + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers_per_block + 1}.0.op"
    row = first + (layers_per_block if kind == "upsamplers" else int(inner))
    stem = f"input_blocks.{row + 1}" if side == "down" else f"output_blocks.{row}"
    return f"{stem}.{('resnets', 'attentions', 'upsamplers').index(kind)}.{ending}"


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
        downs, ups = ([lora.weights[part + factor] for part in parts] for factor in FACTORS)
        converted |= {
            f"lora_unet_{name}.lora_down.weight": (down := torch.cat(downs).contiguous()),
            f"lora_unet_{name}.lora_up.weight": torch.block_diag(*ups).contiguous(),
            f"lora_unet_{name}.alpha": torch.tensor(float(len(down))),
        }
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


def unread_by_comfyui(
    layers: Iterable[str], keys: Iterable[str], denoiser: str, layers_per_block: int = 2
) -> list[str]:
    """The ``layers`` of a network of class ``denoiser`` that no key of a file stands for there.

    ComfyUI answers a name that it doesn't know with a warning and an unguided picture.
    """
    stems = {key.removesuffix(end) for key in keys for end in SUFFIXES if key.endswith(end)}
    return [one for one in layers if not stems & comfyui_names(one, denoiser, layers_per_block)]


def comfyui_names(layer: str, denoiser: str, layers_per_block: int) -> set[str]:
    """The names under which ComfyUI accepts a layer's LoRA; empty for families it doesn't know.

    It knows the layers of a UNet as ``lora_unet_<name with underscores>``, the name being that of
    diffusers or of the authors, or as diffusers named them before PEFT (with ``processor``), so
    that a PEFT file of a UNet loses all attention layers there; transformers by diffusers' names
    (``comfy/lora.py``, ``model_lora_keys_unet``).
    """
    if denoiser == UNET:
        old = layer.replace(".to_", ".processor.to_")
        old = old.removesuffix(".0") if old.endswith(".to_out.0") else old
        both = {layer}
        with suppress(ModelError):
            both.add(sai_name(layer, layers_per_block))
        return {old, f"unet.{old}", *("lora_unet_" + one.replace(".", "_") for one in both)}
    if denoiser not in NETWORKS or not NETWORKS[denoiser].comfyui:
        return set()
    joined = {f"lora_unet_{joined_layer(layer)[0]}"} if denoiser == FLUX else set()
    return {f"transformer.{layer}"} | joined
