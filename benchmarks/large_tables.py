"""Groups of scores for tables of any length: arrow batches in, arrow batches out, flat memory.

    group_parquet("scores.parquet", "groups.parquet")

Rows are split within their prompt. The file is gone through a few times instead of being loaded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import numpy as np

from benchmarks.streams import Chunks, exact_cut, two_gaussians
from invdiff.core.groups.two_groups import membership
from invdiff.engine.storage.files import write_with
from invdiff.errors import DataError

ROWS = 1 << 17

Rule = Literal["exact split", "mixture"]
Batches = Callable[[], Iterable[Any]]
"""Goes through all record batches from the beginning, each time it is called."""
Member = Callable[[np.ndarray], np.ndarray]


def group_parquet(
    source: Path | str,
    target: Path | str,
    *,
    rule: Rule = "exact split",
    prompt: str = "prompt",
    score: str = "excess",
    min_share: float = 0.02,
) -> Path:
    """Write the rows of a parquet file with ``q_1``, the membership in the group that costs more.

    Raises:
        DataError: a column is missing, or a score is not a finite number.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        names = file.schema_arrow.names
        for name in (prompt, score):
            if name not in names:
                raise DataError(f"{source} has no column {name!r}; there are: {', '.join(names)}")

        def batches(columns: list[str] | None = None) -> Iterator[Any]:
            return file.iter_batches(batch_size=ROWS, columns=columns)

        with TemporaryDirectory(prefix=".scores-", dir=Path(target).parent) as beside:
            spool = Spool.of(lambda: batches([prompt, score]), Path(beside), prompt, score)
            members = {name: RULES[rule](spool.chunks(name), min_share) for name in spool.span}

        def write(beside: Path) -> None:
            writer: Any = None
            for batch in grouped(batches(), members, prompt, score):
                writer = writer or pq.ParquetWriter(beside, batch.schema)
                writer.write_batch(batch)
            if writer is None:
                raise DataError(f"{source} has no rows")
            writer.close()

        return write_with(Path(target), write)


def grouped(
    batches: Iterable[Any], members: dict[str, Member], prompt: str, score: str
) -> Iterator[Any]:
    """The batches with their column ``q_1``."""
    import pyarrow as pa

    for batch in batches:
        q = np.zeros(len(batch))
        values = _scores(batch, score)
        for name, rows in _rows(batch, prompt).items():
            q[rows] = members[name](values[rows])
        yield batch.append_column("q_1", pa.array(q))


@dataclass(frozen=True)
class Spool:
    """Scores in a file, those of one prompt beside each other: ``span`` says where they begin."""

    path: Path
    span: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, batches: Batches, folder: Path, prompt: str, score: str) -> Self:
        """Sort the scores of all batches by prompt, in two passes."""
        counts: Counter[str] = Counter()
        for batch in batches():
            counts.update({name: len(rows) for name, rows in _rows(batch, prompt).items()})
        starts = np.cumsum([0, *counts.values()]).tolist()
        span = {name: (start, counts[name]) for name, start in zip(counts, starts, strict=False)}
        written = dict.fromkeys(counts, 0)
        path = folder / "scores.f64"
        with path.open("wb") as file:
            for batch in batches():
                values = _scores(batch, score)
                for name, rows in _rows(batch, prompt).items():
                    file.seek(8 * (span[name][0] + written[name]))
                    file.write(values[rows].tobytes())
                    written[name] += len(rows)
        return cls(path, span)

    def chunks(self, name: str) -> Chunks:
        """The scores of one prompt."""
        start, count = self.span[name]

        def read() -> Iterator[np.ndarray]:
            for at in range(start, start + count, ROWS):
                size = min(ROWS, start + count - at)
                yield np.fromfile(self.path, np.float64, size, offset=8 * at)

        return read


def _exact(chunks: Chunks, min_share: float) -> Member:
    cut = exact_cut(chunks, min_share)
    return lambda scores: (scores > cut) * 1.0  # with NaN, nobody


def _mixture(chunks: Chunks, min_share: float) -> Member:
    ratio, prior, means = two_gaussians(chunks)
    sign = 1.0 if means[1] >= means[0] else -1.0
    a, b, c = (sign * part for part in ratio)
    return lambda scores: membership(scores, (a, b, c), sign * prior)


RULES: dict[Rule, Callable[[Chunks, float], Member]] = {"exact split": _exact, "mixture": _mixture}


def _rows(batch: Any, prompt: str) -> dict[str, np.ndarray]:
    """Row numbers of each prompt of a batch."""
    encoded = batch.column(prompt).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    names = encoded.dictionary.to_pylist()
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])
    return dict(zip(names, parts, strict=True))


def _scores(batch: Any, score: str) -> np.ndarray:
    values = batch.column(score).to_numpy(zero_copy_only=False).astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"column {score!r} has scores that are not finite numbers: leave them out")
    return values
