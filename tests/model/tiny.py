"""A tiny Stable Diffusion pipeline of the real diffusers classes, random and made in memory."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invdiff.model.lora import adapter

LATENT = 8
"""Height and width of a latent; pictures are twice as large."""
TEXT = 16


def tokenizer() -> CLIPTokenizer:
    """Spells every word letter by letter: no file, no merges, nothing unknown."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def text_encoder(vocabulary: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=TEXT, intermediate_size=2 * TEXT,
            num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=16,
            bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip


def unet(channels: tuple[int, int] = (16, 32), out_channels: int = 4) -> UNet2DConditionModel:
    """Two levels, one with attention: every kind of layer a LoRA goes to."""
    return UNet2DConditionModel(
        sample_size=LATENT, in_channels=4, out_channels=out_channels, layers_per_block=1,
        block_out_channels=channels, norm_num_groups=8, cross_attention_dim=TEXT,
        attention_head_dim=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=2 * LATENT,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1)


def pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """The whole pipeline; the same weights for the same seed, the global generator left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        pipe = StableDiffusionPipeline(
            vae=autoencoder(), text_encoder=text_encoder(len(words)).eval(), tokenizer=words,
            unet=unet(), scheduler=scheduler(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeds(count: int) -> list[torch.Generator]:
    """Generators of pictures 0, 1, ..."""
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def move(module: torch.nn.Module, seed: int = 7, size: float = 0.05) -> None:
    """Let a fresh adapter do something: noise on every tensor, the zero ones included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in adapter.parameters(module):
            tensor.add_(size * torch.randn(tensor.shape, generator=generator))
