"""Letting a candidate settle: the mixture of two groups nearest to it in the denoiser's features.

Clusters and carried-over splits cut roughly. What people would call an attribute is a gap: two
groups that differ by the same shift in every prompt. The mixture below finds the gap next to a
candidate by expectation-maximisation; each prompt keeps its own mean and its own shares, so neither
its content nor its skew moves the boundary.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from invdiff.core.candidates import FOLDS, Linear, Projection

STEPS = 100
ROUNDS = 12
SMALLEST = 0.005
ALONE = 0.98  # a prompt with a larger share of either group has that one alone
FEW = 20  # images: a smaller group is believed only where the other prompts have it
NEAR = 2 / 3  # of the usual gap between the groups

Ratio = tuple[float, float, float]


@dataclass(frozen=True)
class GroupModel:
    """Which group an image of a prompt is in, from its raw features.

    With d = features @ weight the log-likelihood ratio of group 1 to group 0 is a + b d + c d^2
    (two Gaussians of different variance); ``prior`` is the log-odds of the training images.
    """

    weight: Float[np.ndarray, " feature"]
    ratio: Ratio
    prior: float

    @classmethod
    def supervised(
        cls,
        features: Float[np.ndarray, "sample feature"],
        member: Float[np.ndarray, " sample"],
    ) -> "GroupModel":
        """A logistic model of groups that are given, for the estimators that do not infer them."""
        mean = member.mean() if len(member) else 0.0
        prior = float(logit(np.clip(mean, SMALLEST, 1 - SMALLEST)))
        if min(member.sum(), (1 - member).sum()) < 5:
            return cls(np.zeros(features.shape[1]), (0.0, 0.0, 0.0), prior)
        projection = Projection.fit(features)
        model = Linear.fit(projection(features), member > 0.5)
        weight = projection.axes @ model.weight
        return cls(weight, (model.bias - projection.mean @ weight - prior, 1.0, 0.0), prior)

    def log_ratio(self, features: Float[np.ndarray, "sample feature"]) -> np.ndarray:
        """Log of p(features | group 1) / p(features | group 0), held within +-30."""
        return log_ratio_at(features @ self.weight, self.ratio)

    def __call__(self, features: Float[np.ndarray, "sample feature"]) -> np.ndarray:
        """q(1) of each image, with the shares of the training images as prior."""
        return membership(features @ self.weight, self.ratio, self.prior)

    def share(self, log_ratio: Float[np.ndarray, " sample"], steps: int = 200) -> float:
        """The share of group 1 among other images, whose shares may differ from the training's.

        Maximum likelihood with both densities known (Saerens et al. 2002).
        """
        share = 0.5
        for _ in range(steps):
            share = float(expit(log_ratio + logit(np.clip(share, SMALLEST, 1 - SMALLEST))).mean())
        return share

    def shares(self, log_ratio: Float[np.ndarray, " sample"], steps: int = 200) -> np.ndarray:
        """The :meth:`share` of both groups."""
        share = self.share(log_ratio, steps)
        return np.array([1 - share, share])

    @property
    def present(self) -> np.ndarray:
        """Both groups are there: a prompt without one has nothing to balance."""
        return np.ones(2, bool)

    def flipped(self) -> "GroupModel":
        """The model with the two groups exchanged."""
        a, b, c = self.ratio
        return GroupModel(self.weight, (-a, -b, -c), -self.prior)


def shifted(ratio: Ratio, offset: float) -> Ratio:
    """The same log-likelihood ratio, of values to which ``offset`` was added."""
    a, b, c = ratio
    return a - b * offset + c * offset**2, b - 2 * c * offset, c


def settle(
    components: Float[np.ndarray, "sample component"],
    member: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
) -> tuple[Float[np.ndarray, " sample"], Float[np.ndarray, " component"]]:
    """Fit the two-group mixture from the start ``member``: memberships and discriminant direction.

    Within prompt p, x = mu_p + z delta + noise with one covariance, z = 1 with chance pi_p.
    """
    q = np.clip(member, 0.02, 0.98)
    rows = [prompt == name for name in np.unique(prompt)]
    centred = components.copy()
    for inside in rows:
        centred[inside] -= components[inside].mean(0)
    ridge = 1e-3 * centred.var() * np.eye(components.shape[1])
    for _ in range(STEPS):
        shift, direction = _maximise(centred, q, rows, ridge)
        updated = np.empty_like(q)
        for inside in rows:
            share = np.clip(q[inside].mean(), 0.01, 0.99)
            middle = (0.5 - q[inside].mean()) * shift
            updated[inside] = expit((centred[inside] - middle) @ direction + logit(share))
        moved, q = float(np.abs(updated - q).mean()), updated
        if moved < 1e-5:
            break
    return q, direction


def _maximise(
    centred: np.ndarray, q: np.ndarray, rows: list[np.ndarray], ridge: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The shift between the groups, and the direction that tells them apart best."""
    deviation = q.copy()
    for inside in rows:
        deviation[inside] -= q[inside].mean()
    unsure = q * (1 - q)
    shift = deviation @ centred / (deviation @ deviation + unsure.sum() + 1e-9)
    rest = centred - np.outer(deviation, shift)
    covariance = rest.T @ rest / len(q) + np.outer(shift, shift) * unsure.mean()
    return shift, np.linalg.solve(covariance + ridge, shift)


