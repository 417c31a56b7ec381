"""Which of the noise levels that images are scored at the groups are inferred from."""

from collections.abc import Sequence

from invdiff.engine.settings.discovery import DiscoverSection

HIGH_NOISE = 0.85
AT_HIGH_NOISE = ("auto", "contrast", "semantic", "amortised", "cluster")
AT_EVERY_LEVEL = ("profile", "top_loss")


def high_levels(levels: Sequence[float]) -> list[int]:
    """Positions of the levels at high noise: from 0.85 on, or the highest there is."""
    high = [k for k, level in enumerate(levels) if level >= HIGH_NOISE]
    return high or [max(range(len(levels)), key=lambda k: levels[k])]


def deciding_levels(section: DiscoverSection) -> list[int]:
    """Positions of the levels that the estimator reads scores of; the others are only shown."""
    if section.estimator in AT_HIGH_NOISE:
        return high_levels(section.levels)
    return list(range(len(section.levels))) if section.estimator in AT_EVERY_LEVEL else []
