"""The max step on arrays: groups from what pictures cost the model and look like to it."""

from __future__ import annotations  # in `help()` a signature as it is written here

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from invdiff.app.arrays.inputs import (
    Array,
    floats,
    require,
    require_between,
    rows,
    same_count,
    texts,
)
from invdiff.core.discovery.evidence import Contrasts
from invdiff.core.discovery.grouping import Grouping, infer_groups
from invdiff.core.discovery.scores import Scores
from invdiff.core.groups.memberships import memberships
from invdiff.core.uncertainty.intervals import wilson
from invdiff.engine.distributed import randomness
from invdiff.engine.settings.method import high_levels
from invdiff.errors import ArgumentError
from invdiff.terminal import printable

READ_FROM = {
    "contrast": "what each picture costs under every prompt",
    "excess": "what each picture costs more under its prompt than under none",
    "loss": "what each picture costs under its prompt",
}
LOSS_AXES = ("picture", "level", "draw")


@dataclass(frozen=True)
class PromptVerdict:
    """What there is to balance under one prompt.

    ``share`` is that of the under-represented group among the prompt's ``pictures``, in 0..1, with
    its 95 % interval ``low`` to ``high`` (Wilson; of the pictures, not of who is in which group).
    ``explained`` is the share of the evidence's variance that lies between the groups, ``p_value``
    the chance of as much where there are none, multiplied by the number of candidates tried.
    ``note`` says why nothing was found; it is empty where something was.
    """

    found: bool
    share: float
    low: float
    high: float
    pictures: int
    explained: float
    p_value: float
    note: str

    def __str__(self) -> str:
        if not self.found:
            return self.note
        chance = ", p < 0.001" if self.p_value < 0.001 else f", p = {self.p_value:.3f}"
        return (
            f"under-represented group {self.share:.0%} [{self.low:.0%}, {self.high:.0%}] of "
            f"{self.pictures} pictures{'' if np.isnan(self.p_value) else chance}"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Inferred:
    """Groups with the verdicts on them: what :class:`FoundGroups` and a run's groups share."""

    prompts: tuple[str, ...]
    memberships: Float[np.ndarray, "picture group"]
    verdicts: Mapping[str, PromptVerdict]

    @property
    def found(self) -> tuple[str, ...]:
        """The prompts in which there is something to balance."""
        return tuple(name for name, verdict in self.verdicts.items() if verdict.found)

    def told(self, head: str) -> str:
        """The ``head`` and a line for each prompt."""
        lines = [f"  {printable(name)}: {verdict}" for name, verdict in self.verdicts.items()]
        return "\n".join([head, *lines])


@dataclass(frozen=True, repr=False, eq=False)
class FoundGroups(Inferred):
    """The groups that :func:`find_groups` inferred.

    ``memberships`` are the q_i(e) of all pictures: the chance that picture i is in group e, each
    row adding up to 1. Column 0 is the over-represented group of the picture's prompt, column 1 the
    under-represented one. ``verdicts`` says for each prompt whether they mean anything, ``found``
    names the prompts in which they do, and ``read_from`` what they were read from.
    """

    read_from: str
    _grouping: Grouping

    def predict(
        self, features: Float[Array, "picture feature"], prompts: Sequence[str]
    ) -> Float[np.ndarray, "picture group"]:
        """The memberships of other pictures of the same prompts, from features of the same kind.

        Each has the shares of its prompt's first pictures as prior; to estimate other shares take
        :meth:`shares`.

        Raises:
            ArgumentError: another number of features, or a prompt that has no groups.
        """
        values, names = self._new(features, prompts)
        found = np.empty((len(values), self.memberships.shape[1]))
        for name in np.unique(names):
            inside = names == name
            found[inside] = memberships(self._grouping.models[str(name)](values[inside]))
        return found

    def shares(
        self, features: Float[Array, "picture feature"], prompts: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " group"]]:
        """The shares of the groups among other pictures of each prompt, such as generated ones.

        By maximum likelihood, whatever the shares of the first pictures were (Saerens et al. 2002).

        Raises:
            ArgumentError: as :meth:`predict`.
        """
        values, names = self._new(features, prompts)
        found = {}
        for name in map(str, np.unique(names)):
            model = self._grouping.models[name]
            found[name] = model.shares(model.log_ratio(values[names == name]))
        return found

    def __repr__(self) -> str:
        return self.told(f"Groups of {len(self.prompts)} pictures, read from {self.read_from}")

    def _new(
        self, features: Array, prompts: Sequence[str]
    ) -> tuple[Float[np.ndarray, "picture feature"], np.ndarray]:
        values = floats("features", features, ("picture", "feature"))
        names = texts("prompts", prompts, "for each picture")
        same_count("prompts", len(names), "features", len(values), "name one for each picture")
        if unknown := sorted(set(names.tolist()) - set(self.verdicts)):
            known = ", ".join(map(repr, self.verdicts))
            raise ArgumentError(
                "prompts", f"must be among {known}", repr(unknown[0]), "leave its pictures out"
            )
        width, found = len(self._grouping.models[str(names[0])].weight), values.shape[1]
        rule = f"must have {width} columns, as those that the groups were found in"
        require(found == width, "features", rule, found, "read them from the same model")
        return values, names


