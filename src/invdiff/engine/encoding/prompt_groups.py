"""What pictures are compared within: their caption, captions that mean alike, or a column.

Max and min work within a prompt group; a picture is still scored and trained under its own caption.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from invdiff.core.discovery.prompt_clusters import nearest_centre, prompt_groups
from invdiff.data.samples import Samples, plural
from invdiff.engine.encoding.encode import text_embeddings
from invdiff.engine.encoding.session import Session
from invdiff.engine.settings.common import DataSection
from invdiff.model.texts import warn_of_cut

logger = logging.getLogger(__name__)

Way = Literal["caption", "meaning", "column"]
REPRESENTATIVES = 8


@dataclass(frozen=True)
class Grouped:
    """Samples whose ``prompt`` is their prompt group, and how the groups came about.

    ``representatives`` are the captions that pictures of a group are drawn with.
    """

    samples: Samples
    way: Way
    representatives: Mapping[str, tuple[str, ...]]
    silhouettes: dict[int, float]

    def record(self) -> dict[str, Any]:
        """The entry ``prompt_groups`` of ``discovery.json``."""
        silhouettes = {str(count): value for count, value in self.silhouettes.items()}
        return {"by": self.way, "count": len(self.representatives), "silhouettes": silhouettes}

    def about(self, name: str) -> dict[str, Any]:
        """What ``discovery.json`` says about the captions of one group."""
        pairs = zip(self.samples.prompt, self.samples.caption, strict=True)
        captions = {caption for prompt, caption in pairs if prompt == name}
        return {"captions": len(captions), "representatives": list(self.representatives[name])}


def group_prompts(session: Session) -> Grouped:
    """Put the session's samples into prompt groups as its settings say."""
    section, samples = session.config.data, session.samples
    warn_of_cut(session.denoiser.reader, sorted(set(samples.caption)), "captions")
    way = way_of(section, samples.caption)
    if way == "caption":
        return Grouped(samples, way, {text: (text,) for text in samples.prompts()}, {})
    counts = Counter(samples.caption)
    captions = sorted(counts)
    images = np.array([counts[caption] for caption in captions])
    vectors = text_embeddings(session, captions)
    if way == "column":
        return Grouped(samples, way, spokesmen(samples, captions, vectors), {})
    found = prompt_groups(vectors, images, section.min_images)
    chosen = nearest_centre(vectors, images, found.label, REPRESENTATIVES)
    lists = [tuple(captions[at] for at in group.tolist()) for group in chosen]
    group_of = {text: lists[at][0] for text, at in zip(captions, found.label, strict=True)}
    grouped = replace(samples, prompt=tuple(group_of[text] for text in samples.caption))
    if section.prompt_groups == "auto":
        logger.warning(
            "few captions have %s or more (data.min_images): %s of %s were put into %s by meaning "
            "(data.prompt_groups)",
            plural(section.min_images, "picture"),
            plural(len(captions), "caption"),
            plural(len(samples), "picture"),
            plural(len(lists), "prompt group"),
        )
    return Grouped(grouped, way, {texts[0]: texts for texts in lists}, found.silhouettes)


def way_of(section: DataSection, captions: Sequence[str]) -> Way:
    """How to group; ``auto`` takes the captions if most images have one that repeats enough."""
    if section.prompt_groups != "auto":
        return section.prompt_groups
    if section.group_column:
        return "column"
    counts = Counter(captions).values()
    inside = sum(count for count in counts if count >= section.min_images)
    return "caption" if 2 * inside >= len(captions) else "meaning"


def spokesmen(
    samples: Samples, captions: Sequence[str], vectors: np.ndarray
) -> dict[str, tuple[str, ...]]:
    """For each prompt of the samples the captions nearest to the centre of its own ones."""
    row = {caption: at for at, caption in enumerate(captions)}
    found = {}
    for name in samples.prompts():
        pairs = zip(samples.prompt, samples.caption, strict=True)
        counts = Counter(caption for prompt, caption in pairs if prompt == name)
        own = sorted(counts)
        inside, images = vectors[[row[text] for text in own]], np.array([counts[t] for t in own])
        (nearest,) = nearest_centre(inside, images, np.zeros(len(own), int), REPRESENTATIVES)
        found[name] = tuple(own[at] for at in nearest.tolist())
    return found
