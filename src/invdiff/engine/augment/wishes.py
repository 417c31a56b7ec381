"""What is to be drawn: an even set of its own, or what evens out the data of a run."""

import numpy as np

from invdiff.core.settle import GroupModel
from invdiff.engine.augment.drawing import Wish
from invdiff.engine.files import read_json, read_parquet
from invdiff.engine.generated import load_models
from invdiff.engine.prompt_groups import captions_drawn
from invdiff.engine.run import RunFolder
from invdiff.errors import RunError


def even_set(run: RunFolder, images: int) -> list[Wish]:
    """``images`` pictures of each prompt, half of each inferred group where there are groups."""
    halves = (images // 2, images - images // 2)
    models = found_models(run)
    return [
        Wish(prompt, captions, halves if prompt in models else (images,), models.get(prompt))
        for prompt, captions in sorted(captions_drawn(run).items())
    ]


def top_up(run: RunFolder) -> list[Wish]:
    """What the smaller inferred group of each prompt lacks.

    Raises:
        RunError: no groups were found, so there is nothing to even out.
    """
    groups = read_parquet(run.path / "groups.parquet")
    prompt, group = np.array(groups["prompt"]), np.array(groups["group"])
    captions, wishes = captions_drawn(run), []
    for name, model in sorted(found_models(run).items()):
        counts = np.bincount(group[prompt == name], minlength=2)
        lacking = tuple(int(n) for n in counts.max() - counts)
        wishes.append(Wish(name, captions[name], lacking, model))
    if not wishes:
        raise RunError(
            f"{run.path} found no groups, so there is nothing to even out: --images-per-prompt N "
            "draws a set of its own"
        )
    return wishes


def found_models(run: RunFolder) -> dict[str, GroupModel]:
    """The model of the groups of each prompt in which some were found."""
    entries = read_json(run.path / "discovery.json")["prompts"]
    models = load_models(run.path / "group_model.safetensors")
    return {name: models[name] for name, entry in entries.items() if entry["found"]}
