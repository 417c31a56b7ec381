"""Checkpoints in one file, as A1111 and ComfyUI keep them: Stable Diffusion 1 and XL.

The file says its tensors' names and shapes in its header: they tell which of the two it is, and how
wide its networks are. What else they need are published configurations, in ``assets``. Files of
newer models hold the denoiser alone, without autoencoder and text encoder, so they are refused with
the way to a folder.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from invdiff.errors import ModelError
from invdiff.model.sizing.description import Description, shipped

Shapes = Mapping[str, tuple[int, ...]]

UNET, VAE = "model.diffusion_model", "first_stage_model"
CLIP = "transformer.text_model.encoder.layers"
OPEN_CLIP = "conditioner.embedders.1.model"
WAY_OUT = (
    "give the model's folder in diffusers format, or make one with from_single_file(...) and "
    "save_pretrained(...) of its pipeline in diffusers"
)


def is_single(model: str) -> bool:
    """Whether ``model`` is a file rather than a folder or a name."""
    return Path(model).expanduser().is_file()


def describe_file(path: Path) -> Description:
    """What the checkpoint is made of, by its header.

    Raises:
        ModelError: it is none of Stable Diffusion 1 or XL with all its parts.
    """
    known = _shapes(path)
    xl = f"{OPEN_CLIP}.ln_final.weight" in known
    _require_whole(path, known, xl)
    base = shipped("sdxl" if xl else "sd15")
    text = "conditioner.embedders.0" if xl else "cond_stage_model"
    found = {
        "unet": _unet(known, base.parts["unet"].config),
        "vae": _widths(known, f"{VAE}.encoder.down.{{}}.block.0.conv2.weight"),
        "text_encoder": _clip(known, f"{text}.{CLIP}", "mlp.fc1.weight"),
        "scheduler": {},
    }
    if xl:
        projected = known[f"{OPEN_CLIP}.text_projection"][1]
        second = _clip(known, f"{OPEN_CLIP}.transformer.resblocks", "mlp.c_fc.weight")
        found["text_encoder_2"] = second | {"projection_dim": projected}
        sizes = 6 * base.parts["unet"].config["addition_time_embed_dim"]
        found["unet"]["projection_class_embeddings_input_dim"] = projected + sizes
        if "v_pred" in known:  # as its trainers mark it
            found["scheduler"] = {
                "prediction_type": "v_prediction",
                "rescale_betas_zero_snr": "ztsnr" in known,
            }
    parts = {
        name: replace(base.parts[name], config={**base.parts[name].config, **own})
        for name, own in found.items()
    }
    made = Description(base.pipeline, parts, str(path))
    made.require_latents()
    return made


def _shapes(path: Path) -> Shapes:
    try:
        with safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no whole file of safetensors ({error}): {WAY_OUT}") from None


def _require_whole(path: Path, known: Shapes, xl: bool) -> None:
    """ModelError that says what the file is instead, as far as its names tell."""
    text = "conditioner.embedders.0" if xl else "cond_stage_model"
    parts = {
        "no denoiser of Stable Diffusion": f"{UNET}.input_blocks.0.0.weight",
        "no autoencoder": f"{VAE}.encoder.conv_in.weight",
        "no text encoder of Stable Diffusion 1 or XL": f"{text}.{CLIP}.0.mlp.fc1.weight",
    }
    lost = [name for name, key in parts.items() if key not in known]
    if any("lora_" in key for key in known):
        lost = ["a LoRA and no model"]
    if lost:
        raise ModelError(f"{path} has {', '.join(lost)}: {WAY_OUT}")


def _unet(known: Shapes, config: Mapping[str, Any]) -> dict[str, Any]:
    rows = config["layers_per_block"] + 1
    count = len(config["block_out_channels"])
    firsts = [
        known[f"{UNET}.input_blocks.{rows * k + 1}.0.out_layers.3.weight"][0] for k in range(count)
    ]
    reads = next(shape[1] for key, shape in known.items() if key.endswith("attn2.to_k.weight"))
    taken = known[f"{UNET}.input_blocks.0.0.weight"][1]
    return {"in_channels": taken, "block_out_channels": firsts, "cross_attention_dim": reads}


def _widths(known: Shapes, name: str) -> dict[str, Any]:
    blocks = takewhile(known.__contains__, map(name.format, range(99)))
    return {"block_out_channels": [known[key][0] for key in blocks]}


def _clip(known: Shapes, stem: str, first: str) -> dict[str, Any]:
    inner, width = known[f"{stem}.0.{first}"]
    layers = {
        key.removeprefix(f"{stem}.").partition(".")[0] for key in known if key.startswith(stem)
    }
    return {
        "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": len(layers)
    }  # fmt: skip
