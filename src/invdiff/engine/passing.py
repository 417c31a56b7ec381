"""What all passes that are kept on the disk share: shards, keys, processes."""

import hashlib
from collections.abc import Iterable

import numpy as np

from invdiff.engine.models import ModelRef, source_of, weights_of
from invdiff.engine.processes import automatic
from invdiff.engine.resident import Group
from invdiff.engine.run import RunFolder

SHARD = 256


def processes_of(run: RunFolder) -> int:
    """Worker processes for the run; a pipeline object cannot leave its process."""
    source = source_of(run)
    if not isinstance(source, ModelRef):
        return 1
    return automatic(run.config.processes, source.device)


def parts(rows: np.ndarray) -> list[np.ndarray]:
    """``rows`` in shards."""
    return [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]


def weights_key(run: RunFolder, *groups: Group) -> str:
    """Which weights of the run's model the parts ``groups`` have, and their number format."""
    source = source_of(run)
    if isinstance(source, ModelRef):
        return f"{weights_of(source, *groups)} {source.dtype}"
    return type(source.pipeline).__name__


def digest(texts: Iterable[str]) -> str:
    """16 hexadecimal digits of texts in their order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(hashlib.sha256(text.encode()).digest())
    return found.hexdigest()[:16]
