"""The mistakes a user can make, each with what to do about it, and text as it is shown.

Everything here is shown as one line by the command line, without a traceback. A broken invariant
of our own is an ``assert`` and keeps its traceback.
"""

import errno
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

REASON = 160  # characters of a library's words in a line of ours
JOINERS = "\u200c\u200d"  # of emoji, and of Persian and Indic words


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


class InvDiffError(Exception):
    """Any mistake that whoever runs InvDiff can mend; the message says how."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")  # it may quote captions and names of files


class ConfigError(InvDiffError):
    """One or more problems in the configuration, all found before any work starts."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        found = (problems,) if isinstance(problems, str) else tuple(problems)
        assert found, "a ConfigError carries at least one problem"
        self.problems: tuple[str, ...] = found
        super().__init__(found)  # what pickle calls the class with again

    def __str__(self) -> str:
        return printable("\n".join(self.problems), keep="\n")


class ArgumentError(InvDiffError, ValueError):
    """A value handed to a function of ``invdiff`` cannot be meant: which one, and what would do.

    ``argument`` is its name. The message tells the rule, what was given and what to do.
    """

    def __init__(self, argument: str, rule: str, given: object, advice: str) -> None:
        self.argument = argument
        self._told = (argument, rule, given, advice)
        super().__init__(f"{argument}: {rule}, not {given}; {advice}")

    def __reduce__(self) -> tuple[type["ArgumentError"], tuple[str, str, object, str]]:
        return type(self), self._told


class DataError(InvDiffError):
    """The pictures, prompts or labels cannot be used as they are."""


class RunError(InvDiffError):
    """The run folder does not allow what was asked for."""


class ModelError(InvDiffError):
    """The model cannot be loaded, adapted or attached to."""


class Interrupted(InvDiffError):
    """Ctrl-C or SIGTERM: what was finished is on the disk, the same command goes on from there."""

    def __init__(
        self, message: str = "interrupted; run the same command again to go on where it stopped"
    ) -> None:
        super().__init__(message)


class InvDiffWarning(UserWarning):
    """Something was not as it should be, and there was a way to go on."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class MissingExtra(InvDiffError):
    """An optional library is not installed; ``instead`` is what can be done without it."""

    def __init__(self, library: str, extra: str, instead: str = "") -> None:
        self.library, self.extra, self.instead = library, extra, instead
        told = f"{library} is not installed: pip install 'invdiff[{extra}]'"
        super().__init__(f"{told} ({instead})" if instead else told)

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str, str]]:
        return type(self), (self.library, self.extra, self.instead)


@contextmanager
def refused(what: str, way_out: str) -> Iterator[None]:
    """Whatever a library has against a model, which the user can mend, as one ModelError.

    A disk or a memory that is full is not the model's fault.
    """
    try:
        yield
    except InvDiffError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or "OutOfMemory" in type(error).__name__ or isinstance(error, MemoryError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        short = reason if len(reason) <= REASON else f"{reason[:REASON]}..."
        raise ModelError(f"{what}: {way_out} ({short})") from error
