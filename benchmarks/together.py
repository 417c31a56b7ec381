"""One process that trains against two that train together."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks import clock
from benchmarks.shapes import World, embedded_model, half_of_sd
from benchmarks.training import Rounds, step_of
from invdiff.engine.distributed.team import Team, assembled

# What is trained, the batch of one process, and how many rounds of steps.
TRAINED: dict[str, tuple[Callable[[], World], int, int]] = {
    "the embedded model": (embedded_model, 32, 5),
    "SD 1.4 with half of its widths": (half_of_sd, 8, 1),
}
ONE, SHARED, EACH = "one process", "two, half the batch each", "two, the same batch each"


def training(quick: bool) -> dict[str, Any]:
    """One process against two, one thread each; images/s, starting them not counted."""
    rows: dict[str, Any] = {}
    for name, (make, batch, rounds) in TRAINED.items():
        if quick:
            batch, rounds = 2, 1
        sides = {ONE: (1, batch), SHARED: (2, batch), EACH: (2, 2 * batch)}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(1 if quick else 3):
            for side, (size, whole) in sides.items():
                taken = train_together(partial(_with_batch, make, whole), rounds, size)
                seconds[side].append(taken * batch / whole)  # of as many images on every side
        timings = {side: clock.Timing.of(values) for side, values in seconds.items()}
        rows[f"{name}, batch {batch}"] = {
            **{f"{side}, seconds": each.record() for side, each in timings.items()},
            **{f"{ONE} / {side}": clock.ratio(timings, ONE, side) for side in (SHARED, EACH)},
        }
    return {"sides": rows}


def _with_batch(make: Callable[[], World], batch: int) -> World:
    return replace(make(), batch=batch)


def train_together(make: Callable[[], World], rounds: int, size: int) -> float:
    """Seconds of rounds of training steps that ``size`` processes share, after one more round."""
    with assembled(size) as team:
        if team.size > 1:
            team.ask(share_of, make, rounds)
        return share_of(team, make, rounds)


def share_of(team: Team, make: Callable[[], World], rounds: int) -> float:
    """The part of every rank; its seconds."""
    one = Rounds(step_of("ours", make(), team))
    one()
    begun = time.perf_counter()
    for _ in range(rounds):
        one()
    return time.perf_counter() - begun
