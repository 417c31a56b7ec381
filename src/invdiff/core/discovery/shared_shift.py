"""Letting a candidate settle: the mixture of two groups nearest to it in the denoiser's features.

Clusters and carried-over splits cut roughly. What people would call an attribute is a gap: two
groups that differ by the same shift in every prompt. The mixture below finds the gap next to a
candidate by expectation-maximisation; each prompt keeps its own mean and its own shares, so neither
its content nor its skew moves the boundary.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

STEPS = 100


def fit_shared_shift_mixture(
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
