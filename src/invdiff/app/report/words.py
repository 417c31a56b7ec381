"""Numbers as the report writes them; one that is not defined is said to be so, never 0."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNDEFINED = "not defined"


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any] | None, key: str = "value") -> "Estimate":
        """From ``{key: ..., "low": ..., "high": ...}`` as the run's files hold it."""
        entry = entry or {}
        return cls(*(finite(entry.get(name)) for name in (key, "low", "high")))

    @property
    def has_interval(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Cell:
    """One cell of a table: the value, and its interval or remark in small print."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    numeric: bool = True


def finite(value: Any) -> float | None:
    """``value`` as a number, None when it is missing, NaN or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def number(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals; a tiny negative one is not written as -0.00."""
    if (known := finite(value)) is None:
        return UNDEFINED
    text = f"{known:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def significant(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of significant digits."""
    if (known := finite(value)) is None:
        return UNDEFINED
    if known == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(known))))
    return number(known, decimals) if decimals <= 8 else f"{known:.{digits - 1}e}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as a percentage."""
    if (known := finite(value)) is None:
        return UNDEFINED
    return f"{100 * known:.{digits}f}%"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return UNDEFINED if finite(value) is None else f"{int(value or 0):,}"


def span(estimate: Estimate, digits: int = 2, as_percent: bool = False) -> str:
    """The interval alone, ``0.53 to 0.62``; empty when there is none."""
    if not estimate.has_interval:
        return ""
    if as_percent:
        return f"{100 * (estimate.low or 0):.{digits}f} to {percent(estimate.high, digits)}"
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"


def cell(estimate: Estimate, digits: int = 2, as_percent: bool = False) -> Cell:
    """An estimate as a table cell, the interval in small print."""
    text = percent(estimate.value, digits) if as_percent else number(estimate.value, digits)
    return Cell(text, span(estimate, digits, as_percent))


def with_interval(
    estimate: Estimate, confidence: float = 0.95, digits: int = 2, as_percent: bool = False
) -> str:
    """An estimate in a sentence: ``0.58 (95% interval 0.53 to 0.62)``."""
    shown = cell(estimate, digits, as_percent)
    if not shown.detail:
        return shown.text
    return f"{shown.text} ({percent(confidence)} interval {shown.detail})"


def scale_name(scale: str | float) -> str:
    """A guidance scale without needless zeros, ``1`` for ``"1.0"``."""
    return f"{float(scale):g}"


def plural(amount: int, noun: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def listed(items: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; past ``most`` items, how many more there are."""
    if len(items) > most:
        return ", ".join(items[:most]) + f" and {len(items) - most:,} more"
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + f" and {items[-1]}"


def quoted(text: str) -> str:
    """A prompt in quotation marks."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{text}\N{RIGHT DOUBLE QUOTATION MARK}"
