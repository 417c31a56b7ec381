"""Groups read off each image's own score, without asking whether they are simple in the features.

They are there to compare with: enough where the attribute is as large as a
background, not where it is a small part of the picture.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from sklearn.mixture import GaussianMixture

LEAST_GAIN = 30.0
"""BIC that a second component must gain. Balanced sets gained up to 23, skewed ones 87 and more."""


def top_share(
    loss: Float[np.ndarray, " sample"], prompt: np.ndarray, share: float
) -> Bool[np.ndarray, " sample"]:
    """The ``share`` of each prompt's images with the highest loss.

    "Just Train Twice" (Liu et al. 2021) takes the training errors of a classifier; a denoiser has
    no errors, and this is the nearest that it has.
    """
    member = np.zeros(len(loss), bool)
    for name in np.unique(prompt):
        rows = np.flatnonzero(prompt == name)
        count = max(1, round(share * len(rows)))
        member[rows[np.argsort(-loss[rows], kind="stable")[:count]]] = True
    return member


def main_direction(profile: Float[np.ndarray, "sample level"]) -> Float[np.ndarray, " sample"]:
    """One prompt's profiles along their first principal component, its longer tail positive.

    Levels keep their variances: to standardise them throws the signal away. The images that go
    against the model are few and far out, hence the tail.
    """
    centred = profile - profile.mean(0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    values = centred @ axis
    return values if stats.skew(values) >= 0 else -values


def two_components(
    values: Float[np.ndarray, " sample"],
) -> tuple[Float[np.ndarray, " sample"], float]:
    """Membership in the higher of two Gaussian components, and the BIC gained over one."""
    spread = values.std()
    if spread == 0:
        return np.zeros(len(values)), 0.0
    column = ((values - values.mean()) / spread)[:, None]
    one = GaussianMixture(1).fit(column)
    two = GaussianMixture(2, n_init=3, reg_covar=1e-4, random_state=0).fit(column)
    member = two.predict_proba(column)[:, int(two.means_.ravel().argmax())]
    return member, float(one.bic(column) - two.bic(column))
