"""The mistakes a user can make, each with what to do about it.

Everything here is shown as one line by the command line, without a traceback. A broken invariant
of our own is an ``assert`` and keeps its traceback.
"""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

REASON = 160  # characters of a library's words in a line of ours


class InvDiffError(Exception):
    """Any mistake that whoever runs InvDiff can mend; the message says how."""


class ConfigError(InvDiffError):
    """One or more problems in the configuration, all found before any work starts."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        found = (problems,) if isinstance(problems, str) else tuple(problems)
        assert found, "a ConfigError carries at least one problem"
        self.problems: tuple[str, ...] = found
        super().__init__(found)  # what pickle calls the class with again

    def __str__(self) -> str:
        return "\n".join(self.problems)


class ArgumentError(InvDiffError, ValueError):
    """A value handed to a function of :mod:`invdiff` cannot be meant: which one, and what would do.

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


class MissingExtra(InvDiffError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        self.library, self.extra = library, extra
        super().__init__(f"{library} is not installed: pip install 'invdiff[{extra}]'")

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        return type(self), (self.library, self.extra)


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