def find_groups(
    prompts: Sequence[str],
    features: Float[Array, "sample feature"],
    own_loss: Float[Array, "picture level draw"],
    null_loss: Float[Array, "picture level draw"],
    *,
    prompt_losses: Float[Array, "compared prompt level draw"] | None = None,
    prompt_names: Sequence[str] = (),
    levels: Sequence[float] = (),
    measured: Int[Array, " picture"] | Sequence[int] | None = None,
    compared: Int[Array, " compared"] | Sequence[int] | None = None,
    min_images: int = 40,
    min_share: float = 0.02,
    false_positive_rate: float = 0.01,
    target_share: float = 0.5,
    seed: int = 0,
) -> FoundGroups:
    """Infer which pictures of each prompt a model favours and which it neglects, without labels.

    The max step of InvDiff (arXiv 2412.08480): groups q that maximise Var_e R_e(q), as `invdiff
    discover` looks for them by default. The same evidence and seed give the same groups. Losses are
    denoising losses of the model in question, means over the dimensions of the latent in v space
    (`core/diffusion/losses.py`), with noise that all pictures share: draw m at level l is the same
    for every picture.

    Args:
        prompts: the prompt of every picture.
        features: what the model's denoiser sees in every picture, or any other features.
        own_loss: loss of a picture under its own prompt.
        null_loss: the same under the empty prompt.
        prompt_losses: loss of a picture under each of some prompts. Without it several prompts are
            told apart by ``own_loss`` less ``null_loss`` alone, which finds less. Not read where a
            single prompt is searched.
        prompt_names: those prompts, in the order of that axis; () is all prompts, sorted.
        levels: noise level of each place on the level axes, in (0, 1]; those below 0.85 are left
            out if others are there. () takes all as they are.
        measured: rows of the pictures that ``own_loss`` and ``null_loss`` are about, ascending;
            None is all.
        compared: rows of those that ``prompt_losses`` is about, among them; None is the same.
        min_images: prompts with fewer measured pictures are not searched; at least 10.
        min_share: smallest share of a prompt's pictures that is a group, in [0, 0.5).
        false_positive_rate: chance of finding groups in a prompt that has none, in (0, 1).
        target_share: share of the under-represented group at which nothing is left to balance.
        seed: owner of the random starts.

    Returns:
        Memberships of all pictures, a verdict on each prompt, and a model for other pictures.

    Raises:
        ArgumentError: shapes or lengths that do not fit together, values that are not finite, or
            no prompt with ``min_images`` pictures.

    Examples:
        Nurses who are mostly women and pilots who are mostly men; nobody tells who is what. A
        picture costs more under the prompt that it is unusual for.

        >>> import numpy as np
        >>> import invdiff
        >>> random = np.random.default_rng(0)
        >>> prompts = ["a nurse"] * 100 + ["a pilot"] * 100
        >>> woman = np.append(np.arange(100) < 90, np.arange(100) < 10)
        >>> features = random.normal(size=(200, 8))
        >>> features[:, 0] += 6 * woman
        >>> sign = np.where(woman, -1, 1)[:, None, None, None] * np.array([1, -1])[:, None, None]
        >>> prompt_losses = 1 + 0.1 * sign + random.normal(0, 0.02, size=(200, 2, 3, 2))
        >>> own_loss = prompt_losses[np.arange(200), np.repeat([0, 1], 100)]
        >>> null_loss = prompt_losses.mean(1)
        >>> groups = invdiff.find_groups(
        ...     prompts, features, own_loss, null_loss, prompt_losses=prompt_losses
        ... )
        >>> groups
        Groups of 200 pictures, read from what each picture costs under every prompt
          a nurse: under-represented group 10% [6%, 17%] of 100 pictures, p < 0.001
          a pilot: under-represented group 10% [6%, 17%] of 100 pictures, p < 0.001
        >>> groups.memberships[[0, 95]].round(2)
        array([[1., 0.],
               [0., 1.]])
    """
    names = texts("prompts", prompts, "for each picture")
    seen = floats("features", features, ("picture", "feature"))
    same_count("features", len(seen), "prompts", len(names), "give a row for each picture")
    require_between("min_share", min_share, -1e-12, 0.5, "0.02 is what a run takes")
    require_between("false_positive_rate", false_positive_rate, 0, 1, "0.01 is what a run takes")
    require_between("target_share", target_share, 0, 1, "0.5 is even")
    of = rows("measured", measured, len(names))
    own = _losses("own_loss", own_loss, LOSS_AXES, len(of), levels)
    null = _losses("null_loss", null_loss, LOSS_AXES, len(of), levels)
    rule, alike = f"must have own_loss's shape {own.shape}", own.shape == null.shape
    require(alike, "null_loss", rule, null.shape, "measure both alike")
    unlike, given = np.ptp(own - null) > 0, "the same for every picture"
    advice = "measure it under the empty prompt"
    require(unlike, "null_loss", "must differ from own_loss", given, advice)
    searched = _searched(names[of], min_images)
    scores, scored = Scores(own[searched], null[searched]), of[searched]
    contrasts = None
    if prompt_losses is not None:
        among = of if compared is None else rows("compared", compared, len(names))
        contrasts = partial(_contrasts, prompt_losses, prompt_names, names, among, scored, levels)
    grouping = infer_groups(
        scores.excess.mean((1, 2)),
        scores.loss.mean((1, 2)),
        contrasts,
        seen,
        scored,
        names,
        min_share=min_share,
        false_alarm=false_positive_rate,
        seed=randomness.derive(seed, "grouping"),
        wanted=target_share,
    )
    verdicts = {}
    for name, known in grouping.verdicts.items():
        count = int((names == name).sum())
        low, high = wilson(np.array(round(known.share * count)), np.array(count))
        share = (known.share, float(low), float(high), count)
        tested = (known.explained, known.p_value)
        verdicts[name] = PromptVerdict(known.found, *share, *tested, known.note)
    q = memberships(grouping.against)
    return FoundGroups(
        tuple(names.tolist()), q, verdicts, READ_FROM.get(grouping.score, "nothing"), grouping
    )


