"""The command `ltbench`: a thin layer over the Python API.

Nothing heavy is imported here: `--help` must answer at once.
"""

from __future__ import annotations

import os
import sys

from benchmark.cli.app import app
from benchmark.cli.output import print_error
from benchmark.errors import LtbenchError, RunInterrupted, StoreError, shown
from benchmark.ui.text import take_any_text, unwritten


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, an interruption 130."""
    take_any_text()
    try:
        _call()
    except RunInterrupted as error:
        print_error(f"interrupted: {error}")
        sys.exit(130)
    except KeyboardInterrupt:
        print_error("interrupted: run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has ended, which is no error; Python must not try to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (LtbenchError, OSError) as error:
        if os.environ.get("LTBENCH_TRACEBACK"):
            raise
        print_error(f"error: {_message_of(error)}")
        sys.exit(2)


def _call() -> None:
    try:
        app()
    except SystemExit as exit:  # every command ends so, a successful one too
        if exit.code == 130:  # typer's code for Ctrl-C
            raise KeyboardInterrupt from None
        if not exit.code and (why := unwritten()):
            raise StoreError(f"standard output cannot be written: {why}") from None
        raise


def _message_of(error: LtbenchError | OSError) -> str:
    """The message of an error for the user."""
    if isinstance(error, LtbenchError) or error.filename is None:
        return str(error)
    path = str(error.filename)
    return f"{shown(path)}: {error.strerror}"
