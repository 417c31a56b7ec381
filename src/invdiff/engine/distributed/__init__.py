"""Several processes, stop signals, and who owns which random draw."""

import os
from multiprocessing import process

UNGUARDED = 97  # exit code of a worker that was about to run a script of the user's again
by_command = False
"""Whether the command line runs: its workers can be started without asking. A script starts anew in
every worker, so from Python there are none unless they are asked for."""


def only_once() -> None:
    """End this process if it is a worker that has come here by running the user's script again."""
    if getattr(process.current_process(), "_inheriting", False):  # as multiprocessing asks
        os._exit(UNGUARDED)
