"""Output that the other end cannot take, and text that would steer a terminal."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest
from kit.command import ltbench
from kit.factories import make_record, make_scored, write_scored, write_store
from kit.paths import ROOT
from kit.runs import started, wait_for
from kit.tiny import TINY_ARGS
from rich.console import Console

from benchmark.launch.backends.local import Pool, _Board
from benchmark.launch.backends.slurm import _print
from benchmark.launch.crew import Crew, Slot
from benchmark.launch.worker import Order
from benchmark.store.claim import claimed
from benchmark.store.folder import RunFolder
from benchmark.ui.progress import Reporter
from benchmark.ui.text import harmless

pytestmark = pytest.mark.slow

EVIL = "red\x1b[2J\x9b31m\x07\u202eevil\udce9"


def call(*args: object, **options) -> subprocess.CompletedProcess:
    """The command in a process of its own, with standard streams of its own."""
    command = [sys.executable, "-m", "benchmark.cli", *map(str, args)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, cwd=ROOT, check=False, timeout=120, **options)


# --- encodings and full disks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_scored(tmp_path_factory.mktemp("terminal") / "store", [make_scored("erm"), make_scored("asl")])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_gets_a_table(store, encoding):
    done = call(
        "compare", "asl", "erm", "--dataset", "made-up", "--results", store,
        env=os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sign = "?" if encoding == "ascii" else "±"
    assert f"AP in percent; {sign} of A and B" in done.stdout.decode(encoding)


def test_a_file_name_that_is_no_text_can_be_told(tmp_path):
    done = call("status", "--results", os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert "no such results folder" in done.stderr.decode()


def test_what_a_full_disk_does_not_take_is_no_failure_of_a_run(tiny, tmp_path):
    args = ("run", "--method", "erm", "--dataset", tiny, *TINY_ARGS, "--results", tmp_path / "results")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = call(*args, stdout=full)
    assert done.returncode == 0
    assert "standard output cannot be written: No space left on device; 1 of 1 runs are done" in done.stderr.decode()
    assert [RunFolder(path).state() for path in (tmp_path / "results" / "runs").iterdir()] == ["done"]


def test_progress_that_a_full_disk_does_not_take_stops_nothing():
    code = (
        "from benchmark.ui.text import take_any_text\n"
        "from benchmark.cli.output import console, print_error\n"
        "from benchmark.ui.progress import Reporter\n"
        "take_any_text()\n"
        "Reporter(console(stderr=True)).line('epoch 1')\n"
        "print_error('left out')\n"
        "print('went on')\n"
    )
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (0, b"went on\n")


def test_what_a_full_disk_does_not_take_is_a_failure_of_a_command_that_only_tells():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = call("datasets", stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode() == "error: standard output cannot be written: No space left on device\n"


def test_a_job_tells_of_its_runs_in_any_encoding(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    _print("done: é \x1b[2J")
    assert raw.getvalue() == b"done: ?  [2J\n"


# --- what would steer a terminal --------------------------------------------------------------------------------


def test_harmless_text_keeps_its_lines():
    assert harmless("a\tb\r\nc ± é 漢\n") == "a\tb\nc ± é 漢\n"
    shown = harmless(EVIL)
    assert shown.isprintable() and shown.replace(" ", "") == "red[2J31mevil"


def test_a_reporter_steers_neither_the_terminal_nor_the_log(tmp_path):
    screen = io.StringIO()
    for terminal in (False, True):
        reporter = Reporter(Console(file=screen, force_terminal=terminal, color_system=None, width=80))
        with reporter.logging_to(tmp_path / "run.log"), reporter.task(EVIL, 2) as task:
            reporter.line(EVIL)
            task.update(1, EVIL)
    for text in (screen.getvalue(), (tmp_path / "run.log").read_text()):
        assert "[2J" in text and "\x1b[2J" not in text
        assert not set(text) & {"\x9b", "\x07", "\u202e", "\udce9"}


def test_what_a_worker_says_does_not_steer_the_terminal_of_a_sweep(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(f"import sys\nsys.stderr.reconfigure(errors='surrogatepass')\nsys.stderr.write({EVIL!r} + '\\n')")
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **kw: real([sys.executable, str(worker)], **kw))
    lines = []
    given = Order({"data_root": None}, {"attempt": 1, "replaces": None}, str(tmp_path / "runs" / "erm-s0-0"), "cpu")
    ending = Crew(Slot("CPU"), lines.append, lines.append, retries=0).carry_out(given)
    assert "[2J" in ending.message and ending.message.isprintable()
    assert lines and all(line.isprintable() for line in lines)


def test_a_dataset_s_name_does_not_steer_the_terminal(tiny, tmp_path):
    steering = tiny.rename(tiny.with_name("tiny\x1b[2J\x07"))
    args = ("run", "--method", "erm", "--dataset", steering, *TINY_ARGS, "--results", tmp_path / "results")
    done = ltbench(*args)
    assert done.returncode == 0, done.stderr
    assert "[2J" in done.stderr and not set(done.stderr + done.stdout) & {"\x1b", "\x07"}
    [log] = (tmp_path / "results").glob("runs/*/run.log")
    log.write_bytes(log.read_bytes() + b"\x1b[2J\r\n\xff\n")
    done = ltbench("logs", "erm", "--results", tmp_path / "results")
    assert " [2J\n\ufffd\n" in done.stdout and "\x1b" not in done.stdout
    done = ltbench("data", "--dataset", steering, "--protocol", "demo", "--image-size", "16")
    assert done.returncode == 0 and "[2J" in done.stdout and "\x1b" not in done.stdout + done.stderr


def test_the_board_of_a_sweep_is_not_steered():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=150)
    pool = Pool([Slot(EVIL)], 0, Reporter(console))
    board = _Board(1)
    board.now[0] = (EVIL, EVIL)
    pool._reporter.line(EVIL)
    console.print(pool._picture(board))
    assert screen.getvalue().count("[2J") == 4 and not set(screen.getvalue()) & {"\x1b", "\x9b", "\x07", "\u202e"}


# --- Ctrl-C -----------------------------------------------------------------------------------------------------


def test_ctrl_c_is_acknowledged_before_the_operation_that_goes_on_has_ended():
    """Of PyTorch, say: here a system call that Python's handler waits for."""
    code = (
        "import ctypes, threading\n"
        "from benchmark.base.signals import acknowledged, handled\n"
        "asked = []\n"
        "with acknowledged(lambda n: f'stopping {n}'), handled(lambda n, frame: asked.append(n)):\n"
        "    print('ready', flush=True)\n"
        "    ctypes.CDLL(None).pause()\n"  # until a signal; then a while in which Python runs nothing of this thread
        "    ctypes.CDLL(None).read(0, ctypes.create_string_buffer(1), 1)\n"
        "    print('asked' if asked else 'not asked', flush=True)\n"
    )
    with started([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        wait_for(lambda: "S" in state_of(process.pid), 10, "the process to wait")
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == b"stopping 2\n", "while the operation goes on"
        process.stdin.close()
        assert process.stdout.readline() == b"asked\n"
        assert process.wait(10) == 0 and process.stderr.read() == b""


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0]


def test_ctrl_c_ends_a_command_at_once_and_says_so(tmp_path):
    store = write_store(tmp_path / "store", [make_record("erm")])
    [path] = (store / "runs").iterdir()
    (path / "run.log").write_text("epoch 1\n")
    with (
        claimed(RunFolder(path)),
        started(
            [sys.executable, "-m", "benchmark.cli", "logs", "-f", path.name, "--results", store], cwd=ROOT, text=True
        ) as process,
    ):
        (path / "record.json").rename(path / "aside.json")
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=30)[1]
    assert (line, process.returncode) == ("epoch 1\n", 130)
    assert errors == "interrupted: run the same command again to go on\n"


def test_ctrl_c_ends_the_processes_of_a_pool_at_once_and_without_a_word():
    code = (
        "import os, time\n"
        "from benchmark.base.processes import spawned\n"
        "with spawned(2) as pool:\n"
        "    pool.submit(os.getpid).result()\n"
        "    work = [pool.submit(time.sleep, 300) for _ in range(8)]\n"
        "    print('ready', flush=True)\n"
        "    work[0].result()\n"
    )
    with started([sys.executable, "-c", code], cwd=ROOT, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt"), errors
