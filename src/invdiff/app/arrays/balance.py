"""The min step's weights on arrays, and the bound that its risks give."""

from __future__ import annotations  # in `help()` a signature as it is written here

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from invdiff.app.arrays.inputs import Array, floats, require, require_between, same_count, texts
from invdiff.core.balancing import certificate as bounds
from invdiff.core.balancing import reweighting
from invdiff.core.groups.memberships import present


def balanced_weights(
    memberships: Float[Array, " picture"] | Float[Array, "picture group"],
    prompts: Sequence[str],
    *,
    target: Sequence[float] = (),
    only: Sequence[str] | None = None,
    certainty: float = 4.0,
) -> Float[np.ndarray, " picture"]:
    """Weights under which the groups of each prompt have the shares that are wanted.

    w_i = sum_e u_e r_i(e) / mean r(e) with r = q^certainty: the re-weighting of the min step of
    InvDiff (arXiv 2412.08480) within each prompt. As chances of being drawn, or as factors
    of a loss, they put the wanted mixture in the place of the data's.

    Args:
        memberships: q_i(e) in 0..1, each row adding up to 1; or q_i(1) alone, of two groups.
        prompts: the prompt of every picture.
        target: the shares u_e, over-represented group first, adding up to 1; () is even. What a
            prompt lacks of more than two groups is left to those that it has.
        only: prompts to balance, such as ``groups.found``; the others keep weight 1. None is all.
        certainty: power to which memberships count, 1 or more. Inferred ones are surer than they
            are right: the default of a run is 4, 1 takes them as they are.

    Returns:
        A weight >= 0 for each picture. Those of a prompt average 1.

    Raises:
        ArgumentError: shapes or lengths that do not fit together, values that are no memberships
            or shares, or a prompt that has one group alone.

    Examples:
        Of four pictures one is in the under-represented group: it counts for three.

        >>> import invdiff
        >>> invdiff.balanced_weights([0.0, 0.0, 0.0, 1.0], ["a pilot"] * 4)
        array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    axes = ("picture", "group") if np.ndim(memberships) == 2 else ("picture",)
    q = floats("memberships", memberships, axes)
    q = q if q.ndim == 2 else np.stack([1 - q, q], 1)
    names = texts("prompts", prompts, "for each picture")
    same_count("memberships", len(q), "prompts", len(names), "give a row for each picture")
    off = ((q < 0) | (q > 1) | (abs(q.sum(1, keepdims=True) - 1) > 0.01)).any(1)
    rule, row = "must lie in 0..1 and add up to 1 in each row", int(off.argmax())
    given = f"{q[row].tolist()} in row {row}"
    require(not off.any(), "memberships", rule, given, "divide each row by its sum")
    require_between("certainty", certainty, 1 - 1e-12, np.inf, "1 takes memberships as they are")
    mix = _mix(target, q.shape[1])
    chosen = sorted(set(names.tolist())) if only is None else list(only)
    for name in chosen:
        _both_there(name, q[names == name])
    return reweighting.balanced_weights(q, names, dict.fromkeys(chosen, mix), float(certainty))


def _mix(target: Sequence[float], groups: int) -> Float[np.ndarray, " group"]:
    if not len(target):
        return np.full(groups, 1 / groups)
    mix = floats("target", target, ("group",))
    fits = len(mix) == groups and (mix >= 0).all() and np.isclose(mix.sum(), 1)
    rule = f"must be {groups} shares, 0 or more, that add up to 1"
    require(fits, "target", rule, list(target), "() is even")
    return mix


def _both_there(name: str, q: Float[np.ndarray, "picture group"]) -> None:
    require(len(q) > 0, "only", "must be among the prompts", repr(name), "leave it out")
    there = present(q)
    rule = f"must have two groups in every prompt to be balanced ({name!r})"
    advice = "leave the prompt out (only=...): no weight makes a group that is not there"
    require(there.sum() > 1, "memberships", rule, f"group {int(there.argmax())} alone", advice)


@dataclass(frozen=True, repr=False, eq=False)
class Certificate:
    """What the risks of groups say about every mixture of them.

    ``bound`` is at least the risk of any mixture, as long as the groups keep their ``risks``;
    ``worst`` is the largest risk that a mixture has, reached by ``worst_mixture`` (a weight for
    each group, adding up to 1). ``bound_at_weight`` is the looser bound at ``variance_weight``,
    the one that the objective of training is part of; None without one.
    """

    risks: Float[np.ndarray, " group"]
    mean: float
    variance: float
    bound: float
    worst: float
    worst_mixture: Float[np.ndarray, " group"]
    variance_weight: float | None = None
    bound_at_weight: float | None = None

    def __repr__(self) -> str:
        lines = [
            f"Certificate of {len(self.risks)} groups: worst-case loss bound {self.bound:.4g}",
            f"  worst mixture {self.worst:.4g}, even mixture {self.mean:.4g}",
        ]
        if self.bound_at_weight is not None:
            lines.append(
                f"  at variance weight {self.variance_weight:g} {self.bound_at_weight:.4g}"
            )
        return "\n".join(lines)


def certificate(
    risks: Float[Array, " group"], *, variance_weight: float | None = None
) -> Certificate:
    """A bound on the risk of every mixture of groups, from the risk of each.

    With K groups of mean risk mu and variance S it is mu + sqrt((K - 1) S), and at a given lambda
    mu + lambda S + (K - 1) / (4 lambda): the objective of InvDiff (arXiv 2412.08480) plus a
    constant. The proof is in `core/balancing/certificate.py`. It is about the risks as given, not
    about how well they are known.

    Args:
        risks: the mean loss of each group of each prompt, in whatever unit; two or more.
        variance_weight: lambda > 0, for the looser bound as well.

    Returns:
        Bound, worst mixture and its risk.

    Raises:
        ArgumentError: fewer than two risks, one that is not finite (a group without pictures has
            no risk: leave it out), or a lambda that is not above 0.

    Examples:
        >>> import invdiff
        >>> found = invdiff.certificate([0.2, 0.2, 0.5])
        >>> found
        Certificate of 3 groups: worst-case loss bound 0.5
          worst mixture 0.5, even mixture 0.3
        >>> found.worst_mixture
        array([0., 0., 1.])
    """
    values = floats("risks", risks, ("group",))
    rule, advice = "must be those of two groups or more", "add the other groups'"
    require(len(values) > 1, "risks", rule, len(values), advice)
    looser = None
    if variance_weight is not None:
        advice = "None leaves the looser bound out"
        require_between("variance_weight", variance_weight, 0, np.inf, advice)
        looser = bounds.bound(values, float(variance_weight))
    return Certificate(
        risks=values,
        mean=float(values.mean()),
        variance=float(values.var()),
        bound=bounds.tight_bound(values),
        worst=float(values.max()),
        worst_mixture=bounds.worst_mixture(values),
        variance_weight=variance_weight,
        bound_at_weight=looser,
    )
