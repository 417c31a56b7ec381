"""Stage 2, the min step: a LoRA on the frozen denoiser, trained on the balanced mixture.

Writes ``adapter/`` (a stock LoRA with its settings in the header, and the calibration),
``training.json`` and ``training-log.jsonl``; ``checkpoints/`` lets an interrupted training go on to
the same weights.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from invdiff.core.groups.memberships import Mix
from invdiff.engine.base_model.loading import ModelRef, Source, resolve
from invdiff.engine.discovery.groups import captions_drawn, load_models, membership_of, wanted_mix
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.pool import kept_workers, worker_count
from invdiff.engine.distributed.team import Team, assembled
from invdiff.engine.encoding.data import open_run_samples
from invdiff.engine.encoding.latents import encode
from invdiff.engine.encoding.session import source_of
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.sampling.calibrate import calibrate
from invdiff.engine.settings.config import Config
from invdiff.engine.storage.files import read_json, read_parquet, write_json
from invdiff.engine.training.certificate import certify
from invdiff.engine.training.min_step import MidTrainingCheck
from invdiff.engine.training.mixture import Mixture
from invdiff.engine.training.risks import RISKS, Risks
from invdiff.engine.training.trainer import Trainer
from invdiff.engine.training.validation import hold_out
from invdiff.errors import RunError
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter, adapter_file


def train(run: RunFolder) -> None:
    """Train the guidance, or go on doing so; then find its strength."""
    if run.done("train"):
        return
    with run.stage("train") as stage:
        record = fit_guidance(run)
        with kept_workers():
            found = calibrate(run)
        adapter_file.write_settings(run.path / "adapter", **_how_to_use(run, found))
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


def fit_guidance(run: RunFolder) -> dict[str, Any]:
    """Train, write the adapter and give back the record; the network is left as it was."""
    started = time.monotonic()
    config, source = run.config, source_of(run)
    mixture, held = hold_out(config, load_mixture(run))
    feedback = load_mid_training_check(run)
    with assembled(team_size(config, source)) as team:
        if team.size > 1:
            _require_reference(source)
            team.ask(help_train, config, source, RISKS[config.study.objective])
        with fresh_adapter(resolve(source), config) as denoiser:
            trainer = Trainer(config, denoiser, *_shared(team, mixture, feedback), team)
            trainer.fit(run.path, held)
            record = trainer.record()
            record["certificate"] = certify(config, denoiser, mixture)
            settings = {"seed": config.seed, "rank": config.train.rank}
            adapter_file.save(denoiser.module, run.path / "adapter", settings)
    record["seconds"] = round(time.monotonic() - started, 1)
    return record


def team_size(config: Config, source: Source) -> int:
    """How many processes train: as many as asked for, and what fits where that is automatic.

    A pipeline object stays in the process that made it.
    """
    section = config.train
    if section.processes or not isinstance(source, ModelRef):
        return section.processes or 1
    return min(
        worker_count(0, source.device), section.batch_size // section.gradient_accumulation_steps
    )


def help_train(team: Team, config: Config, source: ModelRef, risks: Risks) -> None:
    """The part of every rank but the first; whoever registered ``risks`` is not imported here."""
    RISKS[config.study.objective] = risks
    if source.device == "cuda":  # not run in our tests: they have no GPU
        source = replace(source, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    mixture, feedback = _shared(team, None, None)
    with fresh_adapter(resolve(source), config) as denoiser:
        Trainer(config, denoiser, mixture, feedback, team).fit()


@contextmanager
def fresh_adapter(denoiser: Denoiser, config: Config) -> Iterator[Denoiser]:
    """The denoiser with an adapter that changes nothing yet; it is taken out afterwards."""
    adapter.add_lora(denoiser.module, config.train.rank, randomness.derive(config.seed, "lora"))
    try:
        yield denoiser
    finally:
        adapter.remove(denoiser.module)


def _shared(
    team: Team, mixture: Mixture | None, feedback: MidTrainingCheck | None
) -> tuple[Mixture, MidTrainingCheck]:
    """The leader's mixture and feedback, on every rank."""
    latents = team.share_tensor(mixture.latents if mixture else None)
    light = None
    if mixture:
        nothing = torch.zeros(0)
        views = None if mixture.flipped is None else nothing
        light = replace(mixture, latents=nothing, flipped=views)
    known, feedback = team.share((light, feedback))
    if known.flipped is not None:
        known = replace(known, flipped=team.share_tensor(mixture.flipped if mixture else None))
    return replace(known, latents=latents), feedback


def _require_reference(source: Source) -> None:
    if not isinstance(source, ModelRef):
        raise RunError(
            "a pipeline object cannot be handed to other processes: give model.path instead, or "
            "train in one process (train.processes = 1)"
        )


def load_mid_training_check(run: RunFolder) -> MidTrainingCheck:
    """What looking back at generated pictures needs, as discovery left it."""
    path = run.path / "group_model.safetensors"
    return MidTrainingCheck(load_models(path) if path.is_file() else {}, captions_drawn(run))


def load_mixture(run: RunFolder) -> Mixture:
    """Latents and groups of the run's data, matched by sample id."""
    samples = open_run_samples(run)
    groups = read_parquet(run.path / "groups.parquet")
    member = membership_of(groups)
    pairs = zip(groups["prompt"], member, strict=True)
    group_of = dict(zip(groups["sample_id"], pairs, strict=True))
    found = read_json(run.path / "discovery.json")["prompts"]
    balanced = tuple(sorted(name for name, entry in found.items() if entry["found"]))
    monitored = tuple(sorted(name for name, entry in found.items() if entry["monitored"]))
    unknown = sum(name not in group_of for name in samples.sample_id)
    if unknown:
        raise RunError(
            f"{unknown} of {len(samples)} pictures of {run.config.data.path} were not there when "
            "the groups were inferred: run discover again with --redo, or take another --out"
        )
    pool = np.array([group_of[name][0] for name in samples.sample_id])
    against = np.array([group_of[name][1] for name in samples.sample_id])
    if run.config.study.pooled:
        pool = np.full_like(pool, "*")
        balanced, monitored = ("*",) if balanced else (), ()
    captions = np.array(samples.caption)
    names = np.array(samples.sample_id)
    wanted: Mix = 0.5
    if balanced or monitored:
        wanted = wanted_mix(run.config.discover, 2 if member.ndim == 1 else member.shape[1])
    latents = encode(run, samples)
    flipped = encode(run, samples, flipped=True) if run.config.train.random_flip else None
    certainty = run.config.study.certainty
    return Mixture(
        latents, captions, pool, against, balanced, monitored, names, wanted, flipped, certainty
    )
