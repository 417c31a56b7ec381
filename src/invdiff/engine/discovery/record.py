"""What ``discovery.json`` says: what was found, how sure that is, and how it looks over levels."""

from typing import Any

import numpy as np
from scipy import stats

from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.scores import Scores
from invdiff.core.groups.memberships import memberships
from invdiff.engine.settings.schema import Config


def findings(
    config: Config,
    scores: Scores,
    scored: np.ndarray,
    prompt: np.ndarray,
    grouping: Grouping,
    reliability: np.ndarray,
) -> dict[str, Any]:
    """The record (docs/reference/files.md); rows of ``scores`` belong to ``scored``."""
    stable = grouping.stability
    return {
        "estimator": config.estimator,
        "score": grouping.score or None,
        "candidate": grouping.chosen,
        "levels": list(config.discover.levels),
        "reliability": reliability,
        "images_scored": len(scored),
        "stability": None if stable is None else {"agreement": stable, "runs": 2},
        "ranking": [{"name": name, "objective": value} for name, value in grouping.ranking],
        "ranked_by": grouping.ranked_by,
        "prompts": {
            str(name): _prompt(str(name), scores, scored, prompt, grouping, config)
            for name in np.unique(prompt)
        },
    }


def _prompt(
    name: str,
    scores: Scores,
    scored: np.ndarray,
    prompt: np.ndarray,
    grouping: Grouping,
    config: Config,
) -> dict[str, Any]:
    rows, inside = prompt == name, prompt[scored] == name
    q = memberships(grouping.against[rows]).T.copy()  # one row for each group
    scored_q = memberships(grouping.against[scored][inside]).T.copy()
    excess = scores.excess[inside].mean(2)
    verdict, labels = grouping.verdicts[name], grouping.names.get(name)
    return {
        "found": verdict.found,
        "monitored": verdict.monitored,
        "note": verdict.note,
        "images": int(rows.sum()),
        "scored": int(inside.sum()),
        "explained": verdict.explained,
        "p_value": verdict.p_value,
        "groups": [
            _group(share, q[group], scored_q[group], excess)
            | ({"label": labels[group]} if labels else {})
            for group, share in enumerate(verdict.mix)
        ],
        "profile": {"levels": list(config.discover.levels), **_curves(scored_q, excess)},
    }


def _curves(members: np.ndarray, excess: np.ndarray) -> dict[str, list[float]]:
    names = ["with", "against"]
    if len(members) > 2:
        names = [f"group {group}" for group in range(len(members))]
    curves = [_curve(name, member, excess) for name, member in zip(names, members, strict=True)]
    return {key: values for curve in curves for key, values in curve.items()}


def _group(
    share: float, member: np.ndarray, scored_member: np.ndarray, excess: np.ndarray
) -> dict[str, Any]:
    low, high = stats.binomtest(round(float(member.sum())), max(1, len(member))).proportion_ci(
        method="wilson"
    )
    total = scored_member.sum()
    mean = scored_member @ excess / total if total > 0 else np.full(excess.shape[1], np.nan)
    return {"share": share, "low": low, "high": high, "mean_excess": float(mean.mean())}


def _curve(name: str, member: np.ndarray, excess: np.ndarray) -> dict[str, list[float]]:
    """Weighted mean and standard error of the excess at each level."""
    total = member.sum()
    if total < 2:
        empty = [float("nan")] * excess.shape[1]
        return {name: empty, f"{name}_error": empty}
    mean = member @ excess / total
    spread = member @ (excess - mean) ** 2 / total
    effective = total**2 / (member @ member)
    return {name: mean.tolist(), f"{name}_error": np.sqrt(spread / effective).tolist()}
