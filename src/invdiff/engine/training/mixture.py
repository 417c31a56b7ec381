"""The risks of the groups, and the mixture that training draws: who, and towards what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float

from invdiff.core.balancing.reweighting import balanced_weights, mixture_shares, stable_target
from invdiff.core.diffusion.schedule import Schedule, loss_weight
from invdiff.core.groups.memberships import Membership, Mix, memberships, present, shares_of, within
from invdiff.engine.distributed import randomness

PerGroup = Float[np.ndarray, " group"]
Tilt = Callable[[PerGroup, PerGroup, PerGroup, float], PerGroup]


def tilted(known: PerGroup, total: PerGroup, aimed: PerGroup, weight: float) -> PerGroup:
    """The shares of one prompt's groups: those ``aimed`` at, tilted towards the higher risk.

    ``known`` are the running risks and ``total`` the sums of those seen so far; ``weight`` is
    lambda.
    """
    return mixture_shares(known, aimed, weight)


@dataclass(frozen=True)
class Risks:
    """An objective of the min step.

    A risk counts ``over_base``, the frozen model's taken off (a regret), or as it is. ``weight`` is
    what a squared error of the clean latent weighs at a timestep.
    """

    over_base: bool = True
    mix: Tilt = tilted
    weight: Callable[[Schedule, torch.Tensor], torch.Tensor] = loss_weight


RISKS: dict[str, Risks] = {"regret": Risks()}
"""Objective by name; those that exist to be compared with register themselves."""


@dataclass
class Regrets:
    """Running means of what each group of each balanced prompt costs more than under the base.

    NaN until a group has been seen. ``total`` sums the risks up instead, for GroupDRO.
    """

    prompts: tuple[str, ...]
    memory: float = 0.9
    groups: int = 2
    value: np.ndarray = field(init=False)
    total: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((len(self.prompts), self.groups))
        self.value = np.full((len(self.prompts), self.groups), np.nan)

    def update(self, losses: np.ndarray, prompt: np.ndarray, member: Membership) -> None:
        """Take in losses (n,) of images with the given prompts and memberships."""
        columns = memberships(member).T
        for row, name in enumerate(self.prompts):
            inside = prompt == name
            for group, q in enumerate(columns):
                mass = q[inside].sum()
                if mass > 0.5:
                    seen = float(q[inside] @ losses[inside] / mass)
                    old = self.value[row, group]
                    mixed = self.memory * old + (1 - self.memory) * seen
                    self.value[row, group] = seen if np.isnan(old) else mixed
                    self.total[row, group] += seen


REFERENCES = 8192
NO_AIMS: Mapping[str, Mix] = MappingProxyType({})


@dataclass(frozen=True)
class Mixture:
    """Training latents with their captions and groups; ``pool`` says what is balanced within.

    ``prompt`` is the caption that an image is trained under, ``pool`` its prompt group: the caption
    itself where captions repeat. Only the authors' recipe balances over all prompts at once.
    ``flipped`` are the latents of the mirrored pictures, where training sees these as well.
    ``balanced`` are the pools in which something was found; ``monitored`` those whose shares
    are checked while training, since it can tilt a prompt that was even. ``wanted`` is the share of
    group 1 to reach. ``against`` are the memberships: q_i(1) of each image; of more than two groups
    all q_i(e), and ``wanted`` all shares. ``certainty``: :func:`reweighting.balanced_weights`.
    """

    latents: torch.Tensor
    prompt: np.ndarray
    pool: np.ndarray
    against: Membership
    balanced: tuple[str, ...]
    monitored: tuple[str, ...] = ()
    sample_id: np.ndarray = field(default_factory=lambda: np.zeros(0, str))
    wanted: Mix = 0.5
    flipped: torch.Tensor | None = None
    certainty: float = 1.0

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return memberships(self.against[:0]).shape[1]

    @property
    def others(self) -> np.ndarray:
        """Which images are of pools in which nothing was found, where something was in others."""
        concerned = np.isin(self.pool, [*self.balanced, *self.monitored])
        return ~concerned if self.balanced else np.zeros(len(self.pool), bool)

    def wanted_of(self, name: str) -> Mix:
        """The mix to reach in a pool; what the pool lacks altogether cannot be had in it."""
        if self.against.ndim == 1:
            return self.wanted
        return within(self.wanted, present(self.against[self.pool == name])).tolist()

    def clean(self, chosen: torch.Tensor, seed: int, step: int) -> torch.Tensor:
        """The latents of ``chosen`` images as they are seen at ``step``, mirrored or not."""
        plain = self.latents[chosen]
        if self.flipped is None:
            return plain
        names = self.sample_id[chosen.numpy()]
        turned = torch.tensor([is_flipped(seed, step, name) for name in names])
        return torch.where(turned.view(-1, *[1] * (plain.ndim - 1)), self.flipped[chosen], plain)

    def weights(
        self,
        regrets: Regrets,
        variance_weight: float,
        aims: Mapping[str, Mix] = NO_AIMS,
        mix: Tilt = tilted,
    ) -> torch.Tensor:
        """The chance of each image: groups at the aimed shares, tilted by the running regrets.

        ``mix`` tilts them (:class:`Risks`). ``aims`` are the mixes where they are not the wanted
        one (see the feedback). A group that a pool lacks has no regret, and the others are a
        mixture without it.
        """
        shares = {name: shares_of(aim) for name, aim in aims.items()}
        for row, name in enumerate(regrets.prompts):
            aimed = shares_of(aims.get(name, self.wanted_of(name)))
            there = aimed > 0
            known, total = regrets.value[row, there], regrets.total[row, there]
            tilt = variance_weight if np.isfinite(known).all() else 0.0
            shares[name] = np.zeros(len(aimed))
            shares[name][there] = mix(np.nan_to_num(known), total, aimed[there], tilt)
        weights = balanced_weights(self.against, self.pool, shares, self.certainty)
        return torch.from_numpy(weights).float()

    def target(
        self,
        schedule: Schedule,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        chosen: torch.Tensor,
        dropped: torch.Tensor,
        weights: torch.Tensor,
        owner: torch.Generator,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The posterior mean of the clean latent for the noisy ones, in the ``wanted`` rows.

        Each under its own condition: images with a dropped prompt refer to the whole data, the
        others to their prompt. What is drawn is drawn for all rows, whichever are wanted.
        """
        target = torch.empty_like(noisy)
        names = np.where(dropped.numpy(), "", self.prompt[chosen.numpy()])
        for name in np.unique(names):
            rows = torch.from_numpy(np.flatnonzero(names == name))
            known = np.flatnonzero((self.prompt == name) | (name == ""))
            references = _limited(torch.from_numpy(known), chosen[rows], owner)
            if wanted is not None:
                rows = rows[torch.isin(rows, wanted)]
            if len(rows) == 0:
                continue
            views = [self.latents] if self.flipped is None else [self.latents, self.flipped]
            latents = torch.cat([view[references] for view in views])
            known_weights = weights[references].repeat(len(views)).clamp_min(1e-12).log()
            target[rows] = stable_target(
                schedule,
                noisy[rows],
                timestep[rows],
                latents.to(noisy.device),
                known_weights.to(noisy.device),
            )
        return target

    def subset(self, rows: np.ndarray) -> "Mixture":
        """The images in ``rows`` alone."""
        chosen = torch.from_numpy(rows)
        return replace(
            self,
            latents=self.latents[chosen],
            flipped=None if self.flipped is None else self.flipped[chosen],
            prompt=self.prompt[rows],
            pool=self.pool[rows],
            against=self.against[rows],
            sample_id=self.sample_id[rows],
        )


def _limited(known: torch.Tensor, own: torch.Tensor, owner: torch.Generator) -> torch.Tensor:
    """At most ``REFERENCES`` of the images, the noised ones among them.

    A random subset keeps the target stable at the price of a small bias (Xu et al. 2023).
    """
    if len(known) <= REFERENCES:
        return known
    drawn = known[torch.randperm(len(known), generator=owner)[: REFERENCES - len(own)]]
    return torch.cat([drawn, own]).unique()


def is_flipped(seed: int, step: int, sample_id: str) -> bool:
    """Whether an image is seen mirrored at a step: belongs to the three alone."""
    return randomness.derive(seed, "view", step, sample_id) % 2 == 1
