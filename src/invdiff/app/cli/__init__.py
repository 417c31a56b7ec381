"""The command line. Nothing heavy is imported before a verb runs."""

import errno
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from invdiff.app.cli.options import SOURCE
from invdiff.app.cli.parser import parse
from invdiff.engine import distributed
from invdiff.errors import ConfigError, Interrupted, InvDiffError, InvDiffWarning
from invdiff.terminal import PlainStream

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (failed), 2 (usage) or 75 (interrupted).

    Of several processes that torchrun or `accelerate launch` has started, the first runs it and the
    others help with its training.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from invdiff.engine.distributed.team import together

        return together(lambda: _run(argv))
    return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    before = signal.signal(signal.SIGTERM, _terminate)
    # What is worth a word of theirs is said in ours; workers inherit this, unlike a logger's level.
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    shown = warnings.showwarning
    warnings.showwarning = partial(_warn, shown)
    output, errors, distributed.by_command = sys.stdout, sys.stderr, True
    sys.stdout, sys.stderr = (cast(TextIO, PlainStream(stream)) for stream in (output, errors))
    try:
        asked = parse(sys.argv[1:] if argv is None else argv)
        if SOURCE.keys().isdisjoint(asked.entry.takes):  # else problems are told with the settings'
            asked.stop_at()
        module, _, function = asked.entry.does.partition(":")
        getattr(import_module(f"{__name__}.{module}"), function)(asked)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has left, as in `invdiff config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:
        code, problems = _outcome(error)
        if not problems or os.environ.get("INVDIFF_DEBUG") == "1":
            raise
        if code == INTERRUPTED and argv is None:  # a second Ctrl-C would only make noise
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        for problem in problems:
            print(f"invdiff: error: {' '.join(problem.split())}", file=sys.stderr)
        return code
    finally:
        signal.signal(signal.SIGTERM, before)
        warnings.showwarning, sys.stdout, sys.stderr = shown, output, errors
        distributed.by_command = False
    return OK


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run the way Ctrl-C does."""
    raise KeyboardInterrupt


def _warn(others: Callable[..., None], message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning of ours is one line, as an error is."""
    if not isinstance(message, InvDiffWarning):
        others(message, *where, **more)
        return
    print(f"invdiff: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _outcome(error: BaseException) -> tuple[int, tuple[str, ...]]:
    """The exit code, and what to say; nothing of what is a fault of ours."""
    match error:
        case KeyboardInterrupt() | Interrupted():
            return INTERRUPTED, (str(error) or str(Interrupted()),)
        case ConfigError():
            return USAGE, error.problems
        case InvDiffError():
            return FAILED, (str(error),)
        case UnicodeEncodeError() | UnicodeDecodeError():
            part = error.object[max(0, error.start - 40) : error.end + 20]
            told = f"{part!r} holds what is not UTF-8: rename the file, or write its text as UTF-8"
            return FAILED, (told,)
    return FAILED, _about_the_disk(error) or _of_a_library(error)


def _about_the_disk(error: BaseException) -> tuple[str, ...]:
    """What the disk has against it, if that is what is wrong.

    safetensors has an exception of its own that tells the system's number in its text.
    """
    number, where = getattr(error, "errno", None), getattr(error, "filename", None)
    if quoted := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(quoted[1])
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        place = f" (writing {where})" if where else ""
        return (f"the disk is full{place}: make room and run the same command again to go on",)
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (f"{where or 'a file'}: {os.strerror(number)}; take a place that you may write to",)
    if isinstance(error, OSError) and error.strerror:
        return (f"{where or 'the system'}: {error.strerror}",)
    return ()


def _of_a_library(error: BaseException) -> tuple[str, ...]:
    """What a library raised that nobody foresaw; nothing of what was raised by our own code."""
    inner = error.__traceback__
    while inner is not None and inner.tb_next is not None:
        inner = inner.tb_next
    library = inner.tb_frame.f_globals.get("__name__", "").partition(".")[0] if inner else ""
    if library in ("", "invdiff") or isinstance(error, AssertionError):
        return ()
    told = f"{library} says {type(error).__name__}: {error}"
    return (f"{told}; with INVDIFF_DEBUG=1 in the environment the command shows where",)
