"""A model of two groups: from the features of a picture to its membership."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from invdiff.core.groups.features import LogisticDiscriminant, Projection

SMALLEST = 0.005


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
        model = LogisticDiscriminant.fit(projection(features), member > 0.5)
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
