"""A request to stop that waits for the next good moment.

Where a stage keeps what it has finished as it goes, Ctrl-C and SIGTERM end it at once. A training
step is not such a place: here the first signal is noted, the loop saves and raises Interrupted. The
second one ends the process at once, which is safe because files appear whole or not at all.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Whether somebody has asked to stop."""

    asked: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def noted() -> Iterator[Stop]:
    """Within it, the first SIGINT or SIGTERM is only noted. A signal that is ignored stays so.

    Python lets the main thread alone handle signals: in another one nothing is ever noted.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {n: h for n in SIGNALS if (h := signal.getsignal(n)) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, stop.note)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
