"""Published results beside measured ones, as a section of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from benchmark.leaderboard.cells import MISSING, score_text
from benchmark.leaderboard.pages.markdown import escape, pipe_table
from benchmark.leaderboard.verdicts import PROTOCOL, Kind, PublishedRow, PublishedTable, Verdict
from benchmark.ui.progress import plural

_TITLE = "## Published beside measured\n"
_INTRODUCTION = f"""\
What was printed, and what the same method scores here with its published recipe (protocol `{PROTOCOL}`). Each cell with
four values gives the mAP in percent: overall / head / medium / tail.

- **Difference** is measured minus printed, in points.
- **Verdict** is on the overall mAP. A printed value is taken for one run, for how many seeds are behind it is not
  known. *Within*: it lies where at least 95 of 100 further runs of ours would, with another seed and on other test
  images, to the two digits printed: a 95 % prediction interval, wider than the ± of our mean. *Above* and *below*: it
  does not, and the measured mean is above or below it.
- *Not comparable* results differ in more than the code, as stated; where a row of ours stands beside one, it is the
  nearest there is.
- **Last epoch**: where both are published, the printed value is that of the epoch that is best on the test set, and the
  last epoch of the same log stands beside it, with the gap on the overall mAP. Our rows are scored without the test set
  choosing anything, so difference and verdict are then against the last epoch.
"""
_COLUMNS = {
    "Method": ":--",
    "Variant": ":--",
    "Backbone, pretraining, size": ":--",
    "Printed": "--:",
    "Last epoch": "--:",
    "Our row": ":--",
    "Measured": "--:",
    "Difference": "--:",
    "Verdict": ":--",
    "Source": ":--",
    "Notes": ":--",
}


def published_section(tables: Sequence[PublishedTable], unmeasured: Mapping[str, int] | None = None) -> str:
    """The section on all datasets with published results; empty where there are none.

    unmeasured: dataset title -> number of published results, for the datasets without a table.
    """
    counts = (unmeasured or {}).items()
    parts = [_INTRODUCTION, *(_table(table) for table in tables)] if tables else []
    missing = [
        f"{plural(count, 'published result')} of {escape(title)}: no run of protocol `{PROTOCOL}` here.\n"
        for title, count in counts
    ]
    return "\n".join([_TITLE, *parts, *missing]) if parts or missing else ""


def _table(table: PublishedTable) -> str:
    kinds = Counter(row.verdict.kind for row in table.rows)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in get_args(Kind) if kinds[kind])
    parts = [
        f"### {escape(table.title)}\n",
        f"{plural(len(table.rows), 'published result')}: {counts}.\n",
        pipe_table(list(_COLUMNS), list(_COLUMNS.values()), map(_cells, table.rows)),
    ]
    if table.footnotes:
        parts.append("".join(f"{number}. {escape(text)}\n" for number, text in enumerate(table.footnotes, 1)))
    return "\n".join(parts)


def _cells(row: PublishedRow) -> list[str]:
    result = row.result
    return [
        escape(result.method),
        escape(row.variant),
        escape(result.setting),
        " / ".join(score.printed_text for score in row.scores.values()),
        _last_epoch(row),
        escape(row.our_label),
        _measured(row),
        _differences(row),
        escape(_verdict(row.verdict)),
        escape(row.source),
        ", ".join(map(str, row.notes)),
    ]


def _last_epoch(row: PublishedRow) -> str:
    if row.last is None:
        return MISSING
    return " / ".join(score.last_text for score in row.scores.values()) + f" (gap {row.scores['Overall'].gap_text})"


def _measured(row: PublishedRow) -> str:
    if row.measured is None:
        return MISSING
    return " / ".join(score_text(score.measured) for score in row.scores.values()) + f" (n = {row.measured.row.n})"


def _differences(row: PublishedRow) -> str:
    if row.measured is None:
        return MISSING
    return " / ".join(score.difference_text for score in row.scores.values())


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.kind}: {'; '.join(verdict.reasons)}" if verdict.reasons else verdict.kind
