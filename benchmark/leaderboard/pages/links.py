"""What the tables of the HTML page and the data of its runs call each other by."""

from __future__ import annotations

from benchmark.leaderboard.tables import Table
from benchmark.store.records import Record


def anchor(table: Table) -> str:
    """The id of a table on the page."""
    return f"track-{table.track.slug}"


def short_id(record: Record) -> str:
    """The name of a run in the page's data and addresses."""
    return record.run_id[:12]
