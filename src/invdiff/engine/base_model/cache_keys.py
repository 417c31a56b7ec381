"""What names the weights of a model; reads files and loads no torch."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

BLOCK, BLOCKS = 1 << 16, 16


def fingerprint(folder: Path, parts: Iterable[str]) -> str:
    """Which weights these are: 16 hexadecimal digits of these parts of a model, or of its one file.

    Of each file its name, its size and 16 blocks evenly spread over it, or all of it where that
    is less: another training of the same network differs in all of them.
    """
    if folder.is_file():
        folder, parts = folder.parent, [folder.name]
    found = hashlib.sha256()
    for part in sorted(parts):
        inside = (folder / part).rglob("*") if (folder / part).is_dir() else [folder / part]
        for path in sorted(p for p in inside if p.is_file()):
            size = path.stat().st_size
            found.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
            with path.open("rb") as handle:
                count = min(BLOCKS, -(-size // BLOCK))
                for k in range(count):
                    handle.seek(max(0, size - BLOCK) * k // max(1, count - 1))
                    found.update(handle.read(BLOCK))
    return found.hexdigest()[:16]
