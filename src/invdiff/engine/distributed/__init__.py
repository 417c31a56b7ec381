"""Several processes, stop signals, and who owns which random draw."""

import os
from collections.abc import Iterable
from multiprocessing import process

from invdiff.errors import RunError

UNGUARDED = 97  # exit code of a worker that was about to run a script of the user's again
by_command = False
"""Whether the command line runs: its workers can be started without asking. A script starts anew in
every worker, so from Python there are none unless they are asked for."""


def only_once() -> None:
    """End this process if it is a worker that has come here by running the user's script again."""
    if getattr(process.current_process(), "_inheriting", False):  # as multiprocessing asks
        os._exit(UNGUARDED)


def require_guard(exit_codes: Iterable[int | None]) -> None:
    """RunError if one of these workers ended because it ran the user's script again."""
    if UNGUARDED in exit_codes:
        raise RunError(
            "a worker process runs your script again from its first line: put what the script does "
            'under `if __name__ == "__main__":`, or ask for one process (processes=1)'
        ) from None
