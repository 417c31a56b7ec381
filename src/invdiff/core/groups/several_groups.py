"""The model of more than two groups: which one an image of a prompt is in, from its features.

What :class:`two_groups.GroupModel` is for two. The log-likelihood ratio of group e to
group 0 is linear in the features: that of Gaussians with one covariance, or a logistic model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from invdiff.core.groups.features import Projection
from invdiff.core.groups.two_groups import SMALLEST

FEWEST_MEMBERS = 5
NEVER = -30.0  # log ratio of a group that the prompt has none of


@dataclass(frozen=True)
class MultiGroupModel:
    """K groups of one prompt: log ratios to group 0 are features @ weight + bias, for e = 1..K-1.

    ``prior`` are the log ratios of the training images' shares, to that of group 0. A group
    without a bias above ``NEVER`` is one that the prompt lacks.
    """

    weight: Float[np.ndarray, "feature other"]
    bias: Float[np.ndarray, " other"]
    prior: Float[np.ndarray, " other"]

    @classmethod
    def supervised(
        cls,
        features: Float[np.ndarray, "sample feature"],
        q: Float[np.ndarray, "sample group"],
    ) -> "MultiGroupModel":
        """A logistic model of groups that are given; group 0 must be one that is there.

        A group of fewer than five images has none of its own: it is taken for absent. One scale for
        all components, and the penalty of :class:`LogisticDiscriminant`.
        """
        group, count = q.argmax(1), q.shape[1]
        sizes = np.bincount(group, minlength=count)
        prior = np.log(np.clip(sizes / max(1, len(q)), SMALLEST, None))
        weight, bias = np.zeros((features.shape[1], count)), np.full(count, NEVER)
        bias[0] = 0.0
        told = np.flatnonzero(sizes >= FEWEST_MEMBERS)
        if len(told) > 1 and told[0] == 0:
            rows = np.isin(group, told)
            projection = Projection.fit(features)
            components = projection(features[rows])
            scale = components.std() + 1e-8
            model = LogisticRegression(C=0.1, max_iter=1000)
            model.fit(components / scale, group[rows])
            coefficients, intercept = model.coef_, model.intercept_
            if len(told) == 2:  # one row, of the second against the first
                coefficients = np.concatenate([-coefficients, coefficients]) / 2
                intercept = np.concatenate([-intercept, intercept]) / 2
            own = projection.axes @ (coefficients / scale).T
            weight[:, told] = own - own[:, :1]
            at_zero = intercept - projection.mean @ own - prior[told]
            bias[told] = at_zero - at_zero[0]
        return cls(weight[:, 1:], bias[1:], prior[1:] - prior[0])

    @classmethod
    def alone(cls, width: int, count: int) -> "MultiGroupModel":
        """The model of a prompt without groups: everybody is in the first of ``count``."""
        absent = np.full(count - 1, NEVER)
        return cls(np.zeros((width, count - 1)), absent, absent)

    @property
    def present(self) -> np.ndarray:
        """Which of the K groups the prompt has."""
        return np.append(True, self.bias != NEVER)

    def log_ratio(self, features: Float[np.ndarray, "sample feature"]) -> np.ndarray:
        """Logs (n, K - 1) of p(features | group e) / p(features | group 0), within +-30."""
        return np.clip(features @ self.weight + self.bias, NEVER, -NEVER)

    def __call__(self, features: Float[np.ndarray, "sample feature"]) -> np.ndarray:
        """q(e) of each image (n, K), with the shares of the training images as prior."""
        return _posterior(self.log_ratio(features), np.append(0.0, self.prior))

    def shares(self, log_ratio: Float[np.ndarray, "sample other"], steps: int = 200) -> np.ndarray:
        """The shares (K,) of the groups among other images, as those of ``GroupModel.share``."""
        share = self.present / self.present.sum()
        for _ in range(steps):
            share = _posterior(log_ratio, np.log(share.clip(1e-12))).mean(0)
        return share

    def ordered(self, order: Sequence[int]) -> "MultiGroupModel":
        """The same model with group ``order[e]`` as group e."""
        weight = np.concatenate([np.zeros((len(self.weight), 1)), self.weight], 1)[:, order]
        bias, prior = (np.append(0.0, part)[list(order)] for part in (self.bias, self.prior))
        gone = bias == NEVER
        bias = np.where(gone, NEVER, bias - bias[0])
        return MultiGroupModel(weight[:, 1:] - weight[:, :1], bias[1:], prior[1:] - prior[0])


def _posterior(log_ratio: np.ndarray, log_share: np.ndarray) -> np.ndarray:
    known = np.concatenate([np.zeros((len(log_ratio), 1)), log_ratio], 1)
    return softmax(known + log_share, axis=1)
