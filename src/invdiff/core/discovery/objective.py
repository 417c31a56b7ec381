"""The objective of the max step for sources of a skew, on arrays and on tensors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import entr
from torch import Tensor

from invdiff.core.discovery.evidence import SMALLEST, CostEvidence

STEPS = 60
CUTS = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)  # shares of a prompt that a cut may leave above
SWEEPS = 3
PENALTY = 1e-3
STEEPNESS = 2.0  # of the memberships at the start: standard deviations of the direction


@dataclass(frozen=True)
class Measures:
    """What memberships say of the costs: the parts of the objective.

    ``explained`` is the share of the costs' variance within prompts that lies between the groups;
    ``information`` the mutual information of group and prompt in nats, prompts counted alike;
    ``alignment`` the cosine, at each level, of the shift between the groups with minus the log-odds
    of their shares, and ``along`` the share of the shift's squared length, over all levels, that
    points along them. With one prompt these three are 1: there is nothing to compare.
    """

    explained: float
    information: float
    alignment: tuple[float, ...]
    along: float

    @property
    def objective(self) -> float:
        """Explained share times mutual information times the least alignment, or 0."""
        return self.explained * self.information * max(0.0, min(self.alignment))


def measure_memberships(
    evidence: CostEvidence,
    q: Float[np.ndarray, " picture"],
    costs: Float[np.ndarray, "row cost"] | None = None,
) -> Measures:
    """The parts of the objective, of the ``costs`` that are left or of all.

    The objective is the max step of InvDiff (arXiv 2412.08480, equation 5), the variance of the
    group risks, as a share of all variance, times what makes it a skew of the prompts.
    """
    costs = evidence.flat if costs is None else costs
    inside = evidence.within(q[evidence.rows])
    size = float(inside @ inside)
    if size < 1e-9:
        return Measures(0.0, 0.0, (0.0,), 0.0)
    shift = inside @ costs / size
    explained = size * float(shift @ shift) / evidence.total
    if not evidence.several:
        return Measures(explained, 1.0, (1.0,), 1.0)
    share = evidence.shares(q)
    odds = evidence.log_odds(share)
    levels = shift.reshape(len(evidence.compared), -1).T
    norms = np.linalg.norm(levels, axis=1) * np.linalg.norm(odds) + 1e-12
    cosines, sizes = levels @ odds / norms, (levels**2).sum(1)
    along = float(sizes @ cosines.clip(0) ** 2 / (sizes.sum() + 1e-30))
    return Measures(explained, mutual_information(share), tuple(cosines.tolist()), along)


def mutual_information(share: Float[np.ndarray, " prompt"]) -> float:
    """Mutual information of group and prompt in nats; prompts count alike."""
    mean = share.mean()
    inside = entr(share) + entr(1 - share)
    return float(entr(mean) + entr(1 - mean) - inside.mean())


def ascend(
    evidence: CostEvidence,
    carried: Float[np.ndarray, "picture cost"],
    start: Float[np.ndarray, " picture"],
) -> tuple[float, Float[np.ndarray, " picture"]]:
    """The linear groups of the components whose objective is largest, uphill from a direction.

    q_i(1) = sigmoid(z_i w + b_y): one direction for all prompts, an offset for each, by L-BFGS on
    the objective's logarithm. ``carried`` are the costs as the components foretell them, centred
    within prompts. Returns the objective and z_i w + b_y of all pictures.
    """
    z = evidence.components
    ridge = np.eye(z.shape[1]) * 1e-2 * len(z)
    weight = np.linalg.solve(z.T @ z + ridge, z.T @ (start - start.mean()))
    weight *= STEEPNESS / ((z @ weight).std() + 1e-12)
    along = z @ weight
    offset = -best_cuts(evidence, carried, along)
    value = _Differentiable(evidence, carried)
    width = z.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(flat).requires_grad_()
        objective = value(leaf[:width], leaf[width:])
        result = PENALTY * leaf[:width].square().mean() - torch.log(objective + 1e-9)
        result.backward()
        assert leaf.grad is not None, "the objective depends on the weights"
        return result.item(), leaf.grad.numpy()

    first = np.concatenate([weight, offset])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
    with torch.no_grad():
        reached = float(value(*map(torch.from_numpy, (found[:width], found[width:]))))
    return reached, z @ found[:width] + found[width:][evidence.prompt]


def best_cuts(
    evidence: CostEvidence,
    carried: Float[np.ndarray, "picture cost"],
    along: Float[np.ndarray, " picture"],
) -> Float[np.ndarray, " prompt"]:
    """Where to cut each prompt's pictures ``along`` a direction: the max step, prompt by prompt.

    Of a few shares for each prompt those whose objective is largest, by coordinate ascent from
    several beginnings.
    """
    prompts = range(len(evidence.names))
    sizes = np.bincount(evidence.prompt, minlength=len(prompts))
    sums = np.zeros((len(prompts), len(CUTS), carried.shape[1]))
    places = np.zeros((len(prompts), len(CUTS)))
    for k in prompts:
        rows = evidence.prompt == k
        if not rows.any():
            continue
        places[k] = np.quantile(along[rows], 1 - np.array(CUTS))
        sums[k] = (along[rows] > places[k][:, None]) @ carried[rows]
    total, shares = float((carried**2).sum()) + 1e-30, np.array(CUTS)

    def value(chosen: np.ndarray) -> float:
        share = shares[chosen]
        shift = sums[prompts, chosen].sum(0)
        levels, odds = shift.reshape(len(evidence.compared), -1).T, evidence.log_odds(share)
        norms = np.linalg.norm(levels, axis=1) * np.linalg.norm(odds) + 1e-12
        explained = shift @ shift / ((sizes * share * (1 - share)).sum() + 1e-12) / total
        return float(explained * mutual_information(share) * (levels @ odds / norms).min())

    best = max((_climb(value, np.array(one)) for one in _beginnings(len(prompts))), key=value)
    return places[prompts, best]


def _beginnings(prompts: int) -> Iterator[tuple[int, ...]]:
    """Low or high shares: every way for up to 5 prompts, else each prompt against the rest."""
    low, high = 1, len(CUTS) - 2
    if prompts <= 5:
        yield from product((low, high), repeat=prompts)
        return
    for k in range(prompts):
        yield tuple(high if k == j else low for j in range(prompts))
        yield tuple(low if k == j else high for j in range(prompts))


def _climb(value: Callable[[np.ndarray], float], chosen: np.ndarray) -> np.ndarray:
    """Better cuts of one prompt after another until none is."""
    reached = value(chosen)
    for _ in range(SWEEPS):
        before = reached
        for k in range(len(chosen)):
            for cut in range(len(CUTS)):
                tried = chosen.copy()
                tried[k] = cut
                if (other := value(tried)) > reached:
                    chosen, reached = tried, other
        if reached <= before:
            break
    return chosen


class _Differentiable:
    """:attr:`Measures.objective` of linear groups, on tensors.

    Explained shares are those of hard groups of the same sizes, so that soft memberships cost.
    """

    def __init__(self, evidence: CostEvidence, carried: Float[np.ndarray, "picture cost"]) -> None:
        self.z = torch.from_numpy(np.ascontiguousarray(evidence.components))
        self.codes = torch.from_numpy(evidence.prompt)
        self.prompts = torch.eye(len(evidence.names), dtype=self.z.dtype)[self.codes]
        self.count = self.prompts.sum(0).clamp(min=1)
        self.compared = torch.from_numpy(evidence.compared)
        self.carried = torch.from_numpy(carried)
        self.total = self.carried.square().sum() + 1e-30

    def __call__(self, weight: Tensor, offset: Tensor) -> Tensor:
        q = torch.sigmoid(self.z @ weight + offset[self.codes])
        share = q @ self.prompts / self.count
        shift = (q - share[self.codes]) @ self.carried
        spread = (self.count * share * (1 - share)).sum() + 1e-12
        explained = shift.square().sum() / spread / self.total
        odds = -torch.logit(share.clamp(SMALLEST, 1 - SMALLEST))[self.compared]
        odds = odds - odds.mean()
        levels = shift.reshape(len(odds), -1)
        norms = levels.norm(dim=0) * odds.norm() + 1e-12
        alignment = ((levels * odds[:, None]).sum(0) / norms).min().clamp(min=0)
        return explained * (_entropy(share.mean()) - _entropy(share).mean()) * alignment


def _entropy(share: Tensor) -> Tensor:
    other = 1 - share
    return -(share * torch.log(share + 1e-9) + other * torch.log(other + 1e-9))
