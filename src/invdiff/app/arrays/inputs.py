"""What people hand over as arrays, tensors and lists, as the arrays that core takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from invdiff.errors import ArgumentError

Array = np.ndarray | Tensor
"""A NumPy array or a torch tensor, of any number type and on any device."""


def floats(name: str, values: Array | Sequence[Any], axes: Sequence[str]) -> np.ndarray:
    """``values`` in double precision; ArgumentError unless finite and with these ``axes``."""
    try:
        found = np.asarray(_on_cpu(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(
            name, "must hold numbers in rows of one length", _told(values), "give an array"
        ) from None
    if found.ndim != len(axes) or found.size == 0:
        raise ArgumentError(
            name,
            f"must have the axes [{', '.join(axes)}], none of them empty",
            f"the shape {found.shape}",
            "give one that has (array[:, None] adds an axis, array.mean(...) takes one away)",
        )
    if broken := int((~np.isfinite(found)).sum()):
        raise ArgumentError(
            name,
            "must be finite",
            f"{broken} of {found.size} values that are NaN or infinite",
            "leave these pictures out, or measure them again",
        )
    return found


def texts(name: str, values: Sequence[str] | np.ndarray, about: str = "") -> np.ndarray:
    """``values`` as an array of text; ``about`` says what there is one of for each."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if isinstance(listed, str) or not all(isinstance(one, str) for one in listed):
        raise ArgumentError(name, "must be a list of texts", _told(values), f"give one {about}")
    if not len(listed):
        raise ArgumentError(name, "must not be empty", "0 texts", f"give one {about}")
    return np.array(listed)


def same_count(name: str, found: int, other: str, wanted: int, advice: str) -> None:
    """ArgumentError unless ``name`` is about as many things as ``other``."""
    if found != wanted:
        raise ArgumentError(name, f"must have {wanted} rows, as {other} has", f"{found}", advice)


def rows(name: str, values: Array | Sequence[int] | None, count: int) -> np.ndarray:
    """Ascending numbers of rows below ``count``; all of them for None."""
    if values is None:
        return np.arange(count)
    found = floats(name, values, ("row",))
    whole = found.astype(int)
    if (whole != found).any() or (np.diff(whole) <= 0).any() or whole[0] < 0 or whole[-1] >= count:
        raise ArgumentError(
            name,
            f"must be ascending whole numbers from 0 to {count - 1}, each once",
            _told(found.tolist()),
            "give the numbers of the pictures that were measured, in the order of their losses",
        )
    return whole


def require_between(name: str, value: float, low: float, high: float, advice: str) -> None:
    """ArgumentError unless ``value`` lies inside (low, high)."""
    if not low < value < high:
        raise ArgumentError(name, f"must lie between {low:g} and {high:g}", f"{value:g}", advice)


def _on_cpu(values: Array | Sequence[Any]) -> Any:
    return values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values


def _told(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 60 else f"{text[:57]}..."
