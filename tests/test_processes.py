"""Worker processes: nothing of the working directory runs in them."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from benchmark.processes import spawned
with spawned(2) as pool:
    print(sum(pool.map(abs, [-1, -2, -3])))
"""


def test_no_file_of_the_working_directory_runs_in_a_worker(tmp_path):
    for name in ("multiprocessing", "pickle", "socket", "numpy"):
        (tmp_path / f"{name}.py").write_text("import pathlib\npathlib.Path(__file__ + '.ran').touch()\n")
    command = [sys.executable, "-P", "-c", SCRIPT, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "6\n", done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.ran")) == []
