"""Time and memory: sides take turns in one process, peaks are those of a process of its own."""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from invdiff.engine.distributed.pool import START, start_worker


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and range over ``repeats``."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """The timing of measured calls."""
        return cls(statistics.median(seconds), min(seconds), max(seconds), len(seconds))

    def shared(self, count: int) -> "Timing":
        """The timing of one of ``count`` things that a call did."""
        return Timing(self.median / count, self.low / count, self.high / count, self.repeats)

    def record(self) -> dict[str, float]:
        """As JSON."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


def interleaved(
    sides: Mapping[str, Callable[[], Any]], repeats: int, warm: int = 1
) -> dict[str, Timing]:
    """Seconds of a call of each side, one after the other in turn, so that a busy minute hits all.

    The order turns with each round; ``warm`` first rounds are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(warm + repeats):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            begun = time.perf_counter()
            sides[name]()
            if number >= warm:
                seconds[name].append(time.perf_counter() - begun)
    return {name: Timing.of(values) for name, values in seconds.items()}


def ratio(sides: Mapping[str, Timing], slower: str, faster: str) -> float:
    """How many times the median of one side is that of the other."""
    return round(sides[slower].median / sides[faster].median, 3)


def alone(function: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """The result of ``function`` in a new process with one thread, and that process's peak bytes.

    The peak includes the libraries that the process loads.
    """
    with ProcessPoolExecutor(1, get_context(START), start_worker, (False,)) as pool:
        result = pool.submit(function, *args).result()
        return result, pool.submit(peak_bytes).result()


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent held before this process began
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_bytes() -> int:
    """Memory that is free now; 0 where that is not known."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return 0
    line = next(x for x in info.read_text().splitlines() if x.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024
