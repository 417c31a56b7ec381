"""The min step: what one training step draws, the loss of it, and the risks that it follows.

:meth:`MinStep.batch` draws from the mixture of the groups (:mod:`mixture`, whose weights are
:func:`core.balancing.reweighting.mixture_shares` of the running regrets), :meth:`MinStep.errors`
is the loss that is stepped on, :meth:`MinStep.update_risks` keeps the regrets.

Step n draws its whole batch from the generator that belongs to n, whoever computes it: a process
takes its rows of the batch, so neither their number nor an interruption changes a draw.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from invdiff.core.balancing.aims import corrected_mix
from invdiff.core.diffusion.schedule import add_noise, clean_from_prediction
from invdiff.core.groups.memberships import Mix
from invdiff.engine.base_model.conditions import encode_known
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.team import Team
from invdiff.engine.settings.schema import Config
from invdiff.engine.training.checks import (
    MidTrainingCheck,
    check_shares,
    feedback_scales,
    first_aims,
)
from invdiff.engine.training.mixture import RISKS, Mixture, Regrets
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter

REGRET_EVERY = 8
VARIANCE_WARMUP = 100  # steps: the first regrets are of a few images, and mostly chance


@dataclass(frozen=True)
class Batch:
    """The images of one step (n,), noised; ``parts`` are the rows of each pass of this process.

    ``target`` is known in the rows of this process only; where an image is ``kept`` the base
    model's estimate takes its place. ``risk`` is filled in as errors are computed: those of the
    clean latents, in the rows of this process.
    """

    chosen: torch.Tensor
    timestep: torch.Tensor
    dropped: torch.Tensor
    kept: torch.Tensor
    clean: torch.Tensor
    noisy: torch.Tensor
    target: torch.Tensor
    parts: tuple[torch.Tensor, ...]
    risk: torch.Tensor

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def rows(self) -> torch.Tensor:
        """The rows of this process."""
        return torch.cat(self.parts)


class MinStep:
    """The loss of each step, with the running risks and the aims that it follows."""

    def __init__(
        self, config: Config, denoiser: Denoiser, mixture: Mixture, team: Team | None = None
    ) -> None:
        self.config, self.denoiser, self.mixture = config, denoiser, mixture
        self.team = team or Team()
        self.known = encode_known(denoiser, mixture.prompt.tolist())
        self.risks = RISKS[config.study.objective]
        self.regrets = Regrets(mixture.balanced, groups=mixture.groups)
        self.aims: dict[str, Mix] = first_aims(config, mixture)
        self.mid_training_checks: list[dict[str, Any]] = []
        self.others = torch.from_numpy(mixture.others)

    def batch(self, step: int) -> Batch:
        """Everything that ``step`` draws."""
        section, study = self.config.train, self.config.study
        schedule = self.denoiser.schedule
        owner = step_owner(self.config.seed, step)
        tilt = min(1.0, step / VARIANCE_WARMUP) * section.variance_weight
        weights = self.mixture.weights(self.regrets, tilt, self.aims, self.risks.mix)
        chosen = torch.multinomial(weights, section.batch_size, replacement=True, generator=owner)
        levels = stratified_levels(section.batch_size, study.level_focus, owner)
        timestep = (levels * (schedule.timesteps - 1)).round().long()
        dropped = torch.rand(section.batch_size, generator=owner) < section.prompt_dropout
        kept = self.others[chosen] & ~dropped  # what the null prompt shows is no prompt's own
        clean = self.mixture.clean(chosen, self.config.seed, step)
        noise = torch.randn(clean.shape, generator=owner)
        noisy = add_noise(schedule, clean, noise, timestep)
        parts = self.team.parts(section.batch_size, section.gradient_accumulation_steps)
        target = clean
        if study.target == "stable":
            own = torch.cat(parts)
            target = self.mixture.target(
                schedule, noisy, timestep, chosen, dropped, weights, owner, own
            )
        risk = torch.zeros(section.batch_size)
        return Batch(chosen, timestep, dropped, kept, clean, noisy, target, parts, risk)

    def errors(self, batch: Batch, part: int) -> torch.Tensor:
        """Weighted squared errors (n,) of one part, with a graph for its gradient."""
        rows = batch.parts[part]
        estimate, target = self._estimate(batch, rows), batch.target[rows]
        batch.risk[rows] = self._weighted(batch, rows, estimate.detach(), batch.clean[rows]).cpu()
        if (own := batch.kept[rows]).any():
            target[own] = self._base_estimate(batch, rows[own]).to(target)
        return self._weighted(batch, rows, estimate, target)

    @torch.no_grad()
    def update_risks(self, batch: Batch, step: int) -> None:
        """Update the running group risks now and then, once the errors of ``batch`` are there.

        The frozen base sees the same noise.
        """
        if step % REGRET_EVERY:
            return
        risk = batch.risk.clone()
        if self.risks.over_base:
            for rows in batch.parts:
                estimate = self._base_estimate(batch, rows)
                risk[rows] -= self._weighted(batch, rows, estimate, batch.clean[rows]).cpu()
        risk = self.team.sum(risk)
        finite = torch.isfinite(risk).numpy()
        images = batch.chosen.numpy()[finite]
        pool, against = self.mixture.pool[images], self.mixture.against[images]
        self.regrets.update(risk.numpy()[finite], pool, against)

    def share_feedback(self, check: MidTrainingCheck, step: int) -> None:
        """Aim against the imbalance that pictures of the half-trained model still show."""
        shares = check_shares(self.config, self.denoiser, self.mixture, check, step, self.team.map)
        if not shares:
            return
        scales = feedback_scales(self.config)
        for name, seen in shares.items():
            wanted = self.mixture.wanted_of(name)
            self.aims[name] = corrected_mix(self.aims.get(name, wanted), seen, scales, wanted)
        self.mid_training_checks.append(
            {
                "step": step,
                "guidance_scales": scales,
                "shares": {name: np.stack(seen).tolist() for name, seen in shares.items()},
                "aims": dict(self.aims),
            }
        )

    def _estimate(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """The clean latents that the network predicts."""
        schedule, device = self.denoiser.schedule, self.denoiser.module.device
        prompts = self.mixture.prompt[batch.chosen[rows].numpy()]
        names = np.where(batch.dropped[rows].numpy(), "", prompts)
        condition = self.known(names.tolist(), device)
        noisy, timestep = batch.noisy[rows].to(device), batch.timestep[rows].to(device)
        prediction = self.denoiser.predict(noisy, timestep, condition)
        return clean_from_prediction(schedule, prediction, noisy, timestep)

    @torch.no_grad()
    def _base_estimate(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """Those that the network predicts without the adapter."""
        with adapter.disabled(self.denoiser.module):
            return self._estimate(batch, rows)

    def _weighted(
        self, batch: Batch, rows: torch.Tensor, estimate: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Squared errors (n,) of estimates, with the weights of their noise levels."""
        timestep = batch.timestep[rows].to(estimate.device)
        error = (estimate - target.to(estimate.device)).square().flatten(1).mean(1)
        return self.risks.weight(self.denoiser.schedule, timestep) * error


def stratified_levels(count: int, focus: float, owner: torch.Generator) -> torch.Tensor:
    """Noise levels in (0, 1], one from each of ``count`` equal slices of their distribution.

    The density is proportional to level^(focus - 1): 1 is even, more prefers high noise, where a
    bias is decided. Stratified, because the level explains most of the variance of a loss.
    """
    uniform = (torch.arange(count) + torch.rand(count, generator=owner)) / count
    return uniform[torch.randperm(count, generator=owner)] ** (1 / focus)


def step_owner(seed: int, step: int) -> torch.Generator:
    """The generator of everything that training step ``step`` draws."""
    return randomness.generator(seed, "train", step)
