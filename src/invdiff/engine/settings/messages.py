"""What is wrong with a setting, in words that its author can act on."""

import json
from collections.abc import Mapping
from typing import Any

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "list": "a list, as in [1.0, 2.5]",
    "bool": "true or false",
    "model": "a section of its own, as in [name]",
}
_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "greater than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def describe_problem(found: Mapping[str, Any]) -> str:
    """One line for one entry of ``pydantic.ValidationError.errors()``."""
    loc, kind, context = found["loc"], found["type"], found.get("ctx", {})
    if not loc:  # a rule over several settings names its setting itself
        return str(context["error"])
    name, shown = ".".join(map(str, loc[:2])), _shown(found["input"])
    if any(isinstance(part, str) for part in loc[2:]):  # a branch of the only union there is
        return f'{name}: must be a number of at least 0, or "auto", but is {shown}'
    return f"{name}: must {_rule(kind, context, found)}, but is {shown}"


def _rule(kind: str, context: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if kind in _LIMITS:
        limit, words = _LIMITS[kind]
        return f"be {words} {context[limit]:g}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"be one of {context['expected'].replace(' or ', ', ')}".replace("'", '"')
    if kind == "finite_number":
        return "be a finite number"
    if kind == "too_short":
        return f"have at least {_items(context['min_length'])}"
    if kind == "too_long":
        return f"have at most {_items(context['max_length'])}"
    if kind == "string_too_short":
        return "not be empty"
    for start, words in _KINDS.items():
        if kind.startswith(start):
            return f"be {words}"
    return str(found["msg"])


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
