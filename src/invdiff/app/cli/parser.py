"""From words on the command line to what was asked for."""

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import shtab

from invdiff.app.cli.verbs import VERBS, Verb
from invdiff.errors import ConfigError

_SETTING = re.compile(
    r"--(?P<key>seed|processes|[A-Za-z_]\w*(?:\.[\w-]+)+)(?:=(?P<value>.*))?", re.S
)


class Asked(argparse.Namespace):
    """The words of a command, read: attributes of its options and these.

    ``entry`` is the verb in the table, ``overrides`` the settings as ``["train.steps=100", ...]``,
    ``problems`` what is wrong with the words so far, ``typed`` the words themselves.
    """

    verb: str
    entry: Verb
    overrides: list[str]
    problems: list[str]
    typed: Sequence[str]

    def stop_at(self, *more: str) -> None:
        """ConfigError with all problems, and ``more``, if there are any."""
        if found := [*self.problems, *more]:
            raise ConfigError(dict.fromkeys(found))


class _Parser(argparse.ArgumentParser):
    """Says one line instead of the whole usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see `{self.prog} --help`)")


def build() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = _Parser(
        prog="invdiff",
        description="Balance what a text-to-image diffusion model makes of a prompt, "
        "without group labels.",
        epilog="Start with `invdiff demo --quick`. Exit codes: 0 done, 1 failed, 2 usage or "
        "configuration, 75 interrupted (run the same command again to go on).",
    )
    parser.add_argument("--version", action="version", version=f"invdiff {version('invdiff')}")
    shtab.add_argument_to(
        parser,
        "--completion",
        help="print what lets a shell complete the command: docs/guides/troubleshooting.md",
    )
    _verbs(parser, VERBS, "verb")
    return parser


def _verbs(parser: argparse.ArgumentParser, verbs: Mapping[str, Verb], dest: str) -> None:
    below = parser.add_subparsers(
        dest=dest, metavar=dest.upper(), required=True, parser_class=_Parser
    )
    for name, verb in verbs.items():
        text = f"{verb.words[0].upper()}{verb.words[1:]}."
        inner: argparse.ArgumentParser = below.add_parser(
            name, help=verb.words, description=text, epilog=verb.more or None
        )
        inner.set_defaults(parser=inner, entry=verb)  # the innermost verb's is what was asked for
        for key, entry in verb.takes.items():
            _add(inner, key, entry)
        for title, options in verb.groups.items():
            group = inner.add_argument_group(title)
            for key, entry in options.items():
                _add(group, key, entry)
        if verb.actions:
            _verbs(inner, verb.actions, "action")


def _add(to: Any, key: str, entry: str | Mapping[str, Any]) -> None:
    more = {"help": entry} if isinstance(entry, str) else entry
    *names, last = key.split()
    value = {} if not names or last.startswith("-") else {"metavar": last}
    action = to.add_argument(*names, *[] if value else [last], **value, **more)
    if more.get("type") is Path:
        action.complete = shtab.FILE


def parse(argv: Sequence[str]) -> Asked:
    """What was asked for; ConfigError for words that argparse can't make anything of.

    Unknown options and settings without a value are among its ``problems``.
    """
    overrides, problems, rest = _take_settings(argv)
    asked, extra = build().parse_known_args(rest, Asked())
    problems += _unknown(extra, asked.parser)
    if overrides and (why := VERBS[asked.verb].no_settings):
        problems.append(f"{asked.verb} takes no settings: {why}")
    asked.overrides, asked.problems, asked.typed = overrides, problems, argv
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
