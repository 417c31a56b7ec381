"""Two groups as one linear model of the features, fitted to the max step's objective.

q_i(1) = sigmoid(x_i w + b_y): one direction for all prompts, an offset for each. The direction is
what maximises explained variance times tie (:func:`objective.objective`), so nothing is clustered
first.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import Ridge

from invdiff.core.discovery.objective import differentiable_objective
from invdiff.core.groups.features import FOLDS, LogisticDiscriminant, Projection
from invdiff.core.groups.two_groups import SMALLEST, GroupModel

PENALTY = 0.01
STEPS = 150


@dataclass(frozen=True)
class LinearGroups:
    """The model: a weight for each component and an offset for each prompt."""

    weight: Float[np.ndarray, " component"]
    offset: dict[str, float]

    def __call__(
        self, components: Float[np.ndarray, "sample component"], prompt: np.ndarray
    ) -> Float[np.ndarray, " sample"]:
        """q_i(1); images of a prompt that was not fitted have the mean of the offsets."""
        usual = float(np.mean(list(self.offset.values())))
        offset = np.array([self.offset.get(str(name), usual) for name in prompt])
        return expit(components @ self.weight + offset)


def linear_models(
    q: Float[np.ndarray, " scored"],
    components: Float[np.ndarray, "sample component"],
    projection: Projection,
    scored: np.ndarray,
    prompt: np.ndarray,
) -> dict[str, GroupModel]:
    """The memberships as one logistic model, with each prompt's own share as its prior."""
    if min(q.sum(), (1 - q).sum()) < FOLDS:
        nothing = GroupModel(
            np.zeros(len(projection.mean)), (0.0, 0.0, 0.0), float(logit(SMALLEST))
        )
        return {str(name): nothing for name in np.unique(prompt)}
    linear = LogisticDiscriminant.fit(components[scored], q)
    member, weight = linear(components), projection.axes @ linear.weight
    bias = linear.bias - float(projection.mean @ weight)
    models = {}
    for name in np.unique(prompt):
        share = np.clip(member[prompt == name].mean(), SMALLEST, 1 - SMALLEST)
        models[str(name)] = GroupModel(weight, (bias - logit(share), 1.0, 0.0), float(logit(share)))
    return models


def fit_linear_groups(
    components: Float[np.ndarray, "sample component"],
    score: Float[np.ndarray, " sample"],
    prompt: np.ndarray,
) -> LinearGroups:
    """The best of several starts: where the score of all prompts rises, and that of each."""
    names, codes = np.unique(prompt, return_inverse=True)
    scale = components.std() + 1e-12
    x = torch.from_numpy((components - components.mean(0)) / scale)
    rows = [torch.from_numpy(np.flatnonzero(codes == k)) for k in range(len(names))]
    y = torch.from_numpy(score.astype(np.float64))

    def loss_of(flat: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(flat).requires_grad_()
        weight, offset = leaf[: x.shape[1]], leaf[x.shape[1] :]
        parts = [torch.sigmoid(x[r] @ weight + offset[k]) for k, r in enumerate(rows)]
        value = PENALTY * weight.square().mean() - differentiable_objective(
            parts, [y[r] for r in rows]
        )
        value.backward()
        assert leaf.grad is not None, "the objective depends on the weights"
        return value.item(), leaf.grad.numpy()

    found = [
        minimize(loss_of, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
        for start in _starts(x.numpy(), score, codes)
    ]
    best = min(found, key=lambda one: one.fun).x
    weight = best[: x.shape[1]] / scale
    middle = float(components.mean(0) @ weight)
    offset = {str(n): float(b) - middle for n, b in zip(names, best[x.shape[1] :], strict=True)}
    return LinearGroups(weight, offset)


def _starts(x: np.ndarray, score: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Weights and offsets: unit spread along the direction, an even cut of each prompt."""
    inside = [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]
    centred = [score[rows] - score[rows].mean() for rows in inside]
    fitted = [(x[np.concatenate(inside)], np.concatenate(centred))]
    fitted += [(x[rows], own) for rows, own in zip(inside, centred, strict=True)]
    starts = []
    for values, target in fitted:
        direction = Ridge(alpha=len(target)).fit(values, target).coef_
        along = x @ direction
        weight = 2 * direction / (along.std() + 1e-12)
        starts.append(np.append(weight, [-np.median(x[r] @ weight) for r in inside]))
    return starts
