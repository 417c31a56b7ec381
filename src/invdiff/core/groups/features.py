"""The space that groups are looked for in: projections and linear models of features."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

COMPONENTS = 128
MOST = 3000  # pictures that components are found on


@dataclass(frozen=True)
class Projection:
    """Leading principal components of features that were scaled to unit variance."""

    mean: Float[np.ndarray, " feature"]
    axes: Float[np.ndarray, "feature component"]

    @classmethod
    def fit(
        cls, features: Float[np.ndarray, "sample feature"], components: int = COMPONENTS
    ) -> "Projection":
        """Fit on ``features``; the components keep their variances."""
        count = min(components, *features.shape)
        mean, scale = features.mean(0), features.std(0) + 1e-6
        found = PCA(count, svd_solver="covariance_eigh").fit((features - mean) / scale)
        return cls(mean, found.components_.T / scale[:, None])

    def __call__(
        self, features: Float[np.ndarray, "sample feature"]
    ) -> Float[np.ndarray, "sample component"]:
        """The components of ``features``."""
        return (features - self.mean) @ self.axes


@dataclass(frozen=True)
class LogisticDiscriminant:
    """A logistic model: probability of membership = sigmoid(values @ weight + bias)."""

    weight: Float[np.ndarray, " feature"]
    bias: float

    @classmethod
    def fit(
        cls,
        values: Float[np.ndarray, "sample feature"],
        member: Bool[np.ndarray, " sample"] | Float[np.ndarray, " sample"],
    ) -> "LogisticDiscriminant":
        """Fit on the values of both groups; ``member`` may be a probability.

        One scale for all features: the penalty then holds small principal components down, which
        are mostly noise. With each at unit variance they cost a tenth of a rare group's members.
        """
        mean, scale = values.mean(0), values.std() + 1e-8
        unit = (values - mean) / scale
        target, share = np.repeat([1, 0], len(member)), np.concatenate([member, 1.0 - member])
        held = share > 0  # an image with a side of its own is not looked at twice
        model = LogisticRegression(C=0.1, max_iter=1000)
        model.fit(np.concatenate([unit, unit])[held], target[held], sample_weight=share[held])
        weight = model.coef_[0] / scale
        return cls(weight, float(model.intercept_[0] - mean @ weight))

    def __call__(self, values: Float[np.ndarray, "sample feature"]) -> Float[np.ndarray, " sample"]:
        """Probability of membership."""
        return expit(values @ self.weight + self.bias)


def centre_within_prompts(
    values: Float[np.ndarray, "sample width"], prompt: np.ndarray
) -> np.ndarray:
    """``values`` minus the mean of their prompt."""
    centred = values.copy()
    for name in np.unique(prompt):
        rows = prompt == name
        centred[rows] -= values[rows].mean(0)
    return centred


@dataclass(frozen=True)
class FeatureSpace:
    """Leading principal components of features that were scaled, less the mean of their prompt.

    ``scale`` makes the components' standard deviations 1 on the mean.
    """

    means: dict[str, Float[np.ndarray, " feature"]]
    axes: Float[np.ndarray, "feature component"]
    scale: float

    @classmethod
    def fit(
        cls, features: Float[np.ndarray, "sample feature"], prompt: np.ndarray
    ) -> "FeatureSpace":
        """The space of features and their prompts; it is found on 3,000 of them."""
        means = {str(name): features[prompt == name].mean(0) for name in np.unique(prompt)}
        chosen = np.random.default_rng(0).permutation(len(features))[:MOST]
        projection = Projection.fit(centre_within_prompts(features, prompt)[chosen])
        space = cls(means, projection.axes, 1.0)
        spread = space(features, prompt).std(0).mean()
        return cls(means, projection.axes, float(spread) + 1e-12)

    def __call__(
        self, features: Float[np.ndarray, "sample feature"], prompt: np.ndarray
    ) -> Float[np.ndarray, "sample component"]:
        """The components of ``features``."""
        return centre_within_prompts(features, prompt) @ self.axes / self.scale
