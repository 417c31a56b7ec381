"""What one training step draws, and the loss of it.

Step n draws its whole batch from the generator that belongs to n, whoever computes it: a process
takes its rows of the batch, so neither their number nor an interruption changes a draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from invdiff.core.balancing.aims import corrected_mix, first_aim
from invdiff.core.diffusion.schedule import add_noise, clean_from_prediction
from invdiff.core.groups.memberships import Mix, shares_of
from invdiff.engine.base_model.conditions import encode_known
from invdiff.engine.discovery.groups import Model
from invdiff.engine.distributed.team import Team
from invdiff.engine.sampling.group_shares import log_ratios
from invdiff.engine.settings.config import Config
from invdiff.engine.training.mixture import Mixture
from invdiff.engine.training.noise_levels import step_owner, stratified_levels
from invdiff.engine.training.regrets import Regrets
from invdiff.engine.training.risks import RISKS
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter

REGRET_EVERY = 8
VARIANCE_WARMUP = 100  # steps: the first regrets are of a few images, and mostly chance


@dataclass(frozen=True)
class Batch:
    """The images of one step (n,), noised; ``parts`` are the rows of each pass of this process.

    ``target`` holds the rows of this process only, in the order of ``rows``; where an image is
    ``kept`` the base model's estimate takes its place. ``risk`` is filled in as errors are
    computed: those of the clean latents, in the rows of this process.
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


@dataclass(frozen=True)
class MidTrainingCheck:
    """What looking back needs: the model of each prompt's groups, and captions to draw with."""

    models: Mapping[str, Model]
    captions: Mapping[str, Sequence[str]]


class Objective:
    """The loss of each step, with the running risks and the aims that it follows."""

    def __init__(
        self, config: Config, denoiser: Denoiser, mixture: Mixture, team: Team | None = None
    ) -> None:
        self.config, self.denoiser, self.mixture = config, denoiser, mixture
        self.team = team or Team()
        self.known = encode_known(denoiser, mixture.prompt.tolist())
        self.risks = RISKS[config.study.objective]
        self.regrets = Regrets(mixture.balanced, groups=mixture.groups)
        self.aims: dict[str, Mix] = self._first_aims()
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
        rows = torch.cat(parts)
        target = clean[rows]
        if study.target == "stable":
            target = self.mixture.target(
                schedule, noisy, timestep, chosen, dropped, weights, owner, rows
            )
        risk = torch.zeros(section.batch_size)
        return Batch(chosen, timestep, dropped, kept, clean, noisy, target, parts, risk)

    def errors(self, batch: Batch, part: int) -> torch.Tensor:
        """Weighted squared errors (n,) of one part, with a graph for its gradient."""
        start = sum(len(rows) for rows in batch.parts[:part])
        rows = batch.parts[part]
        estimate = self._estimate(batch, rows)
        batch.risk[rows] = self._weighted(batch, rows, estimate.detach(), batch.clean[rows]).cpu()
        target = batch.target[start : start + len(rows)]
        if (own := batch.kept[rows]).any():
            target = target.clone()
            target[own] = self._base_estimate(batch, rows[own]).to(target)
        return self._weighted(batch, rows, estimate, target)

    @torch.no_grad()
    def look(self, batch: Batch, step: int) -> None:
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

    def share_feedback(self, feedback: MidTrainingCheck, step: int) -> None:
        """Aim against the imbalance that pictures of the half-trained model still show.

        The model of the inferred groups estimates it, at the scales that people sample with.
        """
        models = feedback.models
        chosen = {name: models[name] for name in self.mixture.monitored if name in models}
        if not chosen:
            return
        seen: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
        for scale in self.scales:
            ratios = log_ratios(
                self.config,
                self.denoiser,
                None,  # the network carries the adapter already
                1.0,
                chosen,
                feedback.captions,
                scale=scale,
                owner=f"feedback {step} {scale:g}",
                title=f"looking back at step {step}, scale {scale:g}",
                spread=self.team.map,
            )
            for name, values in ratios.items():
                seen[name].append(models[name].shares(values))
        for name, shares in seen.items():
            wanted = self.mixture.wanted_of(name)
            aim = self.aims.get(name, wanted)
            self.aims[name] = corrected_mix(aim, shares, self.scales, wanted)
        told = {name: np.stack(shares).tolist() for name, shares in seen.items()}
        self.mid_training_checks.append(
            {"step": step, "guidance_scales": self.scales, "shares": told, "aims": dict(self.aims)}
        )

    @property
    def scales(self) -> list[float]:
        """The guidance scales at which pictures are to show the wanted mix."""
        return self.config.train.share_feedback_scales or [self.config.calibrate.guidance_scale]

    def _first_aims(self) -> dict[str, Mix]:
        """Where training starts from, for each prompt that is to reach another mix than even.

        Also for prompts that show that mix already: guidance would not leave it so, as it leaves
        even shares.
        """
        wanted = {
            name: self.mixture.wanted_of(name)
            for name in (*self.mixture.balanced, *self.mixture.monitored)
        }
        return {
            name: first_aim(mix, self.scales)
            for name, mix in wanted.items()
            if np.ptp(shares_of(mix)[shares_of(mix) > 0]) > 1e-9
        }

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
