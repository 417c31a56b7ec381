"""The models of the groups in files, and the mix of groups that is wanted."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from invdiff.core.groups.memberships import Mix
from invdiff.core.groups.several_groups import MultiGroupModel
from invdiff.core.groups.two_groups import GroupModel
from invdiff.engine.encoding.session import Session
from invdiff.engine.settings.method import DiscoverSection
from invdiff.engine.storage.files import write_with
from invdiff.errors import ConfigError

Model = GroupModel | MultiGroupModel


def wanted_mix(section: DiscoverSection, groups: int) -> Mix:
    """The shares that the settings want of so many groups: one number for two.

    Raises:
        ConfigError: the settings want another number of groups.
    """
    if not section.target:
        return 0.5 if groups == 2 else [1 / groups] * groups
    if len(section.target) == groups:
        return section.wanted_share if groups == 2 else section.target
    raise ConfigError(
        f"discover.target has {len(section.target)} shares, and there are {groups} groups: give "
        "it a share for each, or none for even shares"
    )


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
        return MultiGroupModel(rows[:-2].copy(), rows[-2].copy(), rows[-1].copy())
    *weight, a, b, c, prior = tensor.tolist()
    return GroupModel(np.array(weight), (a, b, c), prior)


def load_models(path: Path) -> dict[str, Model]:
    """The model of the groups for each prompt, on raw features."""
    return {name: model_of(tensor) for name, tensor in load_file(path).items()}


def found_models(session: Session) -> dict[str, Model]:
    """The model of the groups of each prompt in which some were found."""
    models = load_models(session.path / "group_model.safetensors")
    return {name: models[name] for name in session.results.discovery.found}