def _losses(
    name: str, values: Array, axes: Sequence[str], count: int, levels: Sequence[float]
) -> np.ndarray:
    """Losses of ``count`` pictures at the levels that decide; the last axes are level and draw."""
    found = floats(name, values, axes)
    same_count(name, len(found), "measured or prompts", count, "say which pictures were measured")
    if not len(levels):
        return found
    fits = found.shape[-2] == len(levels) and all(0 < level <= 1 for level in levels)
    rule = f"must be {found.shape[-2]} numbers in (0, 1], one for each level of {name}"
    advice = "give the noise levels that the pictures were measured at"
    require(fits, "levels", rule, list(levels), advice)
    deciding: np.ndarray = found[..., high_levels(levels), :]
    return deciding


def _searched(names: np.ndarray, least: int) -> np.ndarray:
    """Which of the measured pictures are of prompts that have enough of them."""
    advice = "fewer than 10 pictures say nothing of their groups"
    require_between("min_images", least, 9, np.inf, advice)
    known, counts = np.unique(names, return_counts=True)
    rule = f"must have one with min_images = {least} measured pictures"
    most = f"at most {counts.max()} pictures of {str(known[counts.argmax()])!r}"
    advice = "measure more pictures, or lower min_images (10 is the least)"
    require(counts.max() >= least, "prompts", rule, most, advice)
    return np.isin(names, known[counts >= least])


def _contrasts(
    losses: Array,
    wanted: Sequence[str],
    names: np.ndarray,
    among: np.ndarray,
    scored: np.ndarray,
    levels: Sequence[float],
) -> Contrasts:
    """What the pictures ``among`` cost under every prompt, of those that are searched."""
    axes = ("picture", "prompt", "level", "draw")
    found = _losses("prompt_losses", losses, axes, len(among), levels)
    conditions = texts("prompt_names", wanted or sorted(set(names.tolist())), "for each prompt")
    texts_given, count = conditions.tolist(), found.shape[1]
    fits = len(set(texts_given)) == len(texts_given) == count
    rule = f"must be {count} unlike texts, as prompt_losses has prompts"
    advice = "name the prompts of that axis in their order"
    require(fits, "prompt_names", rule, texts_given, advice)
    rule, advice = "must be about 2 prompts or more", "leave it out for one prompt"
    require(count >= 2, "prompt_losses", rule, "1", advice)
    inside = np.isin(among, scored)
    rule = "must name pictures of prompts that are searched"
    advice = "compare some of those with min_images measured pictures"
    require(inside.any(), "compared", rule, "none", advice)
    return Contrasts(found[inside].mean(3), tuple(texts_given), among[inside])
