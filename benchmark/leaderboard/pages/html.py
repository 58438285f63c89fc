"""The leaderboard as one self-contained HTML file: tables, pictures, and a page for every run.

The tables are in the HTML, so that they show without JavaScript too. The runs are embedded as JSON, from which
`assets/page.js` builds a run's page when it is opened.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.cells import IMAGES_MARK, SEEDS_MARK
from benchmark.leaderboard.pages.run_data import run_data, script_json
from benchmark.leaderboard.pages.views import OVERVIEW, PublishedView, SummaryView, TableView, overview_row
from benchmark.leaderboard.verdicts import PROTOCOL, unmeasured

_ASSETS = Path(__file__).with_name("assets")


def html_page(board: Board, pictures: Mapping[str, Mapping[str, bytes]]) -> str:
    """The page of a board. pictures: slug of a track -> caption -> SVG. The same board gives the same bytes."""
    css, script = _asset("page.css"), _asset("page.js")
    return _template().render(
        policy=_policy(css, script),
        css=Markup(css),
        script=Markup(script),
        board=board,
        tables=[TableView(table, board.runs, pictures.get(table.track.slug, {})) for table in board.tables],
        overview=[overview_row(table) for table in board.tables],
        overview_columns=OVERVIEW,
        summaries=[SummaryView(summary) for summary in board.summaries],
        published=[PublishedView(table) for table in board.published],
        published_protocol=PROTOCOL,
        images_mark=IMAGES_MARK,
        seeds_mark=SEEDS_MARK,
        unmeasured=unmeasured(board.tables) if board.tables else {},
        data=Markup(script_json(run_data(board))),
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _policy(css: str, script: str) -> str:
    """The Content-Security-Policy: only the page's own style and script, and embedded pictures."""
    parts = {
        "default-src": "'none'",
        "style-src": _source(css),
        "script-src": _source(script),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["value"] = _value_text
    return environment.get_template("page.html.j2")


def _value_text(value: float | None) -> str:
    """A number as a `data-value`, empty for None."""
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")
