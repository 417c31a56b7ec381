"""Stage 2, the min step: a LoRA on the frozen denoiser, trained on the balanced mixture.

Writes ``adapter/`` (a stock LoRA with its settings in the header, and the calibration) and
``training.json``; ``checkpoints/`` lets an interrupted training go on to the same weights.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from invdiff.core.objective import corrected_aim
from invdiff.core.schedule import add_noise, clean_from_prediction, loss_weight
from invdiff.engine import checkpoint, order
from invdiff.engine.calibrate import calibrate
from invdiff.engine.certify import certify
from invdiff.engine.config import Config
from invdiff.engine.files import read_json, read_parquet, write_json
from invdiff.engine.generated import load_models, log_ratios
from invdiff.engine.measure import encode, open_run_samples
from invdiff.engine.mixture import Mixture, Regrets, step_owner, stratified_levels
from invdiff.engine.models import resolve, source_of
from invdiff.engine.pretrain.loop import cosine
from invdiff.engine.prompt_groups import captions_drawn
from invdiff.engine.prompts import encode_known
from invdiff.engine.run import RunFolder
from invdiff.errors import ModelError, RunError
from invdiff.model import adapter
from invdiff.model.denoiser import Denoiser

REGRET_EVERY = 8
PATIENCE = 20  # steps in a row; half precision overflows now and then


def train(run: RunFolder) -> None:
    """Train the guidance, or go on doing so; then find its strength."""
    if run.done("train"):
        return
    with run.stage("train") as stage:
        record = fit(run)
        found = calibrate(run)
        adapter.write_settings(run.path / "adapter", **_how_to_use(run, found))
        write_json(run.path / "adapter" / "calibration.json", found)
        write_json(run.path / "training.json", record)
        stage.facts["steps"] = record["steps"]


def _how_to_use(run: RunFolder, found: dict[str, Any]) -> dict[str, Any]:
    """What the adapter's header tells its users: base model, strength, window and scale."""
    return {
        "base_model": run.base_model,
        "recommended_strength": found["strength"],
        "window": run.config.sample.window,
        "guidance_scale": found["guidance_scale"],
    }


def fit(run: RunFolder) -> dict[str, Any]:
    """Train, write the adapter and give back the record; the network is left as it was."""
    started = time.monotonic()
    denoiser, mixture = resolve(source_of(run)), load_mixture(run)
    module, seed = denoiser.module, run.config.seed
    adapter.add_lora(module, run.config.train.rank, order.derive(seed, "lora"))
    try:
        trainer = Trainer(run.config, denoiser, mixture)
        trainer.fit(run)
        record = trainer.record()
        record["certificate"] = certify(run.config, denoiser, mixture)
        adapter.save(module, run.path / "adapter", {"seed": seed, "rank": run.config.train.rank})
    finally:
        adapter.remove(module)
    record["seconds"] = round(time.monotonic() - started, 1)
    return record


def load_mixture(run: RunFolder) -> Mixture:
    """Latents and groups of the run's data, matched by sample id."""
    samples = open_run_samples(run)
    groups = read_parquet(run.path / "groups.parquet")
    pairs = zip(groups["prompt"], groups["q_1"], strict=True)
    group_of = dict(zip(groups["sample_id"], pairs, strict=True))
    found = read_json(run.path / "discovery.json")["prompts"]
    balanced = tuple(sorted(name for name, entry in found.items() if entry["found"]))
    watched = tuple(sorted(name for name, entry in found.items() if entry["watched"]))
    unknown = sum(name not in group_of for name in samples.sample_id)
    if unknown:
        raise RunError(
            f"{unknown} of {len(samples)} pictures of {run.config.data.path} were not there when "
            "the groups were inferred: run discover again with --redo, or take another --out"
        )
    pool = np.array([group_of[name][0] for name in samples.sample_id])
    against = np.array([group_of[name][1] for name in samples.sample_id])
    if run.config.train.objective == "reference":
        pool = np.full_like(pool, "*")
        balanced, watched = ("*",) if balanced else (), ()
    captions = np.array(samples.caption)
    return Mixture(encode(run, samples), captions, pool, against, balanced, watched)


