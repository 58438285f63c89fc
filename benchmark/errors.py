"""The errors a user sees: one line each, naming the file, the value and the remedy."""

from __future__ import annotations

from typing import Literal

# killed: the process ended without a message. timeout: a cluster's time limit. interrupted: it was asked to stop.
Cause = Literal["nan", "oom", "data", "disk", "interrupted", "timeout", "killed", "code"]

# Messages shorten a longer value: it may be as long as a file.
SHOWN_CHARACTERS = 200


def shown(value: str) -> str:
    """A value as messages quote it: the beginning and the end of a long one."""
    if len(value) <= SHOWN_CHARACTERS:
        return value
    return f"{value[:100]}...{value[-40:]} ({len(value):,} characters)"


class LtbenchError(Exception):
    """A failure that its message explains; the command line prints it without a traceback."""


class InputError(LtbenchError):
    """Something the user gave cannot be used; nothing was started."""


class Unfit(InputError):
    """A protocol cannot be used for a method: it has no recipe for it, or lacks what the method requires."""


class StoreError(LtbenchError):
    """The results folder cannot be read or written, or holds a file that is incomplete."""


class RunHeld(StoreError):
    """Another process holds the run."""


class RunFailed(LtbenchError):
    """A run stopped on an error of its own; `cause` names the kind."""

    def __init__(self, message: str, cause: Cause):
        super().__init__(message)
        self.cause = cause


class RunInterrupted(LtbenchError):
    """A run was asked to stop (Ctrl-C, SIGTERM); its checkpoint is on disk and it can go on."""
