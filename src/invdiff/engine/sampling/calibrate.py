"""The strength that is enough, estimated without labels on pictures of the guided model.

The model of the groups that discovery fitted (features to q) says of each generated picture which
group it belongs to. It is asked at the guidance scale that people sample with, because
classifier-free guidance raises the odds of any imbalance that is left to the power of the scale.
The base model says whether the picture still shows its prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise, takewhile
from typing import Any

import numpy as np

from invdiff.core.groups.memberships import Mix, as_mix, off_by, within
from invdiff.core.measurement import content
from invdiff.engine.discovery.groups import Model, load_models, wanted_mix
from invdiff.engine.distributed import randomness
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.session import Session
from invdiff.engine.run.records import Calibration, Discovery
from invdiff.engine.sampling.group_shares import Shard, judge_generated, pictures_of, shards_of
from invdiff.engine.sampling.sampler import Sampler
from invdiff.engine.storage.files import plain

OWNER = "calibration"

TRAINED = 1.0


def calibrate(session: Session) -> Calibration:
    """The record of ``adapter/calibration.json``; its ``strength`` is the recommended one.

    Enough is a strength whose estimated gap is within tolerance and whose pictures still show their
    prompts. The smallest that is enough is taken, and looked for from 1 on: below it as long as the
    next smaller one is enough too, else among all others from the smallest up. If there is none,
    one more is tried where two neighbours err on either side (:func:`between`), and of those whose
    pictures still show their prompts the one with the smallest gap is taken, the base model among
    them.
    """
    section = session.config.calibrate
    prompts = session.results.discovery.found
    record: dict[str, Any] = {
        "guidance_scale": section.guidance_scale,
        "tolerance": section.tolerance,
        "images_per_prompt": section.images_per_prompt,
        "strength": TRAINED,
        "curve": [],
    }
    if len(section.strengths) < 2 or not prompts:
        return Calibration(**plain(record))
    tried: dict[float, dict[str, Any]] = {}
    enough = partial(_is_enough, session, prompts, tried=tried)
    enough(0.0)
    weaker = sorted({s for s in section.strengths if 0 < s < TRAINED}, reverse=True)
    chosen: float | None = None
    if enough(TRAINED):
        *_, chosen = [TRAINED, *takewhile(enough, weaker)]
    else:
        stronger = [s for s in section.strengths if s > TRAINED]
        chosen = next(filter(enough, [*weaker[::-1], *stronger]), None)
    if chosen is None:
        more = between({s: point for s, point in tried.items() if not point["vetoed"]})
        if more is not None and more not in tried:
            enough(more)
        kept = [s for s, point in tried.items() if not point["vetoed"]]
        chosen = min(kept, key=lambda s: tried[s]["gap"])
    record |= {"strength": chosen, "curve": [tried[s] for s in sorted(tried)]}
    return Calibration(**plain(record))


def _is_enough(
    session: Session, prompts: list[str], strength: float, tried: dict[float, dict[str, Any]]
) -> bool:
    """Whether a strength above 0 is within tolerance and not vetoed; it is noted in ``tried``.

    It is vetoed if fewer of its pictures show their prompts than of the base model's, by a test at
    the level :data:`~invdiff.core.measurement.content.FALSE_VETO`.
    """
    point = tried[strength] = estimate_gap(session, prompts, strength)
    base, own = (
        [(one["shown"], one["images"]) for one in tried[s]["own_prompt"].values()]
        for s in (0.0, strength)
    )
    chance = content.prompts_lost(base, own)
    point |= {"prompts_lost_p": chance, "vetoed": chance < content.FALSE_VETO}
    within = point["gap"] <= session.config.calibrate.tolerance
    return bool(strength and within and not point["vetoed"])


def between(tried: Mapping[float, Mapping[str, Any]]) -> float | None:
    """The strength at which groups would be as wanted on average; None if none tried is past it.

    Between the first two neighbours of which one leaves too few pictures of the under-represented
    groups and the next too many, on a straight line between what they are ``above``.
    """
    points = [(strength, tried[strength]["above"]) for strength in sorted(tried)]
    for (weaker, low), (stronger, high) in pairwise(points):
        if low < 0 < high:
            return round(weaker + (stronger - weaker) * low / (low - high), 2)
    return None


def estimate_gap(session: Session, prompts: list[str], strength: float) -> dict[str, Any]:
    """What pictures drawn at a strength show.

    The estimated shares of the groups, how far they are from the wanted ones, and how many of the
    pictures show their own prompt.
    """
    models = load_models(session.path / "group_model.safetensors")
    chosen = {name: models[name] for name in prompts}
    seen = judge_generated(
        session.config,
        session.source,
        session.adapter if strength else None,
        strength,
        chosen,
        session.results.discovery.captions_drawn,
        scale=session.config.calibrate.guidance_scale,
        owner=OWNER,
        title=f"calibrating, strength {strength:g}",
        spread=partial(run_shards, processes=session.processes),
        texts=compared_texts(session.results.discovery, prompts),
    )
    wanted = wanted_mix(session.config.discover, max(len(one.present) for one in chosen.values()))
    ratios = {name: one for name, (one, _) in seen.items()}
    shown = {name: {"shown": sum(own), "images": len(own)} for name, (_, own) in seen.items()}
    summary = calibration_summary(ratios, models, wanted=wanted)
    return {"strength": strength, **summary, "own_prompt": plain(shown)}


def compared_texts(discovery: Discovery, prompts: Sequence[str]) -> dict[str, str]:
    """What pictures of ``prompts`` are compared under: the prompts with most images, by name."""
    known = discovery.captions_drawn
    images = {name: discovery.prompts[name].images for name in known}
    most = sorted(known, key=lambda name: (-images[name], name))[: 1 + content.MOST_TEXTS]
    return {name: known[name][0] for name in sorted({*most, *prompts})}


def drawn_at(
    session: Session, prompts: list[str], strength: float
) -> tuple[Callable[[Shard], np.ndarray], list[Shard]]:
    """What draws the pictures that :func:`estimate_gap` looks at, for workers, and its shards."""
    config = session.config
    adapter, scale = session.adapter if strength else None, config.calibrate.guidance_scale
    sampler = Sampler.of(config, session.source, adapter, strength, scale)
    return partial(pictures_of, sampler), shards_of(
        config, prompts, session.results.discovery.captions_drawn, OWNER
    )


def calibration_summary(
    ratios: dict[str, np.ndarray],
    models: Mapping[str, Model],
    resamples: int = 200,
    wanted: Mix = 0.5,
) -> dict[str, Any]:
    """Shares of group 1, their mean gap and its 95 % bootstrap interval over pictures.

    The gap is the sum over the groups of what each is off its ``wanted`` share: |share - share| of
    two where even ones are. ``above`` is by how much the under-represented groups have more
    than they should, less than 0 where they lack it. Of more than two groups the shares are those
    of all.
    """
    target = {name: within(wanted, models[name].present) for name in ratios}
    gaps = np.zeros(resamples)
    draw = np.random.default_rng(randomness.derive(0, "calibration interval"))
    for name, values in ratios.items():
        ordered = values[np.lexsort(values.T)] if values.ndim > 1 else np.sort(values)
        for k, rows in enumerate(draw.integers(len(values), size=(resamples, len(values)))):
            share = models[name].shares(ordered[rows], steps=30)
            gaps[k] += abs(off_by(share, target[name])).sum() / len(ratios)
    shares = {name: models[name].shares(values) for name, values in ratios.items()}
    low, high = np.quantile(gaps, [0.025, 0.975])
    off = np.array([off_by(shares[name], target[name]) for name in shares])
    return {
        "gap": float(abs(off).sum(1).mean()),
        "above": float(-off[:, 0].mean()),
        "low": low,
        "high": high,
        "images": sum(len(values) for values in ratios.values()),
        "shares": {name: as_mix(share) for name, share in shares.items()},
    }