@dataclass
class Trainer:
    """The training loop and what it remembers."""

    config: Config
    denoiser: Denoiser
    mixture: Mixture
    curve: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "loss": []})

    def __post_init__(self) -> None:
        self.known = encode_known(self.denoiser, self.mixture.prompt.tolist())
        self.regrets = Regrets(self.mixture.balanced)
        self.aims: dict[str, float] = {}

    @property
    def steps(self) -> int:
        """Training steps; with nothing to balance there is nothing to train."""
        section = self.config
        nothing = not self.mixture.balanced and section.discover.estimator == "semantic"
        return 0 if nothing else section.train.steps

    def fit(self, run: RunFolder) -> None:
        """Train from the newest valid checkpoint to the last step."""
        section, module = self.config.train, self.denoiser.module
        # One list, made once: a generator that clipping has exhausted would clip nothing.
        parameters = adapter.parameters(module)
        optimiser = torch.optim.AdamW(parameters, lr=section.learning_rate, weight_decay=1e-2)
        start, lost = self._resume(run, optimiser), 0
        rounds = {round(share * self.steps) for share in section.feedback}
        for step in tqdm(
            range(start, self.steps), "training", initial=start, total=self.steps, unit="step"
        ):
            if step in rounds:
                self.look_back(run, step)
            for group in optimiser.param_groups:
                group["lr"] = section.learning_rate * cosine(step, self.steps, warmup=50)
            loss = self.loss(step)
            optimiser.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            lost = 0 if torch.isfinite(norm) else lost + 1
            if lost == 0:
                optimiser.step()
            elif lost == min(PATIENCE, self.steps):
                raise ModelError(
                    f"the last {lost} training steps had no finite gradient: lower "
                    'train.learning_rate, or set model.dtype = "float32"'
                )
            self.curve["step"].append(step)
            self.curve["loss"].append(round(loss.item(), 6))
            if (step + 1) % section.save_every == 0 and step + 1 < self.steps:
                self._save(run, optimiser, step + 1)

    def look_back(self, run: RunFolder, step: int) -> None:
        """Aim against the imbalance that pictures of the half-trained model still show.

        The model of the inferred groups estimates it, at the scales that people sample with.
        """
        models = load_models(run.path / "group_model.safetensors")
        chosen = {name: models[name] for name in self.mixture.watched if name in models}
        if not chosen:
            return
        scales = self.config.train.feedback_scales or [self.config.calibrate.guidance_scale]
        seen: dict[str, list[float]] = {name: [] for name in chosen}
        for scale in scales:
            ratios = log_ratios(
                self.config,
                self.denoiser,
                None,  # the network carries the adapter already
                1.0,
                chosen,
                captions_drawn(run),
                scale=scale,
                owner=f"feedback {step} {scale:g}",
                title=f"looking back at step {step}, scale {scale:g}",
            )
            for name, values in ratios.items():
                seen[name].append(models[name].share(values))
        for name, shares in seen.items():
            self.aims[name] = corrected_aim(self.aims.get(name, 0.5), shares, scales)

    def loss(self, step: int) -> torch.Tensor:
        """The loss of one step, in the loss space of the settings, averaged over dimensions."""
        section, schedule = self.config.train, self.denoiser.schedule
        owner = step_owner(self.config.seed, step)
        rise = min(1.0, step / section.variance_warmup) if section.variance_warmup else 1.0
        tilt = 0.0 if section.objective == "mean" else rise * section.variance_weight
        weights = self.mixture.weights(self.regrets, tilt, self.aims)
        chosen = torch.multinomial(weights, section.batch, replacement=True, generator=owner)
        levels = stratified_levels(section.batch, section.level_focus, owner)
        timestep = (levels * (schedule.timesteps - 1)).round().long()
        dropped = torch.rand(section.batch, generator=owner) < section.prompt_dropout
        clean = self.mixture.latents[chosen]
        noise = torch.randn(clean.shape, generator=owner)
        noisy = add_noise(schedule, clean, noise, timestep)
        target = clean
        if section.target == "stable":
            target = self.mixture.target(schedule, noisy, timestep, chosen, dropped, weights, owner)
        error = self._errors(noisy, timestep, chosen, dropped, target)
        if section.objective != "mean" and step % REGRET_EVERY == 0:
            self._look(noisy, timestep, chosen, dropped, clean)
        return error.mean()

    def _errors(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        chosen: torch.Tensor,
        dropped: torch.Tensor,
        target: torch.Tensor,
    ) -> torch.Tensor:
        """Weighted squared errors (n,) of the clean latent that the network predicts."""
        schedule, device = self.denoiser.schedule, self.denoiser.module.device
        names = np.where(dropped.numpy(), "", self.mixture.prompt[chosen.numpy()])
        condition = self.known(names.tolist(), device)
        noisy, timestep = noisy.to(device), timestep.to(device)
        prediction = self.denoiser.predict(noisy, timestep, condition)
        estimate = clean_from_prediction(schedule, prediction, noisy, timestep)
        error = (estimate - target.to(device)).square().flatten(1).mean(1)
        return loss_weight(schedule, self.config.train.loss_space, timestep) * error

    @torch.no_grad()
    def _look(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        chosen: torch.Tensor,
        dropped: torch.Tensor,
        clean: torch.Tensor,
    ) -> None:
        """Update the running group risks; the frozen base sees the same noise."""
        risk = self._errors(noisy, timestep, chosen, dropped, clean)
        if self.config.train.objective == "regret":
            with adapter.disabled(self.denoiser.module):
                risk = risk - self._errors(noisy, timestep, chosen, dropped, clean)
        rows = chosen.numpy()
        self.regrets.update(risk.cpu().numpy(), self.mixture.pool[rows], self.mixture.against[rows])

    def record(self) -> dict[str, Any]:
        """The part of ``training.json`` that the loop knows."""
        module = self.denoiser.module
        own = sum(p.numel() for p in adapter.parameters(module))
        return {
            "steps": self.steps,
            "skipped": self.steps == 0,
            "curve": self.curve,
            "parameters": own,
            "base_parameters": sum(p.numel() for p in module.parameters()) - own,
            "aims": self.aims,
            "regrets": dict(zip(self.regrets.prompts, self.regrets.value.tolist(), strict=True)),
        }

    def _save(self, run: RunFolder, optimiser: torch.optim.Optimizer, step: int) -> None:
        weights = {f"adapter/{k}": v for k, v in adapter.state(self.denoiser.module).items()}
        tensors = weights | checkpoint.pack(optimiser=optimiser)
        facts = {
            "curve": self.curve,
            "regrets": self.regrets.value.tolist(),
            "aims": self.aims,
        }
        checkpoint.save(run.path / "checkpoints", step, tensors, facts)

    def _resume(self, run: RunFolder, optimiser: torch.optim.Optimizer) -> int:
        found = checkpoint.newest(run.path / "checkpoints")
        if found is None:
            return 0
        tensors, facts = found
        own = {
            k.removeprefix("adapter/"): v for k, v in tensors.items() if k.startswith("adapter/")
        }
        adapter.load_state(self.denoiser.module, own)
        checkpoint.unpack(tensors, optimiser=optimiser)
        self.curve, self.aims = facts["curve"], facts["aims"]
        self.regrets.value = np.array(facts["regrets"], dtype=float).reshape(-1, 2)
        return int(facts["step"])
