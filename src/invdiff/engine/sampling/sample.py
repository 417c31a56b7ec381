"""Stage 3: base and guided pictures from the same seeds.

Writes ``samples/<prompt>/<index>-<arm>-<scale>.png`` and ``samples.parquet``. A picture that is
there already is not drawn again.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from invdiff.data.pictures import is_one_colour
from invdiff.engine.classifiers.classify import read_picture
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.encoding.session import Session
from invdiff.engine.sampling.sampler import Sampler, seed_of
from invdiff.engine.storage.files import write_with
from invdiff.model.denoiser import Denoiser
from invdiff.model.texts import warn_of_cut

logger = logging.getLogger(__name__)


def sample(session: Session) -> dict[str, Any]:
    """Draw what is missing of the pictures, then list them all; facts for the stage's record."""
    section, wanted = session.config.sample, sampling_parts(session)
    shards = [shard for part in wanted for shard in part.missing(section.batch_size)]
    done = sum(part.batches(section.batch_size) for part in wanted) - len(shards)
    captions = sorted({caption for part in wanted for caption in part.captions})
    warn_of_cut(session.denoiser.reader, captions, "prompts")
    for _ in run_shards(
        draw_shard, shards, processes=session.processes, title="sampling", done=done
    ):
        pass
    rows = [row for part in wanted for row in part.rows(session.path)]
    for row in rows:
        row["one_colour"] = is_one_colour(read_picture(session.path / str(row["path"])))
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    session.results.write_samples(columns)
    if told := one_colour_told(columns):
        logger.warning("%s", told)
    if not section.prompt_suffix:
        return {"pictures": len(rows)}
    read = reading(session.denoiser, captions, section.prompt_suffix)
    return {"pictures": len(rows), "prompt_suffix": read}


def one_colour_told(samples: Mapping[str, Any]) -> str:
    """A sentence on pictures that show nothing; "" without any, and where nobody looked."""
    known = zip(samples["path"], samples.get("one_colour", ()), strict=False)
    plain = [path for path, shows_nothing in known if shows_nothing]
    if not plain:
        return ""
    return (
        f"{len(plain)} of {len(samples['path'])} drawn pictures are of one colour throughout, such "
        f"as {plain[0]}: they were counted as any other, so look at them before you believe figures"
    )


@dataclass(frozen=True)
class SamplingPart:
    """The pictures of one arm, scale and prompt; drawn with its ``captions`` in turn."""

    arm: str
    sampler: Sampler
    prompt: str
    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path

    def path(self, index: int) -> Path:
        """Where picture ``index`` is."""
        return self.folder / f"{index:05d}-{self.arm}-{self.sampler.scale:g}.png"

    def caption(self, index: int) -> str:
        """What picture ``index`` is drawn with."""
        return self.captions[index % len(self.captions)]

    def missing(self, batch: int) -> list["SamplingShard"]:
        """What is still to draw, in batches."""
        left = [i for i in range(len(self.seeds)) if not self.path(i).is_file()]
        return [(self, tuple(left[i : i + batch])) for i in range(0, len(left), batch)]

    def batches(self, batch: int) -> int:
        """How many batches the whole part is."""
        return -(-len(self.seeds) // batch)

    def rows(self, root: Path) -> list[dict[str, object]]:
        """The part's rows of ``samples.parquet``."""
        return [
            {
                "arm": self.arm,
                "scale": self.sampler.scale,
                "prompt": self.prompt,
                "caption": self.caption(index),
                "index": index,
                "seed": seed,
                "path": self.path(index).relative_to(root).as_posix(),
                "strength": self.sampler.strength,
            }
            for index, seed in enumerate(self.seeds)
        ]


SamplingShard = tuple[SamplingPart, tuple[int, ...]]
"""A part, and the indices of one batch of its pictures."""


def draw_shard(shard: SamplingShard) -> int:
    """Draw and store a batch; returns the number of pictures."""
    part, indices = shard
    seeds = [part.seeds[i] for i in indices]
    pictures = part.sampler.pictures([part.caption(i) for i in indices], seeds)
    for index, picture in zip(indices, pictures, strict=True):
        write_with(part.path(index), Image.fromarray(np.asarray(picture)).save)
    return len(pictures)


def sampling_parts(session: Session) -> list[SamplingPart]:
    """Every part of the run's samples; without a trained guidance the base arm alone."""
    section, source = session.config.sample, session.source
    captions = {
        name: (name,) for name in section.prompts
    } or session.results.discovery.captions_drawn
    trained = not session.results.training.skipped
    drawn_by: dict[str, tuple[Path | None, float]] = {"base": (None, 0.0)}
    if trained:
        drawn_by["guided"] = (session.adapter, strength_of(session))
    return [
        SamplingPart(
            arm,
            Sampler.of(session.config, source, *drawn_by[arm], scale),
            prompt,
            tuple(caption + section.prompt_suffix for caption in captions[prompt]),
            tuple(
                seed_of(session.config.seed, prompt, k) for k in range(section.images_per_prompt)
            ),
            session.path / "samples" / slug(prompt),
        )
        for arm in (session.config.study.arms if trained else ["base"])
        for scale in section.guidance_scales
        for prompt in section.prompts or sorted(captions)
    ]


def strength_of(session: Session, asked: float | None = None) -> float:
    """The strength to draw with: the one ``asked`` for, or the settings', or the calibrated one.

    A line says so if it is one that calibration has vetoed.
    """
    chosen = session.config.sample.strength if asked is None else asked
    found = session.results.calibration
    strength = found.strength if chosen == "auto" else float(chosen)
    if strength in found.vetoed:
        logger.warning(
            "adapter strength %g: calibration has vetoed it, since fewer of its pictures show "
            "their prompts than of the base model's; the calibrated one is %g",
            strength,
            found.strength,
        )
    return strength


def slug(prompt: str) -> str:
    """A folder name for a prompt: its words, and a digest so that no two prompts share one."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40]
    return f"{words}-{hashlib.sha256(prompt.encode()).hexdigest()[:6]}"


def reading(denoiser: Denoiser, captions: Iterable[str], suffix: str) -> dict[str, Any]:
    """The record of ``prompt_suffix`` in ``stages/sample.json``.

    ``captions`` have the suffix already. ``known`` of the ``words`` are tokens of their own; the
    tokenizer spells the others in pieces. ``cut`` of the ``prompts`` are longer than the longest
    input of the model's text encoders, which leaves their ends out. The last three are not there
    for a model without a tokenizer.
    """
    words = re.findall(r"\w+", suffix)
    found: dict[str, Any] = {"text": suffix, "words": len(words)}
    reader, prompts = denoiser.reader, list(captions)
    if reader is None:
        return found
    pieces = reader.tokenizer(words, add_special_tokens=False).input_ids if words else []
    known = sum(len(one) == 1 for one in pieces)
    return found | {"known": known, "prompts": len(prompts), "cut": len(reader.cut(prompts))}
