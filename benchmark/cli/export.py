"""Write a finished run to one file, which others import into their results.

\b
Examples:
  ltbench export erm-s0-1a2b3c4d5e6f
  ltbench export 1a2b3c4d --results results --out erm.zip
  ltbench export 1a2b3c4d --sign ~/.ssh/id_ed25519
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import RunArgument, StoresOption
from benchmark.cli.stores import find_run


def export(
    run: RunArgument,
    results: StoresOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.zip", help="The file.  [default: RUN.ltbench.zip in this folder]")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign it with this private Ed25519 key, as ssh-keygen makes it.")
    ] = None,
) -> None:
    from benchmark.audit import bundles

    print(bundles.export(find_run(run, results), out, sign))
