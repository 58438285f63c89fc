"""Import runs that others have exported into a results folder. A bundle is checked as `ltbench verify`
checks a run, and refused if it does not hold or contradicts the runs there. No existing run is overwritten; its
missing files are restored.

\b
Examples:
  ltbench import erm-s0-1a2b3c4d5e6f.ltbench.zip
  ltbench import theirs/*.ltbench.zip --results merged
  ltbench import theirs/*.ltbench.zip --trust keys.pub
"""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.options import ResultsOption
from benchmark.cli.output import print_error
from benchmark.errors import LtbenchError, StoreError
from benchmark.store import LOCAL

if TYPE_CHECKING:
    from benchmark.audit.bundles import Imported


def import_(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Files that `ltbench export` wrote.")],
    results: ResultsOption = LOCAL,
    trust: Annotated[
        Path | None,
        typer.Option(metavar="KEYS", help="Refuse what none of these public keys has signed; one a line, as KEY.pub."),
    ] = None,
) -> None:
    from benchmark.audit.bundles import import_bundle
    from benchmark.ui.text import plain

    counts: Counter[str] = Counter()
    for bundle in bundles:
        try:
            done = import_bundle(bundle, results, trust)
        except LtbenchError as error:
            refusal = plain(str(error))  # it quotes an untrusted file
            if len(bundles) == 1:
                raise StoreError(refusal) from None
            counts["refused"] += 1
            print_error(f"refused: {refusal}")
            continue
        counts[done.outcome] += 1
        notes = "; ".join(text for text in (_signed_by(done), done.note) if text)
        print(plain(f"{done.outcome}: {done.run}{f' ({notes})' if notes else ''}"))
    print(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    if counts["imported"] or counts["restored"]:
        print(f"  ltbench leaderboard --results {shlex.quote(str(results))}")
    if counts["refused"]:
        raise StoreError(f"{counts['refused']} of {len(bundles)} bundles were refused (above)")


def _signed_by(done: Imported) -> str:
    """The signer of a bundle; empty for an unsigned one."""
    if done.signer is None:
        return ""
    if done.owner is None:
        return f"signed by {done.signer.fingerprint}, which nothing vouches for without --trust"
    return f"signed by {done.owner or done.signer.fingerprint}"
