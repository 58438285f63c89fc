"""What a person sees: a live bar on a terminal, plain lines elsewhere, and the run's log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmark.errors import StoreError
from benchmark.ui import progress
from benchmark.ui.progress import Reporter


def test_lines_are_shown_as_they_are_and_logged_with_their_time(tmp_path):
    out = io.StringIO()
    reporter = Reporter(Console(file=out, width=40))
    with reporter.logging_to(tmp_path / "run.log"):
        reporter.line("a [bold]name[/bold] that is longer than the console is wide")
    reporter.line("after")
    assert out.getvalue() == "a [bold]name[/bold] that is longer than the console is wide\nafter\n"
    [logged] = (tmp_path / "run.log").read_text().splitlines()
    assert logged.endswith(" a [bold]name[/bold] that is longer than the console is wide") and logged[4] == "-"


def test_without_a_terminal_a_line_appears_every_interval_with_time_left(monkeypatch):
    now = iter([0.0, 4.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    with Reporter(Console(file=out, width=200)).task("training", 40) as task:
        for done in (0, 11, 12, 22):
            task.update(done, "loss 0.5")
    assert out.getvalue().splitlines() == [
        "training 11/40, loss 0.5, 29 s left",
        "training 22/40, loss 0.5, 18 s left",
    ]


def test_progress_in_bytes_has_the_speed(monkeypatch):
    now = iter([0.0, 0.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    with Reporter(Console(file=out, width=200)).task("fetching", 2_000_000_000, of_bytes=True) as task:
        task.update(500_000_000)
        task.update(700_000_000)
    assert out.getvalue() == "fetching 700.0 MB of 2.0 GB, 10.0 MB/s, 130 s left\n"
    monkeypatch.undo()
    terminal = Console(file=out, force_terminal=True, width=120, legacy_windows=False)
    with Reporter(terminal).task("fetching", 2_000_000_000, of_bytes=True) as task:
        task.update(500_000_000)
        task._bar[0].refresh()
    assert "0.5/2.0 GB" in out.getvalue()


def test_on_a_terminal_a_bar_shows_the_facts():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, legacy_windows=False)
    with Reporter(console).task("training", 40) as task:
        task.update(10, "loss 0.5, lr 1.0e-03, 500 images/s")
        display, _ = task._bar
        display.refresh()
    assert "10/40" in out.getvalue() and "loss 0.5, lr 1.0e-03, 500 images/s" in out.getvalue()


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path):
    out = io.StringIO()
    reporter = Reporter(Console(file=out, width=200))
    with reporter.logging_to(tmp_path / "run.log"):

        class Full:
            def write(self, data: bytes) -> None:
                raise OSError(28, "No space left on device")

        reporter._log = Full()
        reporter.line("one")
        reporter.line("two")
    assert out.getvalue().splitlines() == ["one", "the log is not written any more: No space left on device", "two"]
    with (
        pytest.raises(StoreError, match="cannot be written"),
        reporter.logging_to(tmp_path / "missing" / "run.log"),
    ):
        pass


def test_silence_is_the_default_of_the_python_api(capsys):
    reporter = Reporter()
    reporter.line("nothing")
    with reporter.task("training", 2) as task:
        task.update(1)
    assert capsys.readouterr() == ("", "")
