"""The training loop."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.amp import GradScaler

from invdiff.engine.distributed.team import Team, noted
from invdiff.engine.fitting.optimisers import Average, make
from invdiff.engine.fitting.simple_loop import cosine
from invdiff.engine.settings.schema import Config
from invdiff.engine.settings.study import INFERRING
from invdiff.engine.training.checks import MidTrainingCheck, held_loss
from invdiff.engine.training.log import Log, Previews
from invdiff.engine.training.min_step import Batch, MinStep
from invdiff.engine.training.mixture import Mixture
from invdiff.engine.training.state import Memory, TrainingState
from invdiff.errors import Interrupted, ModelError
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter
from invdiff.model.lora.arithmetic import fused_branches
from invdiff.terminal import Bar

MOST_NORM = 1.0
WARMUP = 50
MOST_BAD = 20  # steps in a row without a finite gradient that end the training
NAMED = 8  # samples of a bad step that an error names


class Trainer:
    """Trains the adapter of a denoiser; every rank of a team has one, and the leader's writes."""

    def __init__(
        self,
        config: Config,
        denoiser: Denoiser,
        mixture: Mixture,
        feedback: MidTrainingCheck | None = None,
        team: Team | None = None,
    ) -> None:
        section, module = config.train, denoiser.module
        self.config, self.denoiser, self.mixture = config, denoiser, mixture
        self.feedback, self.team = feedback, team or Team()
        # One list, made once: a generator that clipping has exhausted would clip nothing.
        self.parameters = adapter.parameters(module)
        self.state = TrainingState(
            MinStep(config, denoiser, mixture, self.team),
            make(section.optimizer, self.parameters, section.learning_rate),
            Average(section.ema_decay, self.parameters),
            GradScaler(module.device.type, enabled=module.dtype == torch.float16),
            Memory(),
        )

    @property
    def steps(self) -> int:
        """Training steps; with nothing to balance there is nothing to train."""
        nothing = not self.mixture.balanced and self.config.estimator in INFERRING
        return 0 if nothing else self.config.train.steps

    def fit(self, run: Path | None = None, held: Mixture | None = None) -> None:
        """Train from the newest valid checkpoint to the last step; the adapter is the result.

        The leader gives the ``run`` folder to write to and the pictures that are ``held`` out.

        Raises:
            Interrupted: somebody asked to stop; a checkpoint of the last finished step is there.
            ModelError: too many steps in a row had no finite gradient.
        """
        section = self.config.train
        folder = run / "checkpoints" if run else None
        if run:
            self.state.require_room(run, section.checkpoints_total_limit)
        start = done = self.state.resume(folder, self.team)
        with ExitStack() as stack:
            log = stack.enter_context(Log(run, section.report_to, start)) if run else None
            self.team.stop = stack.enter_context(noted())
            stack.enter_context(prepared(self.denoiser.module, self.config))
            try:
                todo = range(start, self.steps)
                for step in Bar(todo, "training", initial=start, total=self.steps, unit="step"):
                    self._pause(step, log, held)
                    numbers = self.step(step)
                    done = step + 1
                    if log:
                        log.write(step, numbers)
                    if folder and (done % section.checkpointing_steps == 0 or done == self.steps):
                        self.state.save(folder, done, section.checkpoints_total_limit)
                    self.team.stop_if_asked()
                self._pause(self.steps, log, held)
            except Interrupted:
                if folder:
                    self.state.save(folder, done, section.checkpoints_total_limit)
                raise
        self.state.average.keep()

    def step(self, step: int) -> dict[str, float]:
        """One step of the optimiser; its numbers for the log."""
        state, section = self.state, self.config.train
        rate = section.learning_rate * cosine(step, self.steps, warmup=WARMUP)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        batch = state.objective.batch(step)
        state.optimiser.zero_grad()
        errors = self._gradients(batch)
        state.objective.update_risks(batch, step)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, MOST_NORM)
        finite = bool(torch.isfinite(norm))
        if finite:
            state.scaler.step(state.optimiser)
            state.average.update(step)
        state.scaler.update()
        self._count(step, finite, batch, errors)
        loss = round(errors.mean().item(), 6)
        state.memory.curve["step"].append(step)
        state.memory.curve["loss"].append(loss)
        return {"loss": loss, "gradient_norm": norm.item(), "learning_rate": rate}

    def record(self) -> dict[str, Any]:
        """The part of ``training.json`` that the loop knows."""
        module, state = self.denoiser.module, self.state
        own = sum(p.numel() for p in self.parameters)
        regrets = state.objective.regrets
        return {
            "steps": self.steps,
            "skipped": self.steps == 0,
            "processes": self.team.size,
            "curve": state.memory.curve,
            "validation": state.memory.validation,
            "bad_steps": state.memory.bad,
            "parameters": own,
            "base_parameters": sum(p.numel() for p in module.parameters()) - own,
            "aims": state.objective.aims,
            "mid_training_checks": state.objective.mid_training_checks,
            "regrets": dict(zip(regrets.prompts, regrets.value.tolist(), strict=True)),
        }

    def _pause(self, step: int, log: Log | None, held: Mixture | None) -> None:
        """What comes before ``step`` now and then, with the weights that are kept in the end.

        Checks, validation and pictures take long: raises Interrupted on all ranks if one of
        them was asked to stop meanwhile.
        """
        section, check = self.config.train, self.feedback
        checks = check and step in {round(share * self.steps) for share in section.share_feedback}
        validates = self._is_due(step, section.validation_steps)
        draws = step > 0 and self._is_due(step, section.preview_steps)
        if not (checks or validates or draws):
            return
        with self.state.average.applied():
            if check and checks:
                self.state.objective.share_feedback(check, step)
            if log and validates and held is not None:
                loss = held_loss(self.config, self.denoiser, held)
                self.state.memory.validation["step"].append(step)
                self.state.memory.validation["loss"].append(loss)
                log.write(step, {"validation_loss": loss})
            if log and draws and check:
                place = log.run / "previews"
                Previews(self.config, self.denoiser, check, place, self.team).draw(step)
            self.team.stop_if_asked()

    def _is_due(self, step: int, every: int) -> bool:
        """Whether what comes ``every`` so many steps, 0 for never, and at the end, comes now."""
        return every > 0 and (step % every == 0 or step == self.steps)

    def _gradients(self, batch: Batch) -> torch.Tensor:
        """Gradients of the mean loss in place, over all ranks; gives back all errors (n,)."""
        state = self.state
        found = torch.zeros(len(batch))
        for number, rows in enumerate(batch.parts):
            errors = state.objective.errors(batch, number)
            share = len(rows) / len(batch)
            state.scaler.scale(errors.mean() * share).backward()
            found[rows] = errors.detach().cpu()
        self.team.sum_gradients(self.parameters, found)
        state.scaler.unscale_(state.optimiser)
        return found

    def _count(self, step: int, finite: bool, batch: Batch, errors: torch.Tensor) -> None:
        """Remember a step without a finite gradient; end the training after too many."""
        memory, most = self.state.memory, min(MOST_BAD, self.steps)
        memory.in_a_row = 0 if finite else memory.in_a_row + 1
        if finite:
            return
        lost = ~torch.isfinite(errors)
        rows = batch.chosen[lost] if lost.any() else batch.chosen
        names = sorted(set(self.mixture.sample_id[rows.numpy()].tolist()))
        memory.bad.append({"step": step, "sample_ids": names})
        if memory.in_a_row < most:
            return
        seen = sorted({name for bad in memory.bad[-most:] for name in bad["sample_ids"]})
        more = f" and {len(seen) - NAMED} more" if len(seen) > NAMED else ""
        raise ModelError(
            f"the last {most} training steps had no finite gradient; samples in them: "
            f" {', '.join(seen[:NAMED])}{more}. Look at these pictures, lower "
            'train.learning_rate, or set model.dtype = "float32"'
        )


@contextmanager
def prepared(module: Any, config: Config) -> Iterator[None]:
    """The network as the settings of the training want it, then as it was."""
    with ExitStack() as after:
        after.enter_context(fused_branches(module))
        if config.train.gradient_checkpointing:
            module.enable_gradient_checkpointing()
            after.callback(module.disable_gradient_checkpointing)
        if config.train.compile:
            module.compile()
            after.callback(partial(setattr, module, "_compiled_call_impl", None))
        yield
