"""A tiny random pipeline of each family, of the real classes, made in memory without a hub."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from tests.model import tiny
from tests.model import tiny_language_models as chat

LATENT, TEXT = tiny.LATENT, tiny.TEXT
KL = {
    "block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4,
    "sample_size": 2 * LATENT, "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
STEPS_1000 = {"num_train_timesteps": 1000}


def letters(first: str = "", last: str = "</s>") -> PreTrainedTokenizerFast:
    """Spells every text letter by letter, between a first and a last token of its own."""
    marks = ["<pad>", "<unk>", *filter(None, (first, last))]
    known = {word: row for row, word in enumerate([*marks, *map(chr, range(32, 127)), "\n"])}
    spelling = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    spelling.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    around = " ".join(filter(None, (first, "$A", last)))
    spelling.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(mark, known[mark]) for mark in marks]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=spelling, pad_token="<pad>", unk_token="<unk>", eos_token=last or None
    )


def clip(words: Any) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=TEXT, intermediate_size=2 * TEXT,
            num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16,
            bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=TEXT,
        )
    ).eval()  # fmt: skip


def t5(words: Any, width: int = TEXT) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(words), d_model=width, d_ff=2 * width, d_kv=8, num_layers=1,
            num_heads=2, pad_token_id=0,
        )
    ).eval()  # fmt: skip


def autoencoder(**config: Any) -> AutoencoderKL:
    return AutoencoderKL(**KL, **config).eval()


def sd_epsilon() -> Any:
    pipe = tiny.pipeline()
    pipe.scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    return pipe


def sdxl() -> StableDiffusionXLPipeline:
    words = tiny.tokenizer()
    unet = UNet2DConditionModel(
        sample_size=LATENT, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(16, 32), norm_num_groups=8, cross_attention_dim=2 * TEXT,
        attention_head_dim=(2, 4), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + TEXT,
    ).eval()  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=autoencoder(), unet=unet, scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        text_encoder=clip(words), tokenizer=words, text_encoder_2=clip(words), tokenizer_2=words,
        add_watermarker=False,
    )  # fmt: skip


def sd3() -> StableDiffusion3Pipeline:
    words, spelled = tiny.tokenizer(), letters()
    transformer = SD3Transformer2DModel(
        sample_size=LATENT, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=2 * TEXT,
        caption_projection_dim=16, pooled_projection_dim=2 * TEXT, pos_embed_max_size=LATENT,
    ).eval()  # fmt: skip
    return StableDiffusion3Pipeline(
        vae=autoencoder(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=clip(words), tokenizer=words, text_encoder_2=clip(words), tokenizer_2=words,
        text_encoder_3=t5(spelled, 2 * TEXT), tokenizer_3=spelled,
    )  # fmt: skip


def flux(guidance_embeds: bool = True) -> FluxPipeline:
    words, spelled = tiny.tokenizer(), letters()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=TEXT, pooled_projection_dim=TEXT,
        axes_dims_rope=(4, 4, 8), guidance_embeds=guidance_embeds,
    ).eval()  # fmt: skip
    pipe = FluxPipeline(
        vae=autoencoder(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=tiny.text_encoder(len(words)).eval(), tokenizer=words,
        text_encoder_2=t5(spelled), tokenizer_2=spelled,
    )  # fmt: skip
    pipe.default_sample_size = LATENT  # 128 in every Flux, whatever its transformer
    return pipe


def chroma_transformer() -> ChromaTransformer2DModel:
    return ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=TEXT, axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1,
    ).eval()  # fmt: skip


def chroma() -> ChromaPipeline:
    spelled = letters()
    pipe = ChromaPipeline(
        vae=autoencoder(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        transformer=chroma_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=t5(spelled), tokenizer=spelled,
    )  # fmt: skip
    pipe.default_sample_size = LATENT
    return pipe


def pixart() -> PixArtSigmaPipeline:
    spelled = letters()
    transformer = PixArtTransformer2DModel(
        sample_size=LATENT, patch_size=2, in_channels=4, out_channels=8, num_layers=2,
        num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, caption_channels=TEXT,
    ).eval()  # fmt: skip
    return PixArtSigmaPipeline(
        vae=autoencoder(), transformer=transformer, scheduler=DPMSolverMultistepScheduler(),
        text_encoder=t5(spelled), tokenizer=spelled,
    )  # fmt: skip


def sana() -> SanaPipeline:
    spelled = letters("<bos>", "")
    kinds, none = ("ResBlock", "EfficientViTBlock"), ()
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=kinds,
        decoder_block_types=kinds, encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=(none, (5,)),
        decoder_qkv_multiscales=(none, (5,)), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm",
        decoder_act_fns="silu", scaling_factor=0.41407,
    ).eval()  # fmt: skip
    transformer = SanaTransformer2DModel(
        sample_size=2 * LATENT, patch_size=1, in_channels=4, out_channels=4, num_layers=2,
        num_attention_heads=2, attention_head_dim=8, num_cross_attention_heads=2,
        cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=TEXT,
    ).eval()  # fmt: skip
    encoder = Gemma2Model(
        Gemma2Config(
            vocab_size=len(spelled), hidden_size=TEXT, intermediate_size=2 * TEXT,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
            pad_token_id=0, bos_token_id=2, eos_token_id=None,
        )
    ).eval()  # fmt: skip
    return SanaPipeline(
        tokenizer=spelled, text_encoder=encoder, vae=vae, transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd-epsilon": sd_epsilon,
    "sd-v": tiny.pipeline,
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "pixart": pixart,
    "sana": sana,
    "qwen-image": chat.qwen_image,
    "z-image": chat.z_image,
    "flux2-klein": chat.flux2_klein,
    "flux2": chat.flux2,
    "chroma": chroma,
}


def pipeline(family: str, seed: int = 0, **options: Any) -> Any:
    """The same weights for the same seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = BUILDERS[family](**options)
    pipe.set_progress_bar_config(disable=True)
    return pipe
