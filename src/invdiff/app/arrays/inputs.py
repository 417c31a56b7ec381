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
    rule, given = f"must have the axes [{', '.join(axes)}], none of them empty", f"{found.shape}"
    advice = "give one that has (array[:, None] adds an axis, array.mean(...) takes one away)"
    fits = found.ndim == len(axes) and found.size > 0
    require(fits, name, rule, f"the shape {given}", advice)
    broken = int((~np.isfinite(found)).sum())
    given = f"{broken} of {found.size} values that are NaN or infinite"
    advice = "leave these pictures out, or measure them again"
    require(broken == 0, name, "must be finite", given, advice)
    return found


def texts(name: str, values: Sequence[str] | np.ndarray, about: str = "") -> np.ndarray:
    """``values`` as an array of text; ``about`` says what there is one of for each."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if isinstance(listed, str) or not all(isinstance(one, str) for one in listed):
        raise ArgumentError(name, "must be a list of texts", _told(values), f"give one {about}")
    if not len(listed):
        raise ArgumentError(name, "must not be empty", "0 texts", f"give one {about}")
    return np.array(listed)


def require(met: bool | np.bool_, name: str, rule: str, given: object, advice: str) -> None:
    """ArgumentError unless the rule is ``met``."""
    if not met:
        raise ArgumentError(name, rule, given, advice)


def same_count(name: str, found: int, other: str, wanted: int, advice: str) -> None:
    """ArgumentError unless ``name`` is about as many things as ``other``."""
    require(found == wanted, name, f"must have {wanted} rows, as {other} has", found, advice)


def rows(name: str, values: Array | Sequence[int] | None, count: int) -> np.ndarray:
    """Ascending numbers of rows below ``count``; all of them for None."""
    if values is None:
        return np.arange(count)
    found = floats(name, values, ("row",))
    whole = found.astype(int)
    ascending = (whole == found).all() and (np.diff(whole) > 0).all()
    rule = f"must be ascending whole numbers from 0 to {count - 1}, each once"
    advice = "give the numbers of the pictures that were measured, in the order of their losses"
    inside = ascending and whole[0] >= 0 and whole[-1] < count
    require(inside, name, rule, _told(found.tolist()), advice)
    return whole


def require_between(name: str, value: float, low: float, high: float, advice: str) -> None:
    """ArgumentError unless ``value`` lies inside (low, high)."""
    rule = f"must lie between {low:g} and {high:g}"
    require(low < value < high, name, rule, f"{value:g}", advice)


def _on_cpu(values: Array | Sequence[Any]) -> Any:
    return values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values


def _told(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 60 else f"{text[:57]}..."
