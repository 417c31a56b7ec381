"""Measured quantities and how people read them; one that is not defined is never a number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invdiff.data.samples import plural
from invdiff.engine.run.records import Record
from invdiff.errors import printable

UNDEFINED = "not defined"


@dataclass(frozen=True)
class Quantity:
    """A measured value and what must be known to read it; None where it is not defined.

    ``low`` and ``high`` are its interval, ``count`` of ``images`` what a share was counted from,
    ``reference`` the value at parity: what a balanced sampler shows with as many images.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    images: int | None = None
    reference: float | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any] | Record | float | None, key: str = "value") -> "Quantity":
        """From ``{key: ..., "low": ..., "high": ...}`` as a run's files have it, or a number."""
        known: dict[str, Any] = dict(entry) if isinstance(entry, Mapping | Record) else {key: entry}
        value, low, high, reference = (
            finite(known.get(name)) for name in (key, "low", "high", "parity_value")
        )
        return cls(value, low, high, known.get("count"), known.get("images"), reference)

    def __neg__(self) -> "Quantity":
        """A difference the other way round."""
        ends = (self.value, self.high, self.low)
        value, low, high = (None if end is None else 0 - end for end in ends)
        return Quantity(value, low, high)

    @property
    def has_interval(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None


def finite(value: Any) -> float | None:
    """``value`` as a number, None when it is missing, NaN or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def decimal(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals; a tiny negative one is not written as -0.00."""
    if (known := finite(value)) is None:
        return UNDEFINED
    text = f"{known:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def significant(value: float | None, digits: int = 4) -> str:
    """A number with a fixed count of significant digits."""
    if (known := finite(value)) is None:
        return UNDEFINED
    if known == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(known))))
    return decimal(known, decimals) if decimals <= 8 else f"{known:.{digits - 1}e}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as a percentage."""
    if (known := finite(value)) is None:
        return UNDEFINED
    return f"{100 * known:.{digits}f}%"


def whole_number(value: float | None) -> str:
    """A whole number with thousands separated."""
    return UNDEFINED if finite(value) is None else f"{int(value or 0):,}"


def size(amount: int) -> str:
    """Bytes as people say them."""
    return f"{amount / 1e9:,.1f} GB" if amount >= 1e8 else f"{amount / 1e6:,.0f} MB"


def shortest(value: str | float) -> str:
    """A setting without needless zeros, ``1`` for ``"1.0"``."""
    return f"{float(value):g}"


def span(quantity: Quantity, digits: int = 2, as_percent: bool = False) -> str:
    """The interval alone, ``0.53 to 0.62``; empty when there is none."""
    if not quantity.has_interval:
        return ""
    if as_percent:
        return f"{100 * (quantity.low or 0):.{digits}f} to {percent(quantity.high, digits)}"
    return f"{decimal(quantity.low, digits)} to {decimal(quantity.high, digits)}"


def with_interval(
    quantity: Quantity, confidence: float = 0.95, digits: int = 2, as_percent: bool = False
) -> str:
    """A quantity in a sentence: ``0.58 (95% interval 0.53 to 0.62)``."""
    write = percent if as_percent else decimal
    text = write(quantity.value, digits)
    if quantity.value is None or not quantity.has_interval:
        return text
    return f"{text} ({percent(confidence)} interval {span(quantity, digits, as_percent)})"


def p_value(value: float | None) -> str:
    """``p = 0.041``; below a thousandth only that, and empty where there is none."""
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def enumerated(items: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; past ``most`` items, how many more there are."""
    items = list(items)
    if len(items) > most:
        return ", ".join(items[:most]) + f" and {len(items) - most:,} more"
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + f" and {items[-1]}"


def quoted(text: str) -> str:
    """A prompt in quotation marks, on one line."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{single_line(text)}\N{RIGHT DOUBLE QUOTATION MARK}"


def single_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())


def markdown_cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return single_line(text).replace("|", "\\|")


def latex(text: str) -> str:
    """Text with the characters that mean something to LaTeX escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    shown = printable(text)  # before its backslashes are escaped
    return "".join(special.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in shown)


FILTERS = {
    made.__name__: made
    for made in (
        decimal, significant, percent, whole_number, size, shortest, span,
        with_interval, p_value, plural, enumerated, quoted, single_line, markdown_cell, latex,
    )
} | {"quantity": Quantity.of}  # fmt: skip
