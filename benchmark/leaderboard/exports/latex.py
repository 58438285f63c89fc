"""The tables of a board for a paper, as pandas' Styler sets them: LaTeX that needs booktabs alone."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.cells import IMAGES_MARK, MISSING, SEEDS_MARK, are_best, cell_text
from benchmark.leaderboard.columns import METHOD, Column, Part, axes_of, columns_of
from benchmark.leaderboard.rows import Row
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.summary import Summary
from benchmark.leaderboard.tables import BASELINE_LABEL, Table
from benchmark.leaderboard.verdicts import PROTOCOL, PublishedRow, PublishedTable
from benchmark.store.records import GROUPS
from benchmark.ui.progress import plural
from benchmark.ui.text import plain

EXTENSION = "tex"

# LaTeX keeps floats that found no page yet, and fails when they are too many: 18 were in every version.
_FLOATS_AT_ONCE = 16
# In \footnotesize: lines of a table that fit on a page below a caption, and characters of a line across the page.
_PAGE_LINES, _NOTE_CHARACTERS = 38, 150
# Longer text is broken over lines of that many characters, each so wide, of which a word that does not fit leaves some
# empty; and what is much longer is cut, since text cannot fill pages.
_NAME, _TEXT, _CHARACTER_MM, _FILLED, _LONGEST = 29, 18, 1.35, 0.75, 400
# Datasets beside each other, as many as fit on a page.
_DATASETS = 5

# Characters that mean something to LaTeX, alone, after `\\` or before another of their kind, and others that its own
# fonts have.
_SPECIAL = {char: rf"\{char}" for char in "{}$&#%_"} | {char: f"{{{char}}}" for char in "[]*'`"}
_SPECIAL |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", '"': "{''}"}
_SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\dots{}", "ß": r"\ss{}"}
_SPECIAL |= {"–": r"\textendash{}", "—": r"\textemdash{}", "‘": "{`}", "’": "{'}", "“": "{``}", "”": "{''}"}
_SPECIAL |= {"±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "−": "$-$", IMAGES_MARK: "$^i$", SEEDS_MARK: "$^s$"}
# Combining character -> the accent that TeX's own fonts can put on any letter.
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c", "`'^~=u.\"rHv", strict=True))

_INTERVAL = (
    "±: half of the 95 % interval over seeds, whose number stands in parentheses, and test images "
    f"({IMAGES_MARK}: over test images alone; {SEEDS_MARK}: over seeds alone)."
)
_SHOWN = f"Bold: best mean of a column; {MISSING}: missing."
_HEADER = r"""% Leaderboard of ltbench, {}; made by a program.
% Needs in the preamble: \usepackage{{booktabs}}
% Made for a two-column class: a table takes the width of both columns. In a narrower text, as in a single
% column of article, a wide table is centred and stands out on both sides. To shrink it to the text's width,
% put \usepackage{{graphicx}} in the preamble and, in the table, \resizebox{{\linewidth}}{{!}}{{% in the place of
% \makebox[\linewidth][c]{{%
% ASCII only: any input encoding will do, UTF-8, LaTeX's default, among them."""
_FLOAT = r"""\begin{{table*}}[tp]
\centering
\caption[{title}]{{{title}.{caption}}}
\label{{tab:ltbench-{label}}}
\par\medskip
\footnotesize
\setlength{{\tabcolsep}}{{2.5pt}}
\makebox[\linewidth][c]{{%
{tabular}}}
{notes}\end{{table*}}"""


def write(board: Board, raw: bool = False) -> str:
    r"""Tables to \input in a paper, ASCII: one of each track, of each summary, and of published results beside ours.

    A table is a `table*`, over both columns of a two-column paper, where longtable cannot be; one that is longer than a
    page is several. What plain pdflatex cannot set is shown as `[U+4E2D]`. The text of a caption is meant to be edited.
    """
    blocks = [_HEADER.format(plural(board.num_records, "record"))]
    if not board.tables:
        blocks[0] += "\n% There are no records yet: no run has finished."
    for table in board.tables:
        blocks += _track(table)
    # Settings that differ in the digest of their weights alone have one title.
    uses: Counter[str] = Counter()
    for summary in board.summaries:
        uses[summary.title] += 1
        blocks += _summary(summary, f"summary-{_slug(summary.title)}-{uses[summary.title]}")
    for published in board.published:
        blocks += _published(published)
    for place in range(_FLOATS_AT_ONCE + 1, len(blocks), _FLOATS_AT_ONCE):
        blocks[place] = f"\\clearpage % LaTeX holds a limited number of floats\n{blocks[place]}"
    return "\n\n".join(blocks) + "\n"


def escape(text: str, breakable: bool = False, longest: int | None = _LONGEST) -> str:
    """`text` as LaTeX in ASCII that shows it as it is; breakable: lines may end after punctuation too. Text of more
    than `longest` characters is cut."""
    shown = unicodedata.normalize("NFC", plain(text))
    shown = shown if longest is None or len(shown) <= longest else f"{shown[: longest - 1]}…"
    escaped = (_escaped(char) + (r"\allowbreak{}" if breakable and char in "=:/_,.-" else "") for char in shown)
    return re.sub("-(?=-)", "-{}", "".join(escaped))  # two of them would be a dash


class _Bold(str):
    """A cell whose number is the best of its column."""


# The title of a column and its type in LaTeX: `l` for text, `r` for numbers.
_Head = tuple[str, str]


def _track(table: Table) -> list[str]:
    usual = _usual(table.rows)
    shown = [column for column in columns_of(table) if column.paper]
    cells = [[_cell(table, row, column, usual) for column in shown] for row in table.rows]
    groups, baseline = [group for group, _ in table.classes.values()], BASELINE_LABEL.upper()
    caption = [
        f"mAP in percent over all {len(groups)} classes and over "
        f"{', '.join(f'{groups.count(group)} {group}' for group in GROUPS)} classes; {table.num_train_images:,} "
        f"training and {table.num_test_images:,} test images.",
        _INTERVAL,
        "Rank: a method is not told apart from the best one of its rank at 95 % (test images and seeds, Holm's "
        "correction).",
        _said(usual),
        f"vs. {baseline}: overall mAP minus that of {baseline} with its own 95 % interval; *: told apart at 95 % "
        "(Holm's correction for all comparisons with it)."
        if table.baseline
        else "",
        "Param.: trained / all.",
        table.detectable.text if table.detectable else "",
        _SHOWN,
    ]
    heads = [(column.paper, "r" if column.kind.numeric else "l") for column in shown]
    return _floats(table.title, caption, table.track.slug, heads, cells)


def _cell(table: Table, row: Row, column: Column, usual: Mapping[str, str]) -> str:
    text = column.text(table, row)
    if column is METHOD:
        text += _unusual([row], usual)
    elif column.kind.numeric:
        text = text.replace("-", "−")
    return _Bold(text) if column.part is Part.METRIC and table.is_best(row, column.title) else text


def _summary(summary: Summary, label: str) -> list[str]:
    by_label = {name: [row for row in rows if row is not None] for name, rows in summary.measured.items()}
    used = [row for rows in by_label.values() for row in rows]
    usual = _usual(used)
    caption = ["Overall mAP in percent on several datasets.", _INTERVAL, _said(usual), _SHOWN]
    names = [name + _unusual(rows, usual) for name, rows in by_label.items()]
    columns = [_marked(scores) for scores in zip(*summary.rows.values(), strict=True)]
    made = []
    for start in range(0, len(columns), _DATASETS):
        shown = slice(start, start + _DATASETS)
        heads = [(METHOD.title, "l"), *((dataset, "r") for dataset in summary.datasets[shown])]
        cells = [[name, *row] for name, row in zip(names, zip(*columns[shown], strict=True), strict=True)]
        made += _floats(f"Summary: {summary.title}", caption, f"{label}-from{start + 1}", heads, cells)
    return made


def _marked(scores: Sequence[Estimate | None]) -> list[str]:
    """The cells of a column of scores."""
    return [
        _Bold(cell_text(one)) if best else cell_text(one) for one, best in zip(scores, are_best(scores), strict=True)
    ]


def _published(table: PublishedTable) -> list[str]:
    measured = [row.measured.row for row in table.rows if row.measured is not None]
    usual = _usual(measured)
    # Caveats first, then what keeps results from being compared.
    notes = dict.fromkeys([*table.footnotes, *(reason for row in table.rows for reason in row.verdict.reasons)])
    numbers = {note: number for number, note in enumerate(notes, 1)}
    caption = [
        f"Overall mAP in percent as printed and as measured here with protocol {PROTOCOL}.",
        _INTERVAL,
        "Setting: backbone, pretraining, image size.",
        "In brackets: the last epoch, where printed is the one that is best on the test set and both are published; "
        "difference and verdict are then against the last.",
        "Diff.: measured minus printed. Verdict: within where the printed value, taken for one run, lies in the 95 % "
        "prediction interval of our seeds and test images, above and below where it does not and the measured mean is "
        "above or below it; in brackets the numbers of the notes.",
        _said(usual),
        f"{MISSING}: missing.",
    ]
    # Numbers last: ragged text must not end a line of a table.
    heads = [(title, "l") for title in ("Method", "Setting", "Source", "Our row", "Verdict")]
    heads += [(title, "r") for title in ("Printed", "Measured", "Diff.")]
    cells = [_published_cells(row, usual, numbers) for row in table.rows]
    below = " ".join(f"({number}) {note}." for note, number in numbers.items())
    title, label = f"Published beside measured: {table.title}", f"published-{_slug(table.dataset)}"
    return _floats(title, caption, label, heads, cells, _TEXT, below)


def _published_cells(row: PublishedRow, usual: Mapping[str, str], numbers: Mapping[str, int]) -> list[str]:
    """numbers: text of a note -> its number."""
    result, score = row.result, row.scores["Overall"]
    notes = sorted({*row.notes, *(numbers[reason] for reason in row.verdict.reasons)})
    return [
        result.method if row.variant == "printed" else f"{result.method} ({row.variant})",
        result.setting,
        row.source,
        row.our_label + _unusual([] if row.measured is None else [row.measured.row], usual),
        row.verdict.kind + (f" ({', '.join(map(str, notes))})" if notes else ""),
        score.printed_text if row.last is None else f"{score.printed_text} ({score.last_text})",
        cell_text(score.measured),
        score.difference_text.replace("-", "−"),
    ]


def _usual(rows: Iterable[Row]) -> dict[str, str]:
    """Title -> what most rows have of each way of running methods."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for title, text in axes_of(row).items():
            counts[title][text] += 1
    return {title: found.most_common(1)[0][0] for title, found in counts.items()}


def _said(usual: Mapping[str, str]) -> str:
    """That in a sentence."""
    said = ", ".join(f"{title.lower()} {text}" for title, text in usual.items())
    return f"Unless other is in square brackets: {said}." if usual else ""


def _unusual(rows: Sequence[Row], usual: Mapping[str, str]) -> str:
    """What else these rows have, to be put behind their label."""
    found = dict.fromkeys(text for row in rows for title, text in axes_of(row).items() if text != usual[title])
    return f" [{', '.join(found)}]" if found else ""


def _floats(
    title: str,
    caption: Sequence[str],
    label: str,
    heads: Sequence[_Head],
    cells: Sequence[Sequence[str]],
    width: int = _NAME,
    notes: str = "",
) -> list[str]:
    """A table of plain text as floats over the whole width of the text, several where it is longer than a page.

    title: in all captions and in the list of tables. caption: sentences of the first one. width: characters after which
    text is broken. notes: below the last float.
    """
    broken = [i for i, (_, kind) in enumerate(heads) if kind == "l" and any(len(row[i]) > width for row in cells)]
    # About how many lines each row takes.
    heights = [max([1, *(math.ceil(len(row[i][:_LONGEST]) / (_FILLED * width)) for i in broken)]) for row in cells]
    parts = list(_parts(heights, max(_PAGE_LINES - math.ceil(len(notes) / _NOTE_CHARACTERS), _PAGE_LINES // 3)))
    made = []
    for number, part in enumerate(parts, 1):
        of = f" (part {number} of {len(parts)})" if len(parts) > 1 else ""
        below = escape(notes, longest=None) if number == len(parts) else ""
        made.append(
            _FLOAT.format(
                title=escape(title) + of,
                caption="".join(f" {escape(text)}" for text in caption if text) if number == 1 else "",
                label=label if number == 1 else f"{label}-part{number}",
                tabular=_tabular(heads, cells[part], broken, width),
                notes=f"\\par\\smallskip\n\\parbox{{\\linewidth}}{{\\raggedright {below}}}\n" if below else "",
            )
        )
    return made


def _parts(heights: Sequence[int], most: int) -> Iterator[slice]:
    """Rows of so many lines in parts of at most `most` lines, or of a single row."""
    start = lines = 0
    for i, height in enumerate(heights):
        if i > start and lines + height > most:
            yield slice(start, i)
            start, lines = i, 0
        lines += height
    yield slice(start, len(heights))


def _tabular(heads: Sequence[_Head], cells: Sequence[Sequence[str]], broken: Sequence[int], width: int) -> str:
    import pandas as pd

    # Numbers for columns: two may have one title.
    styler = pd.DataFrame([list(row) for row in cells], dtype=object).style.hide(axis="index")
    numbers = [i for i, (_, kind) in enumerate(heads) if kind == "r"]
    styler = styler.format(escape).format(_number, subset=numbers)
    styler = styler.format(lambda text: rf"\raggedright {escape(text, breakable=True)}", subset=broken)
    styler = styler.format_index(lambda i: escape(heads[i][0]), axis="columns")
    kinds = (f"p{{{width * _CHARACTER_MM:.0f}mm}}" if i in broken else kind for i, (_, kind) in enumerate(heads))
    return styler.to_latex(hrules=True, column_format=f"@{{}}{''.join(kinds)}@{{}}").rstrip()


def _number(text: str) -> str:
    """A number, and what follows it in small print."""
    number, _, rest = text.partition(" ")
    number = rf"\textbf{{{escape(number)}}}" if isinstance(text, _Bold) else escape(number)
    return rf"{number} {{\scriptsize {escape(rest)}}}" if rest else number


def _slug(text: str) -> str:
    r"""A \label's part for `text`: ASCII letters, digits and dashes, other ones for other text."""
    readable = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}".lstrip("-")


def _escaped(char: str) -> str:
    if char in _SPECIAL or char.isascii():
        return _SPECIAL.get(char, char)
    letter, *marks = unicodedata.normalize("NFD", char)
    if letter.isascii() and letter.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        dotless = "\\" if letter in "ij" else ""
        return rf"\{_ACCENTS[marks[0]]}{{{dotless}{letter}}}"
    return f"{{[}}U+{ord(char):04X}{{]}}"
