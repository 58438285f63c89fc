"""Worker processes: nothing of the working directory runs in them."""

from __future__ import annotations

import subprocess
import sys

from kit.paths import ROOT

SCRIPT = """
import sys

sys.path.insert(0, sys.argv[1])
from benchmark.base.processes import spawned

if __name__ == "__main__":
    with spawned(2) as pool:
        print(sum(pool.map(abs, [-1, -2, -3])))
"""


def test_no_file_of_the_working_directory_runs_in_a_worker(tmp_path):
    work, programs = tmp_path / "work", tmp_path / "programs"
    work.mkdir()
    programs.mkdir()
    # As an installed command: its own folder comes first on the path, not the working directory.
    (programs / "command.py").write_text(SCRIPT)
    for name in ("multiprocessing", "pickle", "socket", "numpy"):
        (work / f"{name}.py").write_text("import pathlib\npathlib.Path(__file__ + '.ran').touch()\n")
    command = [sys.executable, str(programs / "command.py"), str(ROOT)]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert sorted(path.name for path in work.glob("*.ran")) == []
    assert done.stdout == "6\n", done.stderr
