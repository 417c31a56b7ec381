"""What a mistake in the settings is told: names of elsewhere and earlier ones, and the rules.

Each in words that whoever wrote it can act on.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_KNOWN: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
RENAMED: Mapping[str, str] = _KNOWN["renamed"]
UNLISTED: Mapping[str, str] = _KNOWN["unlisted"]
REMOVED: Mapping[str, Any] = {**_KNOWN["removed"], **dict.fromkeys(_KNOWN["said_nothing"])}
"""Key of an earlier version that is gone -> the value it has today; None where it said nothing."""
SHARE, ESTIMATOR = "discover.against_share", "discover.estimator"
ALIASES = {alias: key for key, names in _KNOWN["elsewhere"].items() for alias in names}
"""What other trainers call a setting, or an option of the command -> its name here."""
NOT_NEEDED: Mapping[str, str] = _KNOWN["not_needed"]
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


def formerly(key: str, prefix: str = "") -> str | None:
    """What became of a ``key`` of an earlier version, as a sentence; None if there was none."""
    if key in RENAMED:
        return f"{prefix}{key} is now {prefix}{RENAMED[key]}"
    if key == SHARE:
        return f"{prefix}{key} is now {prefix}discover.target: both shares, as in [0.7, 0.3]"
    if key in {*UNLISTED, *REMOVED, *_KNOWN["gone"]}:
        return f"{prefix}{key} is no setting any more: leave it out"
    return None


def translated(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """The settings of an earlier version under their names of today.

    Returns them, the keys that were found under another name, as ``"old -> new"``, and what cannot
    be had any more: the run was made in a way that this version does not know.
    """
    sections = {name: held for name, held in values.items() if isinstance(held, Mapping)}
    flat = {
        f"{name}.{key}": value for name, held in sections.items() for key, value in held.items()
    }
    renamed = [f"{old} -> {new}" for old, new in RENAMED.items() if old in flat]
    for old, new in {**RENAMED, **UNLISTED}.items():
        if old in flat:
            flat[new] = flat.pop(old)
    problems = [
        f"{old} = {flat[old]!r}: this version has {today!r} alone"
        for old, today in REMOVED.items()
        if today is not None and flat.get(old, today) != today
    ]
    share = flat.pop(SHARE, 0.5)
    if share != 0.5:
        flat["discover.target"] = [1 - share, share]
        renamed.append(f"{SHARE} -> discover.target")
    if flat.get(ESTIMATOR, "auto") not in ("auto", "labels"):
        flat["study.estimator"] = flat.pop(ESTIMATOR)
    found: dict[str, Any] = {key: value for key, value in values.items() if key not in sections}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        if key not in REMOVED:
            found.setdefault(section, {})[name] = value
    return found, renamed, problems


def nearest(word: str, known: Sequence[str], prefix: str = "") -> str:
    """``; did you mean x?`` for the known key most like ``word``, wherever it lives.

    Names that other trainers have for it count (:data:`ALIASES`).
    """
    end = word.rpartition(".")[2]
    if end in NOT_NEEDED:
        return f"; {NOT_NEEDED[end]}"
    ends = {key.rpartition(".")[2]: key for key in reversed(known)}
    if word in ends or end in ALIASES:
        close = [ends[word] if word in ends else ALIASES[end]]
    else:
        close = difflib.get_close_matches(word, known, 1, 0.75)
        close = close or [ends[one] for one in difflib.get_close_matches(end, list(ends), 1, 0.75)]
    if not close:
        return ""
    return f"; did you mean {'' if close[0].startswith('--') else prefix}{close[0]}?"


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
