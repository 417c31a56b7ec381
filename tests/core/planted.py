"""Features and scores with a planted attribute, for the tests of the max step."""

from dataclasses import dataclass

import numpy as np

from invdiff.core.discovery.evidence import Contrasts


@dataclass(frozen=True)
class Planted:
    """Images of several prompts; ``attribute`` is what an estimator must not see."""

    features: np.ndarray
    score: np.ndarray
    prompt: np.ndarray
    attribute: np.ndarray

    def unusual(self, name):
        """The rarer attribute among the images of a prompt."""
        inside = self.attribute[self.prompt == name]
        return inside == (inside.mean() < 0.5)


def plant(shares, count=400, seed=0, gap=5.0, effect=2.0, width=12):
    """``count`` images of each prompt, whose attribute has the given share under that prompt.

    The attribute shifts the features by ``gap`` standard deviations along one direction and raises
    the score, by ``effect`` standard deviations, of the side that is rarer under the prompt; each
    prompt has its own mean in both.
    """
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(width, width)))[0]
    parts = []
    for number, (name, share) in enumerate(shares.items()):
        attribute = random.permutation(count) < round(share * count)
        features = random.normal(size=(count, width)) + gap * np.outer(attribute, basis[0])
        features += 3 * random.normal() * basis[1] + 2 * random.normal() * basis[2]
        rare = attribute == (share < 0.5)
        lean = np.clip(abs(np.log(share / (1 - share))) / np.log(9), 0, 1)
        score = number + random.normal(size=count) + effect * lean * rare
        parts.append((features, score, np.full(count, name), attribute))
    return Planted(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def contrast(planted, shares, effect=1.0, seed=0, rows=None, levels=3):
    """What the images cost under every prompt, if the model has learnt the shares of each.

    The side with the larger share under a prompt costs less under it, by ``effect`` times the
    log-odds; every image costs less under its own prompt, more the lower the level.
    """
    random = np.random.default_rng(seed)
    rows = np.arange(len(planted.prompt)) if rows is None else rows
    names = tuple(sorted(shares))
    losses = 3 + random.normal(size=(len(rows), len(names), levels))
    losses += random.normal(size=(len(rows), 1, levels))  # how hard the picture is
    for k, name in enumerate(names):
        odds = np.log(shares[name] / (1 - shares[name]))
        losses[:, k] -= effect * odds * planted.attribute[rows, None]
        losses[:, k] -= np.outer(planted.prompt[rows] == name, np.arange(levels))
    return Contrasts(losses, names, rows)


def agree(found, truth):
    """Share of images on the right side, whichever way round the groups are called."""
    same = float((found == truth).mean())
    return max(same, 1 - same)


def plant_several(shares, count, gaps, effect=0.5, seed=0, width=24, levels=3):
    """Features, contrasts, prompts and attributes: several of these, independent in each prompt.

    ``shares`` gives those of all attributes under each prompt; each shifts the features by its gap
    along a direction of its own, and all losses by ``effect`` times the log-odds of its shares.
    """
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(width, width)))[0]
    table, names = np.array(list(shares.values())), tuple(sorted(shares))
    attributes = random.random((len(table) * count, table.shape[1])) < np.repeat(table, count, 0)
    spread = np.r_[np.ones(table.shape[1]), np.full(4, 2.5), np.ones(width - table.shape[1] - 4)]
    features = random.normal(size=(len(attributes), width)) * spread
    features[:, : table.shape[1]] += attributes * gaps
    prompt = np.repeat(list(shares), count)
    losses = 3 + random.normal(size=(len(prompt), len(names), levels))
    odds = np.log(table / (1 - table))[[list(shares).index(name) for name in names]]
    losses -= effect * (attributes @ odds.T)[:, :, None]
    contrasts = Contrasts(losses, names, np.arange(len(prompt)))
    return features @ basis.T, contrasts, prompt, attributes
