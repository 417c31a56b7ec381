"""Clusters of the features that all prompts share, and how many of them there are.

The mixture of :func:`fit_shared_shift_mixture` with any number of groups: within prompt p

    x = mu_p + delta_e + noise of one covariance,    group e with chance pi_pe,

so that neither a prompt's content nor its skew makes a cluster. The number of groups is the one
with the lowest ICL (Biernacki, Celeux and Govaert 2000), BIC with twice the entropy of the
memberships added: BIC alone splits a cloud that is no Gaussian into parts with no gap between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr, logsumexp

from invdiff.core.discovery.candidates import gaussians, k_means
from invdiff.core.discovery.shared_shift import STEPS
from invdiff.core.groups.features import centre_within_prompts

COMPONENTS = 10


@dataclass(frozen=True)
class Clusters:
    """The mixture as fitted: one mean of each prompt and group, their shares, one covariance."""

    means: Float[np.ndarray, "prompt group component"]
    shares: Float[np.ndarray, "prompt group"]
    precision: Float[np.ndarray, "component component"]
    q: Float[np.ndarray, "sample group"]
    criterion: float


def fit_shared_clusters(
    values: Float[np.ndarray, "sample component"],
    prompt: Int[np.ndarray, " sample"],
    start: Float[np.ndarray, "sample group"],
) -> Clusters:
    """Expectation-maximisation from the memberships ``start``; ``prompt`` are numbers from 0 on.

    ``criterion`` is the ICL, the lower the better.
    """
    count, width = values.shape
    prompts, groups = prompt.max() + 1, start.shape[1]
    q, inside = np.clip(start, 0.02, None), np.eye(prompts)[prompt]
    q /= q.sum(1, keepdims=True)
    ridge = 1e-3 * centre_within_prompts(values, prompt).var() * np.eye(width)
    for _ in range(STEPS):
        means = _means(values, q, inside)
        residual = values[:, None] - means[prompt]  # sample group component
        weighted = (residual * q[..., None]).reshape(-1, width)
        covariance = weighted.T @ residual.reshape(-1, width) / count + ridge
        precision = np.linalg.inv(covariance)
        shares = inside.T @ q / inside.sum(0)[:, None]
        square = np.einsum("sgc,cd,sgd->sg", residual, precision, residual)
        joint = np.log(shares.clip(1e-12))[prompt] - 0.5 * square
        total = logsumexp(joint, axis=1, keepdims=True)
        updated = np.exp(joint - total)
        moved, q = float(np.abs(updated - q).mean()), updated
        if moved < 1e-5:
            break
    volume = np.linalg.slogdet(2 * np.pi * covariance)[1]
    likelihood = float(total.sum() - 0.5 * count * volume)
    free = (groups - 1) * (width + prompts)  # what all numbers of groups share is left out
    criterion = free * np.log(count) - 2 * likelihood + 2 * float(entr(q).sum())
    return Clusters(means, shares, precision, q, criterion)


def _means(values: np.ndarray, q: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """mu_p + delta_e by least squares; an empty group of a prompt has a mean like the others."""
    crossed = inside.T @ q
    design = np.block([[np.diag(inside.sum(0)), crossed], [crossed.T, np.diag(q.sum(0))]])
    sums = np.concatenate([inside.T @ values, q.T @ values])
    solved = np.linalg.lstsq(design, sums, rcond=None)[0]
    own, shift = np.split(solved, [inside.shape[1]])
    return own[:, None] + shift[None]


def best(
    values: Float[np.ndarray, "sample component"],
    prompt: Int[np.ndarray, " sample"],
    counts: range,
    min_share: float,
    seed: int,
) -> dict[int, Clusters]:
    """For 1 and each of ``counts`` groups the best of several starts, whose groups are no dust."""
    found = {1: fit_shared_clusters(values[:, :COMPONENTS], prompt, np.ones((len(values), 1)))}
    for count in counts:
        fitted = (
            fit_shared_clusters(values[:, :COMPONENTS], prompt, np.eye(count)[labels])
            for labels in _starts(values, prompt, count, seed)
        )
        allowed = [one for one in fitted if one.q.mean(0).min() >= min_share]
        if allowed:
            found[count] = min(allowed, key=lambda one: one.criterion)
    return found


def _starts(values: np.ndarray, prompt: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Clusters of k-means and of mixtures, pooled and prompt-centred."""
    for view in (values, centre_within_prompts(values, prompt)):
        yield k_means(view, count, seed)
        yield gaussians(view[:, :COMPONENTS], count, seed)
