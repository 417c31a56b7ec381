"""Tiny random pipelines of the families that read prompts with a whole language model."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

LATENT, TEXT = 8, 16
KL = {
    "block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4,
    "sample_size": 2 * LATENT, "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "use_quant_conv": False,
    "use_post_quant_conv": False,
}  # fmt: skip
MARKS = ["<|im_start|>", "<|im_end|>"]
IMAGES = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
TURN = (
    "{% for one in messages %}<|im_start|>{{ one['role'] }}\n"
    "{% if one['content'] is string %}{{ one['content'] }}"
    "{% else %}{% for part in one['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n{% endif %}{% endif %}"
)


def words(side: str = "right") -> PreTrainedTokenizerFast:
    """Words of the templates are tokens, all else is spelt letter by letter."""
    known = ["<pad>", "<unk>", *MARKS, *IMAGES, *map(chr, range(32, 127)), "\n"]
    spelling = Tokenizer(
        models.WordLevel({word: row for row, word in enumerate(known)}, unk_token="<unk>")
    )
    spelling.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    found = PreTrainedTokenizerFast(
        tokenizer_object=spelling, pad_token="<pad>", unk_token="<unk>", padding_side=side,
        additional_special_tokens=[*MARKS, *IMAGES], chat_template=TURN,
    )  # fmt: skip
    found.add_special_tokens({"additional_special_tokens": [*MARKS, *IMAGES]})
    return found


def language(known: Any, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(known), "hidden_size": TEXT, "intermediate_size": 2 * TEXT,
        "num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 8, "max_position_embeddings": 2048, "pad_token_id": 0, "bos_token_id": None,
        "eos_token_id": None,
    }  # fmt: skip


def qwen_image_transformer() -> QwenImageTransformer2DModel:
    return QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=TEXT, axes_dims_rope=(4, 6, 6),
    ).eval()  # fmt: skip


def qwen_image() -> QwenImagePipeline:
    spelled = words()
    text = language(spelled, 2) | {
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"}
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
            "out_hidden_size": TEXT, "fullatt_block_indexes": [0],
        },
        vocab_size=len(spelled), image_token_id=4, video_token_id=5, vision_start_token_id=6,
        vision_end_token_id=6,
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 0.5, 1.5],
    ).eval()  # fmt: skip
    pipe = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(), tokenizer=spelled,
        transformer=qwen_image_transformer(),
    )  # fmt: skip
    pipe.default_sample_size = LATENT  # 128 in every one, whatever its transformer
    before, _, _ = pipe.prompt_template_encode.partition("{}")
    pipe.prompt_template_encode_start_idx = len(spelled(before).input_ids)  # 34 of its own words
    return pipe


def z_image_transformer() -> ZImageTransformer2DModel:
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
        cap_feat_dim=TEXT, axes_dims=[4, 6, 6], axes_lens=[1024, 512, 512],
    ).eval()  # fmt: skip
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    return transformer


def z_image() -> ZImagePipeline:
    spelled = words()
    pipe = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(**KL, shift_factor=0.1, scaling_factor=0.4).eval(),
        text_encoder=Qwen3Model(Qwen3Config(**language(spelled, 2))).eval(), tokenizer=spelled,
        transformer=z_image_transformer(),
    )  # fmt: skip
    pipe.default_sample_size = LATENT  # it has none, and takes 1024 pixels
    return pipe


def flux2_transformer(guidance_embeds: bool = True) -> Flux2Transformer2DModel:
    """It reads three layers of the language model side by side."""
    return Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=3 * TEXT, axes_dims_rope=(4, 4, 4, 4),
        timestep_guidance_channels=16, guidance_embeds=guidance_embeds,
    ).eval()  # fmt: skip


def flux2_autoencoder() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(**KL).eval()
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    return vae


def flux2_klein(is_distilled: bool = False) -> Flux2KleinPipeline:
    spelled = words()
    pipe = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux2_autoencoder(), tokenizer=spelled,
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**language(spelled, 27))).eval(),
        transformer=flux2_transformer(False), is_distilled=is_distilled,
    )  # fmt: skip
    pipe.default_sample_size = LATENT
    return pipe


def flux2() -> Flux2Pipeline:
    """Published ones have a processor around the tokenizer, for pictures; it needs torchvision."""
    spelled = words("left")
    config = Mistral3Config(
        text_config=language(spelled, 30) | {"model_type": "mistral"},
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
        },
        image_token_index=4,
    )  # fmt: skip
    pipe = Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux2_autoencoder(), tokenizer=spelled,
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        transformer=flux2_transformer(),
    )  # fmt: skip
    pipe.default_sample_size = LATENT
    return pipe
