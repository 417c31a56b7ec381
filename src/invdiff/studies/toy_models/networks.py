"""The networks of a base model and how they are trained: text encoder, autoencoder, denoiser.

A two-layer CLIP text model with a tokenizer of its own; a small ``AutoencoderKL``, 32 x 32 to
8 x 8; a UNet that is trained on the biased pictures together with its text encoder.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invdiff.core.diffusion.schedule import Schedule, add_noise
from invdiff.data.sets import builtin
from invdiff.engine.distributed import randomness
from invdiff.engine.fitting.simple_loop import Recipe, fit

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


def build_tokenizer(prompts: Iterable[str], length: int) -> CLIPTokenizer:
    """A byte-level tokenizer that knows each word of ``prompts`` and can spell all others."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + WORD_END for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in sorted({word for prompt in prompts for word in prompt.lower().split()}):
        left = word[0]
        for position, letter in enumerate(word[1:], start=2):
            right = letter + WORD_END if position == len(word) else letter
            if (left, right) not in merges:
                merges.append((left, right))
                tokens.append(left + right)
            left += right
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([START, END, *tokens]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def build_encoder(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder for ``tokenizer``."""
    torch.manual_seed(randomness.derive(recipe.seed, "text"))
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=2 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.text_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_autoencoder(recipe: Recipe, image_size: int) -> AutoencoderKL:
    """An autoencoder of the recipe's size, untrained or with the weights it starts from."""
    if recipe.start:
        return AutoencoderKL.from_pretrained(builtin.require_built(recipe.start) / "base" / "vae")
    levels = len(recipe.autoencoder_channels)
    torch.manual_seed(randomness.derive(recipe.seed, "autoencoder"))
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.autoencoder_channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=8,
        sample_size=image_size,
        mid_block_add_attention=False,
    )


def train_autoencoder(
    recipe: Recipe, images: torch.Tensor, folder: Path
) -> tuple[AutoencoderKL, list[float]]:
    """Fit the autoencoder on ``images`` (count, 3, height, width) in [-1, 1].

    The loss is the squared and absolute error of the reconstruction plus a light KL term; the
    scaling factor is then set so that latents have unit variance (Rombach et al. 2022, app. G).
    """
    model = build_autoencoder(recipe, images.shape[-1])

    def loss_of(step: int) -> torch.Tensor:
        pictures = images[randomness.batch_indices(len(images), recipe.batch, recipe.seed, step)]
        posterior = model.encode(pictures).latent_dist
        noise = randomness.generator(recipe.seed, "autoencoder", step)
        error = model.decode(posterior.sample(noise)).sample - pictures
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return error.square().mean() + recipe.l1_weight * error.abs().mean() + recipe.kl_weight * kl

    curve = fit(
        "autoencoder",
        folder,
        {"model": model},
        loss_of,
        steps=recipe.autoencoder_steps,
        rate=recipe.autoencoder_rate,
        save_every=recipe.save_every,
    )
    model.requires_grad_(False).eval()
    sample = encode(model, images[:1024])
    model.register_to_config(scaling_factor=round(1 / sample.std().item(), 5))
    return model, curve


@torch.no_grad()
def encode(model: AutoencoderKL, images: torch.Tensor, batch: int = 64) -> torch.Tensor:
    """The posterior means of ``images``, unscaled: (count, channels, height / 4, width / 4)."""
    return torch.cat([model.encode(part).latent_dist.mode() for part in images.split(batch)])


def build_scheduler() -> DDIMScheduler:
    """Cosine schedule, v-prediction, sampling steps that start at pure noise."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
        set_alpha_to_one=True,
    )


def build_denoiser(recipe: Recipe, latent_size: int) -> UNet2DConditionModel:
    """A denoiser, untrained or with the weights it starts from.

    Attention, and so the prompt, is at the lower resolution only.
    """
    if recipe.start:
        return UNet2DConditionModel.from_pretrained(
            builtin.require_built(recipe.start) / "base" / "unet"
        )
    torch.manual_seed(randomness.derive(recipe.seed, "denoiser"))
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=recipe.denoiser_channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=recipe.text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def train_denoiser(
    recipe: Recipe,
    latents: torch.Tensor,
    prompts: Sequence[str],
    tokenizer: CLIPTokenizer,
    folder: Path,
) -> tuple[torch.nn.ModuleDict, list[float]]:
    """Fit v-prediction on ``latents`` (count, channels, height, width) of unit variance.

    A share of the prompts is replaced by the empty one, so that the model knows a null prompt.
    Returns the exponential moving average of the weights.
    """
    names = ["", *sorted(set(prompts))]
    ids = tokenizer(  # padded as the stock pipeline pads them
        names,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    own = torch.tensor([names.index(prompt) for prompt in prompts])
    scheduler = build_scheduler()
    schedule = Schedule(scheduler.alphas_cumprod, "v")
    unet, encoder = build_denoiser(recipe, latents.shape[-1]), build_encoder(recipe, tokenizer)
    # as one module, so that one average of weights holds both
    model = torch.nn.ModuleDict({"unet": unet, "text_encoder": encoder})
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))

    def loss_of(step: int) -> torch.Tensor:
        chosen = randomness.batch_indices(len(latents), recipe.batch, recipe.seed, step)
        draw = randomness.generator(recipe.seed, "denoiser", step)
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=draw)
        timestep = torch.randint(schedule.timesteps, (len(clean),), generator=draw)
        dropped = torch.rand(len(clean), generator=draw) < recipe.prompt_dropout
        which = own[chosen].masked_fill(dropped, 0)
        signal, sigma = schedule.factors(timestep, clean)
        noisy, condition = add_noise(schedule, clean, noise, timestep), encoder(ids)[0][which]
        prediction = unet(noisy, timestep, encoder_hidden_states=condition).sample
        return (prediction - (signal * noise - sigma * clean)).square().mean()

    curve = fit(
        "denoiser",
        folder,
        {"model": model, "average": average},
        loss_of,
        steps=recipe.denoiser_steps,
        rate=recipe.denoiser_rate,
        save_every=recipe.save_every,
        after_step=lambda _: average.update_parameters(model),
        frozen=("average",),
    )
    averaged = average.module
    assert isinstance(averaged, torch.nn.ModuleDict)
    return averaged.requires_grad_(False).eval(), curve
