"""One process at a time may change a run folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invdiff.errors import RunError

try:
    import fcntl
except ImportError:  # no such locks on this system: nothing is guarded
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``; RunError if another process holds it.

    The system lets go of the lock when its holder ends, however it ends.
    """
    if fcntl is None:
        yield
        return
    with (folder / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise RunError(
                f"another invdiff process (pid {holder}) is working in {folder}: wait for it, "
                "or take another --out"
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
        handle.truncate(0)
