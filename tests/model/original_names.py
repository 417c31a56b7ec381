"""A tiny Stable Diffusion 1 or XL as its authors' code saves it: one file, names of their own.

The topology is the published one, the widths are small, the weights random.
"""

import re

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from invdiff.engine.base_model.single_file import clip_words
from invdiff.model.formats.kohya import sai_name

STEPS = {"steps_offset": 1, "clip_sample": False}
UNET_NORMS = {"norm1": "in_layers.0", "norm2": "out_layers.0"}
RENAMED = {
    ".norm.": ".norm.",
    "conv_norm_out": "norm_out",
    ".conv_shortcut.": ".nin_shortcut.",
    ".to_q.": ".q.", ".to_k.": ".k.", ".to_v.": ".v.", ".to_out.0.": ".proj_out.",
    ".group_norm.": ".norm.",
    "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    ".downsamplers.0.": ".downsample.", ".upsamplers.0.": ".upsample.",
}  # fmt: skip
OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj", "text_projection.weight": "text_projection",
}  # fmt: skip


def pipeline(xl=False):
    """The pipeline whose weights go into the file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _xl() if xl else _one()


def _autoencoder(scale):
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64), down_block_types=down, up_block_types=up,
        layers_per_block=2, latent_channels=4, scaling_factor=scale,
    ).eval()  # fmt: skip


def _text(kind, heads, width, layers, **config):
    return kind(
        CLIPTextConfig(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
            num_attention_heads=heads, max_position_embeddings=77, vocab_size=49408, **config,
        )
    ).eval()  # fmt: skip


def _one():
    cross = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(32, 64, 64, 64), cross_attention_dim=48,
        attention_head_dim=8, down_block_types=cross, layers_per_block=2,
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    ).eval()  # fmt: skip
    return StableDiffusionPipeline(
        unet=unet, vae=_autoencoder(0.18215), scheduler=DDIMScheduler(**STEPS),
        text_encoder=_text(CLIPTextModel, 12, 48, 12, hidden_act="quick_gelu"),
        tokenizer=clip_words("<|endoftext|>"), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def _xl():
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(160, 160, 160), cross_attention_dim=128,
        attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True, layers_per_block=2, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=6 * 256 + 80,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
    ).eval()  # fmt: skip
    return StableDiffusionXLPipeline(
        unet=unet, vae=_autoencoder(0.13025), scheduler=DDIMScheduler(**STEPS),
        text_encoder=_text(CLIPTextModel, 12, 48, 12, hidden_act="quick_gelu"),
        text_encoder_2=_text(CLIPTextModelWithProjection, 20, 80, 32, projection_dim=80),
        tokenizer=clip_words("<|endoftext|>"), tokenizer_2=clip_words("!"),
    )  # fmt: skip


def save(pipe, path):
    """The weights of ``pipe`` as a checkpoint of the authors' code, in half precision."""
    named = {f"model.diffusion_model.{k}": v for k, v in _unet(pipe.unet).items()}
    named |= {f"first_stage_model.{k}": v for k, v in _vae(pipe.vae).items()}
    xl = hasattr(pipe, "text_encoder_2")
    first = "conditioner.embedders.0" if xl else "cond_stage_model"
    named |= {
        f"{first}.transformer.{_prefixed(key)}": value
        for key, value in pipe.text_encoder.state_dict().items()
    }
    if xl:
        second = _open_clip(pipe.text_encoder_2.state_dict())
        named |= {f"conditioner.embedders.1.model.{k}": v for k, v in second.items()}
    half = {key: value.half().contiguous() for key, value in named.items()}
    save_file(half, path, {"format": "pt"})


def _prefixed(key):
    """Releases of transformers differ in whether the prefix is there."""
    return key if key.startswith("text_model.") else f"text_model.{key}"


def _unet(unet):
    layers = unet.config.layers_per_block
    found = {}
    for key, value in unet.state_dict().items():
        layer, _, kind = key.rpartition(".")
        ending = layer.rpartition(".")[2]
        if layer == "conv_norm_out":
            name = "out.0"
        elif ".resnets." in layer and ending in UNET_NORMS:
            name = sai_name(layer.removesuffix(ending) + "conv1", layers)
            name = name.replace("in_layers.2", UNET_NORMS[ending])
        else:
            name = sai_name(layer, layers)
        found[f"{name}.{kind}"] = value
    return _upsamplers_without_attention(found)


def _upsamplers_without_attention(named):
    """In a block above without attention what makes it larger comes second, not third."""
    attended = {key.split(".")[1] for key in named if re.match(r"output_blocks\.\d+\.1\.norm", key)}
    return {
        re.sub(r"^(output_blocks\.(\d+))\.2\.conv", lambda m: m[0] if m[2] in attended else
               f"{m[1]}.1.conv", key): value
        for key, value in named.items()
    }  # fmt: skip


def _vae(vae):
    found = {}
    for key, value in vae.state_dict().items():
        name = key
        for ours, theirs in RENAMED.items():
            name = name.replace(ours, theirs)
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)", r"down.\1", name)
        name = re.sub(
            r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name
        )
        name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{3 - int(m[1])}", name)
        if ".attn_1." in name and value.ndim == 2:
            value = value[..., None, None]  # theirs are convolutions of one cell
        found[name] = value
    return found


def _open_clip(weights):
    """The names of OpenCLIP, which has query, key and value in one."""
    found, joined = {}, {}
    for key, value in weights.items():
        name = key.removeprefix("text_model.")
        name = name.replace("encoder.layers.", "transformer.resblocks.")
        for ours, theirs in OPEN_CLIP.items():
            name = name.replace(ours, theirs)
        if part := re.search(r"self_attn\.([qkv])_proj\.(weight|bias)", name):
            joined.setdefault(name[: part.start()] + f"attn.in_proj_{part[2]}", {})[part[1]] = value
        else:
            found[name] = value.T if name == "text_projection" else value
    return found | {k: torch.cat([v["q"], v["k"], v["v"]]) for k, v in joined.items()}
