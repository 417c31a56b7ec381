"""The autoencoder of a base model: a small ``AutoencoderKL``, 32 x 32 to 8 x 8."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from invdiff.data.sets import builtin
from invdiff.engine.distributed import randomness
from invdiff.engine.fitting.simple_loop import Recipe, fit


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
