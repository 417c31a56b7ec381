"""The denoiser of a base model, trained on the biased pictures with its text encoder."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextModel, CLIPTokenizer

from invdiff.core.diffusion.schedule import Schedule, add_noise
from invdiff.data.sets import builtin
from invdiff.engine.distributed import randomness
from invdiff.engine.fitting.simple_loop import Recipe, fit
from invdiff.studies.toy_models.text import build_encoder, token_ids


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


class TextToLatent(torch.nn.Module):
    """Denoiser and text encoder as one module, so that one average of weights holds both."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(
        self, noisy: torch.Tensor, timestep: torch.Tensor, ids: torch.Tensor, which: torch.Tensor
    ) -> torch.Tensor:
        """Predict v for ``noisy``; prompt ``which[i]`` of ``ids`` belongs to latent i."""
        condition = self.text_encoder(ids).last_hidden_state[which]
        return self.unet(noisy, timestep, encoder_hidden_states=condition).sample


def train_denoiser(
    recipe: Recipe,
    latents: torch.Tensor,
    prompts: Sequence[str],
    tokenizer: CLIPTokenizer,
    folder: Path,
) -> tuple[TextToLatent, list[float]]:
    """Fit v-prediction on ``latents`` (count, channels, height, width) of unit variance.

    A share of the prompts is replaced by the empty one, so that the model knows a null prompt.
    Returns the exponential moving average of the weights.
    """
    names = ["", *sorted(set(prompts))]
    ids = token_ids(tokenizer, names)
    own = torch.tensor([names.index(prompt) for prompt in prompts])
    scheduler = build_scheduler()
    schedule = Schedule(scheduler.alphas_cumprod, "v")
    model = TextToLatent(
        build_denoiser(recipe, latents.shape[-1]), build_encoder(recipe, tokenizer)
    )
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
        prediction = model(add_noise(schedule, clean, noise, timestep), timestep, ids, which)
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
    assert isinstance(averaged, TextToLatent)
    return averaged.requires_grad_(False).eval(), curve
