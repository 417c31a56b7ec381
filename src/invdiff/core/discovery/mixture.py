"""Two groups along a direction: Gaussians of their own widths, with shares for each prompt."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit

from invdiff.core.groups.features import centre_within_prompts

STEPS = 60
STILL = 1e-3  # largest change of a membership at which the fit stands still
NARROWEST = 0.02  # variance of a group, of that of all pictures
RAREST = 0.004  # share of a group under a prompt

Values = Float[np.ndarray, " picture"]
Codes = Int[np.ndarray, " picture"]


@dataclass(frozen=True)
class TwoGaussians:
    """Means and variances of group 0 and 1 of all prompts, and group 1's ``share`` under each."""

    mean: tuple[float, float]
    variance: tuple[float, float]
    share: Float[np.ndarray, " prompt"]

    @property
    def gap(self) -> float:
        """The distance of the means, in sums of the standard deviations; above 1 a valley shows."""
        low, high = self.mean
        return abs(high - low) / float(np.sqrt(self.variance[0]) + np.sqrt(self.variance[1]))

    def log_ratio(self, values: Values) -> Values:
        """Log of p(value | group 1) / p(value | group 0), for ever on the side of the nearer mean.

        Of two Gaussians of unlike width the wider one wins again far out on the other's side. That
        is no group: beyond both means the ratio does not change its sign.
        """
        (low, high), (first, second) = self.mean, self.variance
        ratio = (values - low) ** 2 / first - (values - high) ** 2 / second
        ratio = (ratio + np.log(first / second)) / 2
        sign = 1.0 if high >= low else -1.0
        ratio = np.where(sign * values >= sign * high, np.maximum(ratio, 0), ratio)
        return np.where(sign * values <= sign * low, np.minimum(ratio, 0), ratio).clip(-30, 30)

    def posterior(self, values: Values, prompt: Codes) -> Values:
        """q_i(1), with the share of the prompt as prior."""
        prior = logit(self.share.clip(RAREST, 1 - RAREST))
        return expit(self.log_ratio(values) + prior[prompt])

    def negentropy(self, values: Values, prompt: Codes) -> float:
        """How much more the two groups say of the values than one Gaussian for each prompt.

        Mean log likelihood ratio in nats a picture; below 0 where one says more. Mixtures of
        sources come nearer to a Gaussian, so independent component analysis looks for what is
        least like one. Groups that are apart because prompts are have none; nor have two of one
        mean and unlike widths, so the widths are taken as one here.
        """
        share = self.share.clip(RAREST, 1 - RAREST)[prompt]
        ones = float(share.mean())
        variance = (1 - ones) * self.variance[0] + ones * self.variance[1]
        sides = [
            np.log(part) - (values - mean) ** 2 / (2 * variance) - np.log(variance) / 2
            for part, mean in zip((1 - share, share), self.mean, strict=True)
        ]
        alone = centre_within_prompts(values[:, None], prompt)[:, 0]
        spread = np.bincount(prompt, alone**2) / np.maximum(np.bincount(prompt), 1) + 1e-12
        one = -np.log(spread[prompt]) / 2 - 0.5
        return float((np.logaddexp(*sides) - one).mean())

    @classmethod
    def of(cls, values: Values, q: Values, prompt: Codes, prompts: int) -> "TwoGaussians":
        """The groups that the memberships ``q`` say."""
        counts = np.bincount(prompt, minlength=prompts)
        share = np.bincount(prompt, q, minlength=prompts) / np.maximum(counts, 1)
        least = values.var() * NARROWEST + 1e-12
        mean, variance = [], []
        for member in (1 - q, q):
            centre = float(member @ values / (member.sum() + 1e-12))
            spread = float(member @ (values - centre) ** 2 / (member.sum() + 1e-12))
            mean.append(centre)
            variance.append(max(spread, least))
        return cls((mean[0], mean[1]), (variance[0], variance[1]), share)


def fit_two_gaussians(
    values: Values, prompt: Codes, prompts: int, start: Values | None = None
) -> tuple[TwoGaussians, Values]:
    """Expectation maximisation from the memberships ``start``, or from the half above the median.

    Returns the groups and the memberships.
    """
    q = (values > np.median(values)) * 1.0 if start is None else start
    for _ in range(STEPS):
        groups = TwoGaussians.of(values, q, prompt, prompts)
        before, q = q, groups.posterior(values, prompt)
        if np.abs(q - before).max() < STILL:
            break
    return TwoGaussians.of(values, q, prompt, prompts), q
