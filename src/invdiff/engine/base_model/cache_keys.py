"""What all passes that are kept on the disk share: shards, keys, processes."""

import hashlib
from collections.abc import Iterable

import numpy as np

SHARD = 256


def row_parts(rows: np.ndarray) -> list[np.ndarray]:
    """``rows`` in shards."""
    return [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]


def digest_of_texts(texts: Iterable[str]) -> str:
    """16 hexadecimal digits of texts in their order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(hashlib.sha256(text.encode()).digest())
    return found.hexdigest()[:16]
