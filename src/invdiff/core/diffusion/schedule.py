"""Noise levels: how a latent is noised, and what a denoiser may be asked to predict.

A noise level is a fraction of the schedule in (0, 1]: 0 is clean, 1 is pure noise. Levels mean the
same for every model, timesteps do not. With latent z, Gaussian noise n, and schedule (a, s):

    z_t = a_t z + s_t n        epsilon = n        x0 = z        v = a_t n - s_t z

Most schedules preserve variance, a_t^2 + s_t^2 = 1. A flow (rectified flow, flow matching) goes
straight from the latent to the noise, a_t + s_t = 1 with s_t the level, and its denoiser predicts
the velocity u = n - z.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Prediction = Literal["epsilon", "v", "x0", "flow"]


@dataclass(frozen=True)
class Schedule:
    """A noise schedule and what its denoiser predicts.

    ``alphas_cumprod`` are the squared signal factors a_t^2, one a timestep, falling. The noise
    factors follow from them: sqrt(1 - a_t^2), and 1 - a_t where the prediction is a flow.
    """

    alphas_cumprod: Float[Tensor, " timestep"]
    prediction: Prediction

    @property
    def timesteps(self) -> int:
        """How many discrete timesteps the schedule has."""
        return len(self.alphas_cumprod)

    def timestep(self, level: float) -> int:
        """The timestep nearest to a noise level in (0, 1]."""
        return round(level * (self.timesteps - 1))

    def factors(
        self, timestep: Int[Tensor, " sample"], like: Tensor
    ) -> tuple[Float[Tensor, "sample ..."], Float[Tensor, "sample ..."]]:
        """Signal and noise factors (a_t, s_t), shaped so that they multiply ``like``."""
        square = self.alphas_cumprod.to(like.device, torch.float32)[timestep]
        shape = (-1,) + (1,) * (like.ndim - 1)
        if self.prediction == "flow":
            return square.sqrt().view(shape), (1 - square.sqrt()).view(shape)
        return square.sqrt().view(shape), (1 - square).sqrt().view(shape)


def flow_schedule(timesteps: int) -> Schedule:
    """The straight path from latent to noise; timestep t of 0..``timesteps`` is t / ``timesteps``.

    Flow models (SD3, Flux, Sana) are trained on every level in [0, 1]; the grid is what the method
    asks them at. A sampler's shift moves its steps along the path, not the path.
    """
    return Schedule(torch.linspace(1, 0, timesteps + 1).square(), "flow")


def add_noise(
    schedule: Schedule,
    clean_latent: Float[Tensor, "sample ..."],
    noise: Float[Tensor, "sample ..."],
    timestep: Int[Tensor, " sample"],
) -> Float[Tensor, "sample ..."]:
    """The noisy latent z_t = a_t z + s_t n."""
    signal, sigma = schedule.factors(timestep, clean_latent)
    return signal * clean_latent + sigma * noise


def clean_from_prediction(
    schedule: Schedule,
    prediction: Float[Tensor, "sample ..."],
    noisy_latent: Float[Tensor, "sample ..."],
    timestep: Int[Tensor, " sample"],
) -> Float[Tensor, "sample ..."]:
    """The clean latent that a prediction of the schedule's kind implies."""
    signal, sigma = schedule.factors(timestep, noisy_latent)
    if schedule.prediction == "x0":
        return prediction
    if schedule.prediction == "v":
        return signal * noisy_latent - sigma * prediction
    if schedule.prediction == "flow":
        return noisy_latent - sigma * prediction
    return (noisy_latent - sigma * prediction) / signal.clamp_min(1e-4)


def loss_weight(schedule: Schedule, timestep: Int[Tensor, " sample"]) -> Float[Tensor, " sample"]:
    """What a squared error of the *clean latent* weighs, so that the loss is that of v.

    An error d of x0 is an error (a/s) d of epsilon and d/s of v. The epsilon weighting all but
    ignores high noise, where a bias is decided; v keeps it (Salimans & Ho 2022, section 4). On the
    path of a flow the velocity takes the place of v; its error is d/s as well.
    """
    return 1 / variances(schedule, timestep)[1]


def variances(
    schedule: Schedule, timestep: Int[Tensor, " sample"]
) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
    """a_t^2 and s_t^2, the latter at least 1e-4."""
    square = schedule.alphas_cumprod.to(timestep.device, torch.float32)[timestep]
    flow = schedule.prediction == "flow"
    return square, ((1 - square.sqrt()).square() if flow else 1 - square).clamp_min(1e-4)
