"""How much work a configuration asks for, in denoiser passes.

One pass takes one image through the denoiser once. A pass that is trained counts three times: its
gradient costs about two more; gradient checkpointing makes it one more.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from invdiff.core.measurement.content import LEVELS, MOST_TEXTS
from invdiff.data.samples import plural
from invdiff.data.sets import builtin
from invdiff.data.sources import open_listing, read_captions
from invdiff.engine.discovery.prompt_contrasts import MOST
from invdiff.engine.discovery.scoring import CONTRASTED
from invdiff.engine.encoding.encode import way_of
from invdiff.engine.settings.common import EMBEDDED_SETS, DataSection
from invdiff.engine.settings.method import high_levels
from invdiff.engine.settings.schema import Config

TRAINED, CHECKPOINTED = 3, 4


@dataclass(frozen=True)
class DataSize:
    """How many ``pictures`` there are of each prompt, none of them decoded.

    Captions that have yet to be grouped by meaning are counted as the most groups that there can
    be, and ``exact`` is False.
    """

    pictures: tuple[int, ...]
    exact: bool = True

    def __str__(self) -> str:
        prompts = f"{'' if self.exact else 'at most '}{plural(len(self.pictures), 'prompt')}"
        return f"{sum(self.pictures):,} pictures of {prompts}"


def data_size(section: DataSection) -> DataSize:
    """The size of a run's data.

    Raises:
        DataError: it cannot be opened.
    """
    if section.path in EMBEDDED_SETS:
        builtin.require_built(section.path)
        prompts, held = EMBEDDED_SETS[section.path]
        return DataSize((held,) * prompts)
    listing = open_listing(section.path)
    texts = read_captions(section.path, listing, section.prompt_column)
    rows = [
        row for row, captions in enumerate(texts) if row not in listing.faults and any(captions)
    ]
    captions = [next(filter(None, texts[row])) for row in rows]
    way = way_of(section, captions)
    if way == "meaning":
        most = max(1, len(rows) // section.min_images)
        return DataSize(tuple(map(len, np.array_split(rows, most))), exact=False)
    if way == "column":
        groups = listing.table.labels(section.group_column)
        captions = list(listing.table.filled(section.group_column, [groups[row] for row in rows]))
    return DataSize(tuple(Counter(captions).values()))


@dataclass(frozen=True)
class Work:
    """What one stage will do."""

    stage: str
    passes: int
    detail: str


def work_plan(config: Config, data: DataSize, one_pass: bool = False) -> tuple[Work, ...]:
    """The stages in order, each with its work on all of ``data``.

    With ``one_pass`` guidance is an input of the denoiser (Flux), so that a guided step takes one
    pass instead of two.
    """
    prompts, branches = len(data.pictures), 1 if one_pass else 2
    return (
        _discover(config, data),
        _train(config, prompts, branches),
        _sample(config, len(config.sample.prompts) or prompts, branches),
        Work("evaluate", 0, "every figure with its interval"),
        Work("report", 0, "one HTML file"),
    )


def _discover(config: Config, data: DataSize) -> Work:
    asked = config.discover
    searched = [held for held in data.pictures if held >= config.data.min_images]
    scored = sum(min(asked.images_per_prompt, held) for held in searched)
    levels, features = len(asked.levels), len(config.study.feature_levels)
    passes = scored * levels * asked.draws * 2  # under the prompt and under none
    detail = (
        f"{plural(scored, 'image')} x {plural(levels, 'level')} x {asked.draws} draws x "
        f"2 conditions, features at {plural(features, 'level')}"
    )
    if config.estimator == "auto" and len(searched) > 1:  # nobody else asks for the contrasts
        most = min(CONTRASTED, asked.images_per_prompt)
        compared = sum(min(most, held) for held in searched)
        prompts, high = min(MOST, len(searched)), len(high_levels(asked.levels))
        passes += compared * prompts * high * asked.draws
        detail += (
            f"; {plural(compared, 'image')} under {prompts} prompts at {plural(high, 'level')}"
        )
    return Work("discover", passes + sum(data.pictures) * features, detail)


def _train(config: Config, prompts: int, branches: int) -> Work:
    asked, calibrate = config.train, config.calibrate
    each = CHECKPOINTED if asked.gradient_checkpointing else TRAINED
    training = asked.steps * asked.batch_size * each
    images = prompts * calibrate.images_per_prompt
    # one strength is not searched for; else the base and 1 are always tried
    tried = {0.0, 1.0, *calibrate.strengths} if len(calibrate.strengths) > 1 else set()
    walks = len(tried) * _walks(calibrate.guidance_scale, branches)
    compared = len(tried) * len(LEVELS) * (1 + min(prompts, 1 + MOST_TEXTS))
    scales = asked.share_feedback_scales or [calibrate.guidance_scale]
    checks = asked.share_feedback
    walks += len(checks) * sum(_walks(scale, branches) for scale in scales)
    read = (len(tried) + len(checks) * len(scales)) * len(config.study.feature_levels)
    drawn = [plural(len(checks), "mid-training check")] if checks else []
    drawn += [plural(len(tried), "strength")] if tried else []
    detail = (
        f"{asked.steps} steps of {asked.batch_size} images"
        f"{f' in {parts} parts' if (parts := asked.gradient_accumulation_steps) > 1 else ''}"
        f"{', with gradient checkpointing' if asked.gradient_checkpointing else ''}, "
        f"rank {asked.rank}"
        f"{f'; at most {images} images for each of ' if drawn else ''}{' and '.join(drawn)}"
    )
    return Work(
        "train", training + images * (walks * config.sample.steps + compared + read), detail
    )


def _sample(config: Config, prompts: int, branches: int) -> Work:
    asked = config.sample
    images = prompts * asked.images_per_prompt
    walks = len(config.study.arms) * sum(_walks(w, branches) for w in asked.guidance_scales)
    detail = (
        f"{images} images x {plural(len(config.study.arms), 'arm')} x "
        f"{plural(len(asked.guidance_scales), 'guidance scale')} x {asked.steps} steps"
    )
    return Work("sample", images * walks * asked.steps, detail)


def _walks(scale: float, branches: int) -> int:
    """Passes of one denoising step: two for guidance scales above 1, whatever the strength."""
    return 1 if scale == 1 else branches
