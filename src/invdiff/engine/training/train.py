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

from invdiff.core.groups.memberships import Mix, memberships
from invdiff.engine.base_model.loading import ModelRef, Source, resolve
from invdiff.engine.discovery.groups import load_models, wanted_mix
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.pool import automatic, kept_workers
from invdiff.engine.distributed.team import Team, assembled
from invdiff.engine.encoding.encode import encode_pictures
from invdiff.engine.encoding.session import Session
from invdiff.engine.run.records import Training
from invdiff.engine.sampling.calibrate import calibrate
from invdiff.engine.settings.schema import Config
from invdiff.engine.storage.files import plain
from invdiff.engine.training.checks import MidTrainingCheck, certify, hold_out
from invdiff.engine.training.mixture import RISKS, Mixture, Risks
from invdiff.engine.training.trainer import Trainer
from invdiff.errors import RunError
from invdiff.model.denoiser import Denoiser
from invdiff.model.lora import adapter, adapter_file


def train(session: Session) -> dict[str, Any]:
    """Train the guidance, or go on doing so; then find its strength. Facts for the record."""
    trained = fit_guidance(session)
    with kept_workers():
        found = calibrate(session)
    adapter_file.write_settings(
        session.adapter,
        base_model=session.base_model,
        recommended_strength=found.strength,
        window=session.config.sample.window,
        guidance_scale=found.guidance_scale,
    )
    session.results.write(found)
    session.results.write(trained)
    return {"steps": trained.steps}


def fit_guidance(session: Session) -> Training:
    """Train, write the adapter and give back the record; the network is left as it was."""
    started = time.monotonic()
    config, source = session.config, session.source
    mixture, held = hold_out(config, load_mixture(session))
    feedback = load_mid_training_check(session)
    with assembled(team_size(config, source)) as team:
        if team.size > 1:
            if not isinstance(source, ModelRef):
                raise RunError(
                    "a pipeline object cannot be handed to other processes: give model.path "
                    "instead, or train in one process (train.processes = 1)"
                )
            team.ask(help_train, config, source, RISKS[config.study.objective])
        with fresh_adapter(resolve(source), config) as denoiser:
            trainer = Trainer(config, denoiser, *_shared(team, mixture, feedback), team)
            trainer.fit(session.path, held)
            record = trainer.record() | {"certificate": certify(config, denoiser, mixture)}
            scaled = {adapter_file.SCALED_KEY: "weights"}  # a file draws what a report shows
            settings = {"seed": config.seed, "rank": config.train.rank, **scaled}
            adapter_file.save(denoiser.module, session.adapter, settings)
    return Training(**plain(record), seconds=round(time.monotonic() - started, 1))


def team_size(config: Config, source: Source) -> int:
    """How many processes train: as many as asked for, and what fits where that is automatic.

    A pipeline object stays in the process that made it.
    """
    section = config.train
    if section.processes or not isinstance(source, ModelRef):
        return section.processes or 1
    return min(automatic(source.device), section.batch_size // section.gradient_accumulation_steps)


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
    """The leader's mixture and feedback, on every rank; its latents without a second copy."""
    latents = team.share_tensor(mixture.latents if mixture else None)
    nothing = torch.zeros(0)
    views = nothing if mixture and mixture.flipped is not None else None
    light = mixture and replace(mixture, latents=nothing, flipped=views)
    known, feedback = team.share((light, feedback))
    if known.flipped is not None:
        known = replace(known, flipped=team.share_tensor(mixture.flipped if mixture else None))
    return replace(known, latents=latents), feedback


def load_mid_training_check(session: Session) -> MidTrainingCheck:
    """What a mid-training check needs, as discovery left it."""
    path = session.path / "group_model.safetensors"
    models = load_models(path) if path.is_file() else {}
    return MidTrainingCheck(models, session.results.discovery.captions_drawn)


def load_mixture(session: Session) -> Mixture:
    """Latents and groups of the run's data, matched by sample id."""
    config, samples = session.config, session.samples
    groups, found = session.results.groups, session.results.discovery
    pairs = zip(groups.prompt, groups.membership, strict=True)
    group_of = dict(zip(groups.sample_id, pairs, strict=True))
    balanced, monitored = tuple(found.found), tuple(found.monitored)
    unknown = sum(name not in group_of for name in samples.sample_id)
    if unknown:
        raise RunError(
            f"{unknown} of {len(samples)} pictures of {config.data.path} were not there when "
            "the groups were inferred: run discover again with --redo, or take another --out"
        )
    if gone := len(group_of.keys() - set(samples.sample_id)):
        raise RunError(
            f"{gone} of {len(group_of)} pictures that the groups were inferred from are not in "
            f"{config.data.path} any more: run discover again with --redo, or take another --out"
        )
    pool = np.array([group_of[name][0] for name in samples.sample_id])
    against = np.array([group_of[name][1] for name in samples.sample_id])
    if config.study.pooled:
        pool = np.full_like(pool, "*")
        balanced, monitored = ("*",) if balanced else (), ()
    wanted: Mix = 0.5
    if balanced or monitored:
        wanted = wanted_mix(config.discover, memberships(groups.membership).shape[1])
    latents = encode_pictures(session)
    flipped = encode_pictures(session, flipped=True) if config.train.random_flip else None
    return Mixture(
        latents,
        np.array(samples.caption),
        pool,
        against,
        balanced,
        monitored,
        np.array(samples.sample_id),
        wanted,
        flipped,
        config.study.certainty,
    )
