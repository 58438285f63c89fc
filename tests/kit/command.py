"""Calls of the command `ltbench` in this process."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from benchmark.cli import main
from kit.paths import ROOT


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def ltbench(*args: object, folder: Path = ROOT) -> Done:
    """The entry point of the command, called in this process: importing PyTorch anew each time takes seconds."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ),  # which an option before the command changes
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["ltbench", *map(str, args)])
        patch.setenv("COLUMNS", "140")
        try:
            main()
        except SystemExit as exit:
            code = exit.code or 0
    return Done(code, out.getvalue(), err.getvalue())


def refused(done: Done, *words: str) -> str:
    """Assert that a call failed as a user's mistake should: one line, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
    return lines[0]
