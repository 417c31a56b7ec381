"""What is to be drawn: an even set of its own, or what evens out the data of a run."""

import numpy as np

from invdiff.engine.augmentation.drawing import Quota
from invdiff.engine.discovery.groups import Model, found_models
from invdiff.engine.encoding.session import Session
from invdiff.errors import RunError


def even_set(session: Session, images: int) -> list[Quota]:
    """``images`` pictures of each prompt, as many of each inferred group where there are groups."""
    models = found_models(session)
    return [
        Quota(prompt, captions, quota_parts(images, models.get(prompt)), models.get(prompt))
        for prompt, captions in sorted(session.results.discovery.captions_drawn.items())
    ]


def quota_parts(images: int, model: Model | None) -> tuple[int, ...]:
    """``images`` in parts that differ by one at most: for each group that the prompt has."""
    if model is None:
        return (images,)
    there = model.present
    ends = np.cumsum(there) * images // there.sum()
    return tuple(int(part) for part in np.diff(ends, prepend=0))


def top_up(session: Session) -> list[Quota]:
    """What the smaller inferred groups of each prompt lack; none of a group that it has none of.

    Raises:
        RunError: no groups were found, so there is nothing to even out.
    """
    prompt, group = np.array(session.results.groups.prompt), session.results.groups.group
    captions, quotas = session.results.discovery.captions_drawn, []
    for name, model in sorted(found_models(session).items()):
        there = model.present
        counts = np.bincount(group[prompt == name], minlength=len(there))
        lacking = tuple(int(n) for n in (counts.max() - counts) * there)
        quotas.append(Quota(name, captions[name], lacking, model))
    if not quotas:
        raise RunError(
            f"{session.path} found no groups, so there is nothing to even out: "
            "--images-per-prompt N draws a set of its own"
        )
    return quotas
