"""What is wrong with a setting, in words that its author can act on."""

import json
from collections.abc import Mapping
from typing import Any

_RULES = {
    "greater_than_equal": "be at least {ge:g}",
    "greater_than": "be greater than {gt:g}",
    "less_than_equal": "be at most {le:g}",
    "less_than": "be less than {lt:g}",
    "finite_number": "be a finite number",
    "too_short": "have at least {min_length} items",
    "too_long": "have at most {max_length} items",
    "string_too_short": "not be empty",
    "value_error": "{error}",
    "int": "be a whole number",
    "float": "be a number",
    "string": "be text",
    "list": "be a list, as in [1.0, 2.5]",
    "bool": "be true or false",
    "model": "be a section of its own, as in [name]",
}
"""What pydantic calls a mistake, or its first word -> what completes "must ..."."""


def describe_problem(found: Mapping[str, Any]) -> str:
    """One line for one entry of ``pydantic.ValidationError.errors()``."""
    loc, kind, context = found["loc"], found["type"], found.get("ctx", {})
    if not loc:  # a rule over several settings names its setting itself
        return str(context["error"])
    name, shown = ".".join(map(str, loc[:2])), _shown(found["input"])
    if any(isinstance(part, str) for part in loc[2:]):  # a branch of the only union there is
        return f'{name}: must be a number of at least 0, or "auto", but is {shown}'
    return f"{name}: must {_rule(kind, context, found['msg'])}, but is {shown}"


def _rule(kind: str, context: Mapping[str, Any], otherwise: str) -> str:
    if kind == "literal_error":
        return f"be one of {context['expected'].replace(' or ', ', ')}".replace("'", '"')
    words = _RULES.get(kind) or _RULES.get(kind.partition("_")[0])
    return words.format(**context).replace(" 1 items", " 1 item") if words else otherwise


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
