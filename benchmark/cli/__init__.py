"""The command `ltbench`: a thin layer over the Python API.

Nothing heavy is imported here: `--help` must answer at once.
"""

from __future__ import annotations

import os
import sys

# isort: off
# In this order they stand in the help.
from benchmark.cli import training, results, catalog  # noqa: F401

# isort: on
from benchmark.cli.app import app
from benchmark.cli.output import print_error
from benchmark.errors import LtbenchError, RunInterrupted


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, an interruption 130."""
    try:
        app()
    except RunInterrupted as error:
        print_error(f"interrupted: {error}")
        sys.exit(130)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # A reader that goes away (`| head`) ends the program quietly; Python must not try to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except LtbenchError as error:
        if os.environ.get("LTBENCH_TRACEBACK"):
            raise
        print_error(f"error: {error}")
        sys.exit(2)
