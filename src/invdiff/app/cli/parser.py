"""From words on the command line to what was asked for."""

import argparse
import difflib
import re
from collections.abc import Sequence

from invdiff.app.cli.arguments import build

WITHOUT_SETTINGS = {
    "augment": "the run has its own",
    "data": "it looks at pictures, not at a run",
    "export": "the run has its own",
    "weights": "it looks at files, not at a run",
}
_SETTING = re.compile(
    r"--(?P<key>seed|processes|[A-Za-z_]\w*(?:\.[\w-]+)+)(?:=(?P<value>.*))?", re.S
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What was asked for, with ``overrides`` as ``["train.steps=100", ...]``.

    Raises UsageError with every unknown option and setting without a value.
    """
    overrides, problems, rest = _take_settings(argv)
    asked, extra = build().parse_known_args(rest)
    problems += _unknown(extra, asked.parser)
    if overrides and asked.verb in WITHOUT_SETTINGS:
        problems.append(f"{asked.verb} takes no settings: {WITHOUT_SETTINGS[asked.verb]}")
    asked.overrides, asked.problems = overrides, problems
    return asked


def _take_settings(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Overrides as ``key=value``, problems, and the words that are left for argparse."""
    overrides: list[str] = []
    problems: list[str] = []
    rest: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        found = _SETTING.fullmatch(word)
        if not found:
            rest.append(word)
            continue
        key, value = found["key"].replace("-", "_"), found["value"]
        if value is None and words and not words[0].startswith("--"):
            value = words.pop(0)
        if value is None:
            problems.append(f"--{key}: needs a value, as in --{key} VALUE")
        else:
            overrides.append(f"{key}={value}")
    return overrides, problems, rest


def _unknown(extra: list[str], verb: argparse.ArgumentParser) -> list[str]:
    problems = []
    after_option = False
    for word in extra:
        if word.startswith("-"):
            problems.append(f"{word}: no such option{_nearest(word, verb)}")
        elif not after_option:
            problems.append(f"{word!r} is one word too many (see `{verb.prog} --help`)")
        after_option = word.startswith("-") and "=" not in word
    return problems


def _nearest(word: str, verb: argparse.ArgumentParser) -> str:
    """``; did you mean --x?`` among the options of the verb and the settings."""
    from invdiff.engine.settings.config import fields
    from invdiff.engine.settings.names import nearest

    name = word.partition("=")[0]
    options = re.findall(r"--[a-z-]+", verb.format_usage())
    close = difflib.get_close_matches(name, options, 1, 0.7)
    if close:
        return f"; did you mean {close[0]}?"
    return nearest(name.lstrip("-").replace("-", "_"), [key for key, _ in fields()], "--")