def refine(
    components: Float[np.ndarray, "sample component"],
    q: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
) -> tuple[Float[np.ndarray, " component"], dict[str, tuple[Ratio, float]]]:
    """A direction fitted to the groups, and the groups along it, in turn until neither moves.

    The mixture draws its boundary from means and a covariance; a logistic model looks at the
    images near it. It is fitted on all prompts, lined up by their group 0, and each prompt then
    settles along it by itself (:func:`along`): what shows an attribute in one prompt finds the
    members of another that show it only a little, and these say in the next round what to look at.
    A prompt of one group (:data:`ALONE`) has nothing to settle and is no model for others; one
    whose second group turns out to be :func:`strays` has one group in what is returned.

    Returns the direction and each prompt's log-likelihood ratio and prior. The direction is zero
    when a group has too few members for a model.
    """
    rows = {str(name): prompt == name for name in np.unique(prompt)}
    mixed = {name: r for name, r in rows.items() if 1 - ALONE <= q[r].mean() <= ALONE}
    fitted = np.any([*mixed.values()], axis=0) if mixed else np.zeros(len(q), bool)
    lined, q = components.copy(), q.copy()
    direction = np.zeros(components.shape[1])
    for _ in range(ROUNDS):
        if min((q[fitted] > 0.5).sum(), (q[fitted] <= 0.5).sum()) < FOLDS:
            break
        for inside in mixed.values():
            weight = 1 - q[inside] + 1e-9
            lined[inside] = components[inside] - np.average(
                components[inside], axis=0, weights=weight
            )
        direction = Linear.fit(lined[fitted], q[fitted]).weight
        values = components @ direction
        updated = q.copy()
        for inside in mixed.values():
            updated[inside] = membership(values[inside], *along(values[inside], q[inside]))
        moved, q = float(np.abs(updated - q).mean()), updated
        if moved < 1e-4:
            break
    values = components @ direction
    for name in strays(values, q, mixed):
        del mixed[name]
    known = {name: along(values[inside], q[inside]) for name, inside in mixed.items()}
    usual = np.mean([gap(values[r], q[r]) for r in mixed.values()], 0) if mixed else np.zeros(2)
    for name in rows.keys() - mixed.keys():
        known[name] = alone(values[rows[name]], bool(q[rows[name]].mean() > 0.5), *usual)
    return direction, {name: known[name] for name in rows}


def strays(
    values: Float[np.ndarray, " sample"],
    q: Float[np.ndarray, " sample"],
    rows: Mapping[str, np.ndarray],
) -> list[str]:
    """The prompts whose smaller group is a few pictures on the way to where other prompts have it.

    Two Gaussians can always be laid into few pictures: the second takes what lies farthest out.
    """
    apart = {name: abs(gap(values[inside], q[inside])[0]) for name, inside in rows.items()}
    usual = np.median([*apart.values()]) if apart else 0.0
    return [
        name
        for name, inside in rows.items()
        if min(q[inside].sum(), (1 - q[inside]).sum()) < FEW and apart[name] < NEAR * usual
    ]


def gap(values: Float[np.ndarray, " sample"], q: Float[np.ndarray, " sample"]) -> np.ndarray:
    """How far apart the groups' means are along the direction, and their common variance."""
    one, none = np.average(values, weights=q + 1e-9), np.average(values, weights=1 - q + 1e-9)
    return np.array([one - none, np.mean(q * (values - one) ** 2 + (1 - q) * (values - none) ** 2)])


def alone(
    values: Float[np.ndarray, " sample"], group: bool, apart: float, variance: float
) -> tuple[Ratio, float]:
    """What :func:`along` gives, of a prompt with one group alone: the other is as far as usual.

    Both spread as the prompt's own pictures do, where these spread more than groups usually do.
    """
    prior = float(logit(SMALLEST)) * (-1 if group else 1)
    variance = max(variance, float(values.var()))
    if variance <= 0:
        return (0.0, 0.0, 0.0), prior
    middle = float(values.mean()) + (-0.5 if group else 0.5) * apart
    slope = apart / variance
    return (-slope * middle, slope, 0.0), prior


def log_ratio_at(
    values: Float[np.ndarray, " sample"], ratio: Ratio
) -> Float[np.ndarray, " sample"]:
    """Log-likelihood ratio of values along the direction, held within +-30."""
    a, b, c = ratio
    return np.clip(a + b * values + c * values**2, -30, 30)


def membership(
    values: Float[np.ndarray, " sample"], ratio: Ratio, prior: float
) -> Float[np.ndarray, " sample"]:
    """q(1) of values along the direction."""
    return expit(log_ratio_at(values, ratio) + prior)


def along(
    values: Float[np.ndarray, " sample"], q: Float[np.ndarray, " sample"]
) -> tuple[Ratio, float]:
    """One prompt's two Gaussians along the direction, each with its own variance.

    Returns the log-likelihood ratio's coefficients (1, d, d^2) and the prior log-odds.
    """
    floor = 1e-3 * values.var() + 1e-12
    for _ in range(STEPS):
        share = float(np.clip(q.mean(), SMALLEST, 1 - SMALLEST))
        one, none = np.average(values, weights=q + 1e-9), np.average(values, weights=1 - q + 1e-9)
        wide = np.average((values - one) ** 2, weights=q + 1e-9) + floor
        thin = np.average((values - none) ** 2, weights=1 - q + 1e-9) + floor
        ratio = (
            float(0.5 * (none**2 / thin - one**2 / wide - np.log(wide / thin))),
            float(one / wide - none / thin),
            float(0.5 * (1 / thin - 1 / wide)),
        )
        prior = float(logit(share))
        updated = membership(values, ratio, prior)
        moved, q = float(np.abs(updated - q).mean()), updated
        if moved < 1e-6:
            break
    return ratio, prior
