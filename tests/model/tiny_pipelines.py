"""Tiny random pipelines of every family that an adapter is exported for, and their denoisers."""

from collections.abc import Callable

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from tests.model import tiny
from tests.model import tiny_language_models as chat
from tests.model.tiny_families import chroma_transformer

HEADS, HEAD = 2, 8
INNER = HEADS * HEAD


def sdxl_unet() -> UNet2DConditionModel:
    """Added conditions as SDXL has them: six numbers of the size, and the pooled prompt."""
    return UNet2DConditionModel(
        sample_size=tiny.LATENT, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(16, 32), norm_num_groups=8, cross_attention_dim=2 * tiny.TEXT,
        attention_head_dim=(2, 4), use_linear_projection=True, transformer_layers_per_block=(1, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + tiny.TEXT,
    ).eval()  # fmt: skip


def sd3_transformer() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=tiny.LATENT, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=HEAD,
        num_attention_heads=HEADS, joint_attention_dim=INNER, caption_projection_dim=INNER,
        pooled_projection_dim=INNER, out_channels=4, pos_embed_max_size=16,
    ).eval()  # fmt: skip


def flux_transformer(single: int = 1) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=single,
        attention_head_dim=HEAD, num_attention_heads=HEADS, joint_attention_dim=tiny.TEXT,
        pooled_projection_dim=tiny.TEXT, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    ).eval()  # fmt: skip


def pixart_transformer() -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=HEAD, in_channels=4, out_channels=8,
        num_layers=2, cross_attention_dim=INNER, sample_size=tiny.LATENT, patch_size=2,
        caption_channels=INNER, norm_num_groups=4,
    ).eval()  # fmt: skip


def sana_transformer() -> SanaTransformer2DModel:
    return SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=HEADS, attention_head_dim=HEAD,
        num_layers=2, num_cross_attention_heads=HEADS, cross_attention_head_dim=HEAD,
        cross_attention_dim=INNER, caption_channels=INNER, sample_size=tiny.LATENT, patch_size=1,
    ).eval()  # fmt: skip


DENOISERS: dict[str, Callable[[], torch.nn.Module]] = {
    "sd": tiny.unet,
    "sdxl": sdxl_unet,
    "sd3": sd3_transformer,
    "flux": flux_transformer,
    "pixart": pixart_transformer,
    "sana": sana_transformer,
    "qwen-image": chat.qwen_image_transformer,
    "z-image": chat.z_image_transformer,
    "flux2": chat.flux2_transformer,
    "chroma": chroma_transformer,
}


def _projecting_encoder(vocabulary: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=tiny.TEXT, intermediate_size=2 * tiny.TEXT,
            num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=16,
            bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=tiny.TEXT,
        )
    ).eval()  # fmt: skip


def _t5() -> tuple[PreTrainedTokenizerFast, T5EncoderModel]:
    letters = ["<pad>", "</s>", "<unk>", "\u2581", *(chr(code) for code in range(33, 127))]
    backend = Tokenizer(models.Unigram([(one, -1.0) for one in letters], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=16,
    )  # fmt: skip
    config = T5Config(
        vocab_size=len(letters), d_model=tiny.TEXT, d_kv=8, d_ff=2 * tiny.TEXT, num_layers=1,
        num_heads=2, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return words, T5EncoderModel(config).eval()


def sdxl() -> StableDiffusionXLPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny.tokenizer()
        pipe = StableDiffusionXLPipeline(
            vae=tiny.autoencoder(), text_encoder=tiny.text_encoder(len(words)).eval(),
            text_encoder_2=_projecting_encoder(len(words)), tokenizer=words,
            tokenizer_2=tiny.tokenizer(), unet=sdxl_unet(), scheduler=tiny.scheduler(),
            add_watermarker=False,
        )  # fmt: skip
    return _quiet(pipe)


def flux(single: int = 1) -> FluxPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny.tokenizer()
        long_words, long_encoder = _t5()
        vae = tiny.autoencoder()
        vae.register_to_config(shift_factor=0.1)
        pipe = FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae,
            text_encoder=tiny.text_encoder(len(words)).eval(), tokenizer=words,
            text_encoder_2=long_encoder, tokenizer_2=long_words,
            transformer=flux_transformer(single),
        )  # fmt: skip
    return _quiet(pipe)


def _quiet(pipe: DiffusionPipeline) -> DiffusionPipeline:
    pipe.set_progress_bar_config(disable=True)
    return pipe
