"""From candidate memberships to a group model for each prompt."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from invdiff.core.discovery.candidates import Candidate
from invdiff.core.discovery.grouping import GroupModels
from invdiff.core.discovery.shared_shift import STEPS, fit_shared_shift_mixture
from invdiff.core.groups.features import FOLDS, LEADING, LogisticDiscriminant, Projection
from invdiff.core.groups.two_groups import SMALLEST, GroupModel, Ratio, membership, shifted

ROUNDS = 12


ALONE = 0.98  # a prompt with a larger share of either group has that one alone


FEW = 20  # images: a smaller group is believed only where the other prompts have it


NEAR = 2 / 3  # of the usual gap between the groups


def refine_boundary(
    components: Float[np.ndarray, "sample component"],
    q: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
) -> tuple[Float[np.ndarray, " component"], dict[str, tuple[Ratio, float]]]:
    """A direction fitted to the groups, and the groups along it, in turn until neither moves.

    The mixture draws its boundary from means and a covariance; a logistic model looks at the
    images near it. It is fitted on all prompts, lined up by their group 0, and each prompt then
    settles along it by itself (:func:`fit_gaussians_on_direction`): what shows an attribute in one
    prompt finds the members of another that show it only a little, and these say in
    the next round what to look at.
    A prompt of one group (:data:`ALONE`) has nothing to settle and is no model for others; one
    whose second group is one of :func:`spurious_minorities` has one group in what is returned.

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
        direction = LogisticDiscriminant.fit(lined[fitted], q[fitted]).weight
        values = components @ direction
        updated = q.copy()
        for inside in mixed.values():
            updated[inside] = membership(
                values[inside], *fit_gaussians_on_direction(values[inside], q[inside])
            )
        moved, q = float(np.abs(updated - q).mean()), updated
        if moved < 1e-4:
            break
    values = components @ direction
    for name in spurious_minorities(values, q, mixed):
        del mixed[name]
    known = {
        name: fit_gaussians_on_direction(values[inside], q[inside])
        for name, inside in mixed.items()
    }
    usual = np.mean([gap(values[r], q[r]) for r in mixed.values()], 0) if mixed else np.zeros(2)
    for name in rows.keys() - mixed.keys():
        known[name] = single_group_model(
            values[rows[name]], bool(q[rows[name]].mean() > 0.5), *usual
        )
    return direction, {name: known[name] for name in rows}


def spurious_minorities(
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


def single_group_model(
    values: Float[np.ndarray, " sample"], group: bool, apart: float, variance: float
) -> tuple[Ratio, float]:
    """The two Gaussians of a prompt with one group alone: the other is as far off as usual.

    Both spread as the prompt's own pictures do, where these spread more than groups usually do.
    """
    prior = float(logit(SMALLEST)) * (-1 if group else 1)
    variance = max(variance, float(values.var()))
    if variance <= 0:
        return (0.0, 0.0, 0.0), prior
    middle = float(values.mean()) + (-0.5 if group else 0.5) * apart
    slope = apart / variance
    return (-slope * middle, slope, 0.0), prior


def fit_gaussians_on_direction(
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


def shared_shift_memberships(
    candidate: Candidate,
    components: Float[np.ndarray, "sample component"],
    scored: np.ndarray,
    prompt: np.ndarray,
) -> Float[np.ndarray, " sample"]:
    """Memberships of all images in the mixture that a candidate settles to."""
    start = np.full(len(components), candidate.member.mean())
    start[scored] = candidate.member
    unseen = np.setdiff1d(np.arange(len(components)), scored)
    if len(unseen) and len(np.unique(candidate.member)) == 2:
        carried = LogisticDiscriminant.fit(components[scored], candidate.member)
        start[unseen] = carried(components[unseen])
    q, _ = fit_shared_shift_mixture(components[:, :LEADING], start, prompt)
    return q


def refined_models(
    q: Float[np.ndarray, " sample"],
    components: Float[np.ndarray, "sample component"],
    projection: Projection,
    prompt: np.ndarray,
) -> GroupModels:
    """The model of each prompt, refined from memberships and fitted on all images."""
    direction, fitted = refine_boundary(components, q, prompt)
    weight = projection.axes @ direction
    offset = float(projection.mean @ weight)
    return {
        name: GroupModel(weight, shifted(ratio, offset), prior)
        for name, (ratio, prior) in fitted.items()
    }
