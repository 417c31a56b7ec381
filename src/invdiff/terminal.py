"""What reaches a terminal: text that shows as itself, tables, bars that no clock turns back."""

import re
import time
import unicodedata
from collections.abc import Sequence
from typing import Any, TextIO

from tqdm import tqdm

JOINERS = "\u200c\u200d"  # of emoji, and of Persian and Indic words
_CURSOR_MOVES = re.compile(r"(\n|\x1b\[A)+")  # that tqdm writes for a bar below another


def printable(text: object, keep: str = "") -> str:
    r"""``text`` in one line, with an escape such as ``\u202e`` for what does not show as itself.

    That is control characters and line ends, marks that turn the direction of writing, characters
    that are none and the bytes of file names that are not UTF-8; but for those in ``keep``.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(one if one in keep or _shows(one) else _escaped(one) for one in plain)


def _shows(one: str) -> bool:
    return one.isprintable() or one in JOINERS or unicodedata.category(one) == "Zs"


def _escaped(one: str) -> str:
    return f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"


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
