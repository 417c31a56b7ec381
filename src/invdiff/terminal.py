"""What reaches a terminal: text that shows as itself, tables, bars that no clock turns back."""

import re
import time
from collections.abc import Sequence
from typing import Any, TextIO

from tqdm import tqdm

from invdiff.errors import printable

__all__ = ["Bar", "PlainStream", "aligned", "printable"]
_CURSOR_MOVES = re.compile(r"(\n|\x1b\[A)+")  # that tqdm writes for a bar below another


def aligned(rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table of text: the first column to the left, the others to the right if ``numbers``."""
    rows = [list(map(printable, row)) for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    other = str.rjust if numbers else str.ljust
    lines = ([row[0].ljust(widths[0]), *map(other, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


class PlainStream:
    """A stream of text on which all is :func:`printable`, in whatever encoding the stream has."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``; its line ends and the cursor moves of bars stay."""
        if not _CURSOR_MOVES.fullmatch(text):
            text = printable(text, keep="\n\r\t")
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Bar(tqdm):
    """The progress bar of everything here: its times are of a clock that only goes forward."""

    hidden = False
    _time = property(lambda self: time.monotonic, lambda self, clock: None)

    def __init__(self, iterable: Any = None, desc: str | None = None, **more: Any) -> None:
        more |= {"disable": True} if Bar.hidden else {}
        super().__init__(iterable, desc and printable(desc), **more)
