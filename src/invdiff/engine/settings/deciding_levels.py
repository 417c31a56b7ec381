"""Which of the noise levels that images are scored at the groups are inferred from."""

from collections.abc import Sequence

HIGH_NOISE = 0.85


def high_levels(levels: Sequence[float]) -> list[int]:
    """Positions of the levels at high noise: from 0.85 on, or the highest there is."""
    high = [k for k, level in enumerate(levels) if level >= HIGH_NOISE]
    return high or [max(range(len(levels)), key=lambda k: levels[k])]
