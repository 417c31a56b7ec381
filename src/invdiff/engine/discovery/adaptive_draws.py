"""Adaptive scoring: noise draws are added where the score is unreliable, round by round.

Draw m at a level belongs to the seed, the level and m alone, so a round computes what is new and
nothing again; each is kept on the disk as any pass is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from invdiff.core.discovery.grouping import Grouping
from invdiff.core.discovery.scores import Scores, reliability
from invdiff.core.discovery.verdict import group_agreement
from invdiff.data.samples import Samples
from invdiff.engine.discovery.scoring import Passes, PassResults
from invdiff.engine.run.folder import RunFolder
from invdiff.engine.settings.deciding_levels import deciding_levels
from invdiff.engine.settings.discovery import DiscoverSection

CONDITIONS = 2  # passes of one draw: under the own prompt and under none

Inferred = tuple[Grouping, Grouping | None]
Infer = Callable[[RunFolder, Samples, PassResults], Inferred]
Stop = Literal["reliable", "same groups", "most draws", "not read"]


@dataclass
class Rounds:
    """What rounds have found so far, and whether another one is worth its passes.

    ``prompt`` is that of the scored images. Levels that the estimator does not read never get more
    draws, so for one that reads no score the first round is the last.
    """

    section: DiscoverSection
    prompt: np.ndarray
    draws: list[list[int]] = field(default_factory=list)
    reliability: list[np.ndarray] = field(default_factory=list)
    agreement: list[float | None] = field(default_factory=list)
    stopped: Stop | None = None
    last: tuple[np.ndarray, set[str]] | None = None

    def take(self, scores: Scores, against: np.ndarray, found: set[str]) -> list[int]:
        """Note a round: its scores, q_1 of the scored images and the prompts with groups.

        Returns the positions of the levels that need more draws; none if this was the last round.
        """
        score = scores.loss if self.section.estimator == "top_loss" else scores.excess
        self.draws.append(scores.draws.tolist())
        self.reliability.append(reliability(score, self.prompt))
        before, self.last = self.last, (against, found)
        same = group_agreement(before[0], against, self.prompt) if before else 0.0
        self.agreement.append(same if before else None)
        unsure = self._unreliable()
        if not deciding_levels(self.section):
            self.stopped = "not read"
        elif not unsure:
            self.stopped = "reliable"
        elif before and before[1] == found and same >= self.section.enough_agreement:
            self.stopped = "same groups"
        elif self.draws[-1][unsure[0]] >= self.section.most_draws:
            self.stopped = "most draws"
        return [] if self.stopped else unsure

    def _unreliable(self) -> list[int]:
        """Levels below the bound; those that are have had draws in every round, so equally many."""
        enough, found = self.section.enough_reliability, self.reliability[-1]
        return [k for k in deciding_levels(self.section) if not found[k] >= enough]

    def next_draws(self, level: int) -> range:
        """The numbers of the draws that a level at this position gets in the next round."""
        first = self.draws[-1][level]
        return range(first, min(first + self.section.draws, self.section.most_draws))

    def record(self) -> dict[str, Any]:
        """The entry ``adaptive`` of ``discovery.json``."""
        spent, images = np.array(self.draws), len(self.prompt)
        decide = deciding_levels(self.section)
        return {
            "stopped": self.stopped,
            "agreement": self.agreement,
            "passes": int(spent[-1].sum()) * images * CONDITIONS,
            "levels": [
                {
                    "level": level,
                    "decides": k in decide,
                    "draws": spent[:, k].tolist(),
                    "passes": int(spent[-1, k]) * images * CONDITIONS,
                    "reliability": [found[k] for found in self.reliability],
                }
                for k, level in enumerate(self.section.levels)
            ],
        }


def adapt(
    run: RunFolder, samples: Samples, measured: PassResults, infer: Infer
) -> tuple[PassResults, Inferred, dict[str, Any]]:
    """Add draws to what was measured until a rule ends it.

    Returns what is measured now, what ``infer`` makes of it, and what it took for the record.
    """
    section, scored = run.config.discover, measured.scored
    rounds = Rounds(section, np.array(samples.prompt)[scored])
    passes = Passes(run, samples, measured.latents)
    while True:
        inferred = infer(run, samples, measured)
        verdicts = inferred[0].verdicts
        found = {name for name, verdict in verdicts.items() if verdict.found}
        unsure = rounds.take(measured.scores, inferred[0].against[scored], found)
        if not unsure:
            return measured, inferred, {"adaptive": rounds.record()}
        draws = rounds.next_draws(unsure[0])
        levels = [section.levels[k] for k in unsure]
        title = f"scoring images, draws {draws.start + 1} to {draws.stop}"
        more = passes.some_scores(scored, levels, draws, title)
        measured = replace(measured, scores=measured.scores.extended(unsure, more))
