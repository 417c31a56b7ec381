"""The numbers of a small base model, in one place."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a small latent text-to-image model of the Stable Diffusion classes is made.

    Sizes are for 32 x 32 pictures on one CPU thread. The loss is taken on v: with the usual
    epsilon loss a small model does not even learn the bias of its data.

    ``start`` names a built-in set: autoencoder and UNet then begin with the weights of its base
    model. The prompt encoder always begins anew, since each set has its own vocabulary.
    """

    start: str = ""
    seed: int = 0
    batch: int = 32
    save_every: int = 250

    latent_channels: int = 4
    autoencoder_channels: tuple[int, ...] = (24, 48, 64)
    autoencoder_steps: int = 2000
    autoencoder_rate: float = 2e-3
    kl_weight: float = 1e-4
    l1_weight: float = 0.1

    text_width: int = 64
    text_layers: int = 2
    text_length: int = 16

    denoiser_channels: tuple[int, ...] = (64, 112)
    denoiser_steps: int = 8000
    denoiser_rate: float = 1e-3
    prompt_dropout: float = 0.10
    ema_decay: float = 0.999

    classifier_steps: int = 1500
    classifier_rate: float = 2e-3

    def facts(self) -> dict[str, Any]:
        """The numbers as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
