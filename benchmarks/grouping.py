"""Grouping of scores in a parquet file: rows a second and peak memory from 10^4 to 10^7 rows."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import clock
from benchmarks.large_tables import ROWS, Rule, group_parquet

SIZES = (10**4, 10**5, 10**6, 10**7)
PROMPTS = 40


def grouping(quick: bool) -> dict[str, Any]:
    """Exact splits and mixtures of scores of 40 prompts."""
    rows: dict[str, Any] = {}
    seconds: dict[tuple[str, int], float] = {}
    with TemporaryDirectory() as folder:
        for size in SIZES[:2] if quick else SIZES:
            source = Path(folder) / f"{size}.parquet"
            clock.alone(make, source, size)
            for rule in ("exact split", "mixture"):
                runs = [clock.alone(group, source, rule) for _ in range(1 if quick else 3)]
                timing = clock.Timing.of([run[0] for run in runs])
                seconds[rule, size] = timing.median
                rows[f"{rule}, {size:,} rows"] = {
                    "seconds": timing.record(),
                    "rows/s": round(size / timing.median),
                    "peak bytes": max(run[1] for run in runs),
                }
    linear = {
        f"{rule}, seconds a row at 10^7 / at 10^6": round(
            seconds[rule, 10**7] / seconds[rule, 10**6] / 10, 3
        )
        for rule in ("exact split", "mixture")
        if (rule, 10**7) in seconds
    }
    return {"sides": rows, **linear}


def make(path: Path, rows: int) -> None:
    """Scores with a planted group in each prompt, written in pieces."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw, writer = np.random.default_rng(0), None
    names = np.array([f"prompt {k}" for k in range(PROMPTS)])
    for start in range(0, rows, ROWS):
        count = min(ROWS, rows - start)
        code = draw.integers(0, PROMPTS, count)
        score = code * 0.1 + np.where(draw.random(count) < 0.1, 3, 0) + draw.normal(size=count)
        table = pa.table({"prompt": names[code], "excess": score})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None, "there are rows"
    writer.close()


def group(path: Path, rule: Rule) -> float:
    """Seconds of a grouping."""
    begun = time.perf_counter()
    group_parquet(path, path.with_suffix(".groups.parquet"), rule=rule)
    return time.perf_counter() - begun
