"""Groups in tables and files, two or more of them, and the mix of them that is wanted."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from invdiff.core.groups.memberships import Membership, Mix, hard, memberships
from invdiff.core.groups.several_groups import SeveralGroups
from invdiff.core.groups.two_groups import GroupModel
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings.discovery import DiscoverSection
from invdiff.engine.storage.files import read_json, write_with
from invdiff.errors import ConfigError

Model = GroupModel | SeveralGroups


def wanted_mix(section: DiscoverSection, groups: int) -> Mix:
    """The shares that the settings want of so many groups: one number for two.

    Raises:
        ConfigError: the settings want another number of groups.
    """
    if not section.target and (groups == 2 or section.against_share == 0.5):
        return section.against_share if groups == 2 else [1 / groups] * groups
    if section.target and len(section.target) == groups:
        return section.target
    given = (
        f"discover.target has {len(section.target)} shares"
        if section.target
        else f"discover.against_share = {section.against_share} is about two groups"
    )
    raise ConfigError(
        f"{given}, and there are {groups} groups: give discover.target a share for each, or none "
        "of both for even shares"
    )


def columns(member: Membership) -> dict[str, np.ndarray]:
    """The columns ``group`` and ``q_0`` to ``q_{K-1}`` of a table of groups."""
    q = memberships(member)
    told = {f"q_{group}": q[:, group] for group in range(q.shape[1])}
    return {"group": hard(member).astype(np.int32), **told}


def membership_of(table: Mapping[str, Sequence[Any]]) -> Membership:
    """The memberships in a table of groups: q_1 of two, all of more."""
    if "q_2" not in table:
        return np.array(table["q_1"], float)
    names = []
    for group in count():
        if f"q_{group}" not in table:
            break
        names.append(f"q_{group}")
    return np.stack([np.array(table[name], float) for name in names], 1)


def save_models(path: Path, models: Mapping[str, Model]) -> None:
    """Write the model of the groups of each prompt (docs/reference/files.md)."""
    tensors = {name: torch.from_numpy(_packed(model)) for name, model in models.items()}
    write_with(path, lambda beside: save_file(tensors, beside))


def _packed(model: Model) -> np.ndarray:
    if isinstance(model, GroupModel):
        return np.concatenate([model.weight, model.ratio, [model.prior]])
    rows = (model.weight, model.bias[None], model.prior[None])
    return np.ascontiguousarray(np.concatenate(rows).T)


def model_of(tensor: torch.Tensor) -> Model:
    """The model that a tensor of that file holds."""
    if tensor.ndim == 2:
        rows = tensor.numpy().T
        return SeveralGroups(rows[:-2].copy(), rows[-2].copy(), rows[-1].copy())
    *weight, a, b, c, prior = tensor.tolist()
    return GroupModel(np.array(weight), (a, b, c), prior)


def captions_drawn(run: RunFolder) -> dict[str, tuple[str, ...]]:
    """The captions that pictures of each prompt group are drawn with, in turn.

    Groups with too few images to be searched have no part in it.
    """
    entries = read_json(run.path / "discovery.json")["prompts"]
    return {
        name: tuple(entry["representatives"]) for name, entry in entries.items() if entry["scored"]
    }


def load_models(path: Path) -> dict[str, Model]:
    """The model of the groups for each prompt, on raw features."""
    return {name: model_of(tensor) for name, tensor in load_file(path).items()}


def found_prompts(run: RunFolder) -> list[str]:
    """The prompts in which something was found to balance."""
    entries = read_json(run.path / "discovery.json")["prompts"]
    return sorted(name for name, entry in entries.items() if entry["found"])


def found_models(run: RunFolder) -> dict[str, Model]:
    """The model of the groups of each prompt in which some were found."""
    entries = read_json(run.path / "discovery.json")["prompts"]
    models = load_models(run.path / "group_model.safetensors")
    return {name: models[name] for name, entry in entries.items() if entry["found"]}
