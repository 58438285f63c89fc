"""The tables of a board for a paper: LaTeX that needs booktabs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from benchmark.leaderboard.board import Board
from benchmark.leaderboard.exports import tex
from benchmark.leaderboard.published import PROTOCOL, PublishedRow, PublishedTable
from benchmark.leaderboard.stats.statistics import Estimate
from benchmark.leaderboard.summary import Summary
from benchmark.leaderboard.tables import Row, Table, are_best
from benchmark.store.records import GROUPS
from benchmark.ui.progress import plural

# LaTeX keeps floats that found no page yet, and fails when they are too many: 18 were in every version.
_FLOATS_AT_ONCE = 16
# Characters of a column of text.
_METHOD = 29
_PUBLISHED = {"Method": 17, "Setting": 18, "Source": 19, "Our row": 15}
_DATASET = 16
# Datasets beside each other, as many as fit on a page.
_DATASETS = 5

_MISSING = "--"
_INTERVAL = (
    r"$\pm$: half of the 95\,\% interval over seeds, whose number stands in parentheses, and test images "
    r"($^{i}$: over test images alone; $^{s}$: over seeds alone)."
)
_BASELINE = Table.BASELINE_LABEL.upper()
_AGAINST = (
    rf"vs.\ {_BASELINE}: overall mAP minus that of {_BASELINE} with its own 95\,\% interval; $^{{*}}$: told apart at "
    r"95\,\% (Holm's correction for all comparisons with it)."
)
_RULES = {
    "last": "The network after the last epoch was scored.",
    "best-val": "The epoch that is best on the validation images was scored.",
}
_MIXED_RULES = (
    r"The network after the last epoch was scored; $^{\dagger}$: the epoch that is best on the validation images."
)
_VIEWS = r"$^{\ddagger}$: averaged over several views of a test image."
_SHOWN = f"Bold: best mean of a column; {_MISSING}: missing."


def to_latex(board: Board) -> str:
    """Tables to \\input in a paper, ASCII: one of each track, of each summary, and of published results beside ours.

    A table is a `table*`, over both columns of a two-column paper; one that is longer than a page is several. What
    plain pdflatex cannot set is shown as `[U+4E2D]`. The text of a caption is meant to be edited.
    """
    floats = [text for table in board.tables for text in _track(table)]
    for summary, label in zip(board.summaries, _labels(board.summaries), strict=True):
        floats += _summary(summary, label)
    floats += [text for table in board.published for text in _published(table)]
    blocks = [_header(board), *floats]
    for place in range(_FLOATS_AT_ONCE + 1, len(blocks), _FLOATS_AT_ONCE):
        blocks[place] = f"\\clearpage % LaTeX holds a limited number of floats\n{blocks[place]}"
    return "\n\n".join(blocks) + "\n"


def _header(board: Board) -> str:
    records = plural(board.num_records, "record")
    lines = [
        f"% Leaderboard of ltbench, {records}; made by a program.",
        r"% Needs in the preamble: \usepackage{booktabs}",
        "% Made for a two-column class: a table takes the width of both columns. In a narrower text, as in a single",
        "% column of article, a wide table is centred and stands out on both sides. To shrink it to the text's width,",
        r"% put \usepackage{graphicx} in the preamble and, in the table, \resizebox{\linewidth}{!}{% in the place of",
        r"% \makebox[\linewidth][c]{%",
        "% ASCII only: any input encoding will do, UTF-8, LaTeX's default, among them.",
    ]
    if not board.tables:
        lines.append("% There are no records yet: no run has finished.")
    return "\n".join(lines)


# Tracks


def _track(table: Table) -> list[str]:
    method = tex.text_column("Method", (row.label for row in table.rows), _METHOD)
    columns = [
        tex.Column("Rank", "c"),
        method,
        *(_score_column(column) for column in table.MAP_COLUMNS),
        *([] if table.baseline is None else [_score_column(f"vs.\\ {_BASELINE}")]),
        tex.Column("Param.\\ (M)", "r"),
        tex.Column("Epochs", "r"),
    ]
    mixed = _are_mixed(table.rows)
    lines = [
        tex.Line(
            (
                _MISSING if table.ranks[row.label] is None else str(table.ranks[row.label]),
                tex.text_cell(method, row.label) + _marks(row, mixed),
                *(_score(row.scores[column], table.is_best(row, column)) for column in table.MAP_COLUMNS),
                *([] if table.baseline is None else [_against_baseline(table, row)]),
                _parameters(row),
                str(row.epochs),
            ),
            tex.height(row.label, _METHOD),
        )
        for row in table.rows
    ]
    return tex.floats(tex.escape(table.title), _track_caption(table), table.track.slug, columns, lines)


def _track_caption(table: Table) -> str:
    groups = [group for group, _ in table.classes.values()]
    sizes = ", ".join(f"{groups.count(group)} {group}" for group in GROUPS)
    return _sentences(
        f"mAP in percent over all {len(groups)} classes and over {sizes} classes; {table.num_train_images:,} training "
        f"and {table.num_test_images:,} test images.",
        _INTERVAL,
        "Rank: a method is not told apart from the best one of its rank at 95\\,\\% (test images and seeds, Holm's "
        "correction).",
        _rule(table.rows),
        "" if table.baseline is None else _AGAINST,
        "Param.: trained / all, one number where they are equal.",
        "" if table.detectable is None else tex.escape(table.detectable.text),
        _SHOWN,
        _views(table.rows),
    )


def _sentences(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _parameters(row: Row) -> str:
    trained, _, both = row.parameters.partition(" / ")
    return trained if trained == both else row.parameters.replace(" / ", "/")


def _marks(row: Row, mixed: bool) -> str:
    marks = r"\dagger" if mixed and row.selection == "best-val" else ""
    marks += r"\ddagger" if row.test_time != "none" else ""
    return f"$^{{{marks}}}$" if marks else ""


def _are_mixed(rows: Iterable[Row]) -> bool:
    return len({row.selection for row in rows}) > 1


def _rule(rows: Sequence[Row]) -> str:
    """Which rule selected the epoch."""
    return _MIXED_RULES if _are_mixed(rows) else "".join(_RULES[rule] for rule in {row.selection for row in rows})


def _views(rows: Iterable[Row]) -> str:
    """What the mark of test-time ensembling means, where any row has it."""
    return _VIEWS if any(row.test_time != "none" for row in rows) else ""


def _score_column(title: str) -> tex.Column:
    return tex.Column(title, r"r@{\,}l", span=2)


def _score(score: Estimate | None, bold: bool = False) -> str:
    """Mean, then half-width and number of seeds in small print: two cells, so that the means' points are in line."""
    if score is None:
        return rf"\multicolumn{{2}}{{c}}{{{_MISSING}}}"
    mean = f"{score.mean:.2f}"
    mark = "$^{i}$" if score.seeds is None else "$^{s}$" if score.images is None else ""
    interval = "" if score.half_width is None else rf"$\pm${score.half_width:.2f}{mark} "
    shown = rf"\textbf{{{mean}}}" if bold else mean
    return rf"{shown} & {{\scriptsize {interval}({score.n})}}"


def _against_baseline(table: Table, row: Row) -> str:
    """Difference, then half-width and star in small print."""
    against = table.against_baseline[row.label]
    if against is None:
        return rf"\multicolumn{{2}}{{c}}{{{'baseline' if row is table.baseline else _MISSING}}}"
    star = "$^{*}$" if against.is_apart else ""
    return rf"${against.difference:+z.2f}$ & {{\scriptsize $\pm${against.half_width:.2f}{star}}}"


# Summaries


def _labels(summaries: Iterable[Summary]) -> list[str]:
    """A label for each: settings that differ in the digest of their weights alone have one title."""
    uses: Counter[str] = Counter()
    labels = []
    for summary in summaries:
        uses[summary.title] += 1
        number = uses[summary.title]
        labels.append(f"summary-{tex.slug(summary.title)}" + (f"-no{number}" if number > 1 else ""))
    return labels


def _summary(summary: Summary, label: str) -> list[str]:
    by_label = {label: [row for row in rows if row is not None] for label, rows in summary.measured.items()}
    used = [row for rows in by_label.values() for row in rows]
    marks = {label: _common_marks(rows, _are_mixed(used)) for label, rows in by_label.items()}
    caption = _sentences("Overall mAP in percent on several datasets.", _INTERVAL, _rule(used), _SHOWN, _views(used))
    short = f"Summary: {tex.escape(summary.title)}"
    made = []
    for start in range(0, len(summary.datasets), _DATASETS):
        name = f"{label}-from{start + 1}" if start else label
        shown = range(start, min(start + _DATASETS, len(summary.datasets)))
        columns, lines = _summary_table(summary, shown, marks)
        made += tex.floats(short, caption, name, columns, lines)
    return made


def _common_marks(rows: Sequence[Row], mixed: bool) -> str:
    """The marks that a row has on any dataset."""
    return max((_marks(row, mixed) for row in rows), key=len)


def _summary_table(summary: Summary, shown: range, marks: dict[str, str]) -> tuple[list[tex.Column], list[tex.Line]]:
    method = tex.text_column("Method", summary.rows, _METHOD)
    columns = [method, *(_score_column(_dataset_title(summary.datasets[i])) for i in shown)]
    best = zip(*(are_best([scores[i] for scores in summary.rows.values()]) for i in shown), strict=True)
    lines = [
        tex.Line(
            (
                tex.text_cell(method, label) + marks[label],
                *(_score(scores[i], is_best) for i, is_best in zip(shown, flags, strict=True)),
            ),
            tex.height(label, _METHOD),
        )
        for (label, scores), flags in zip(summary.rows.items(), best, strict=True)
    ]
    return columns, lines


def _dataset_title(title: str) -> str:
    if len(tex.spelled(title)) <= _DATASET:
        return tex.escape(title)
    return rf"\parbox[b]{{22mm}}{{\centering {tex.breakable(title)}}}"


# Published results


def _published(table: PublishedTable) -> list[str]:
    texts = [_published_texts(row) for row in table.rows]
    method, setting, source, ours = text_columns = [
        tex.text_column(title, column, most)
        for (title, most), column in zip(_PUBLISHED.items(), zip(*texts, strict=True), strict=True)
    ]
    columns = [
        *(method, setting, source, tex.Column("Printed", "r"), ours, _score_column("Measured")),
        tex.Column("Diff.", "r"),
        tex.Column("Verdict", "l"),
    ]
    # Caveats first, then what keeps results from being compared.
    notes = dict.fromkeys([*table.footnotes, *(reason for row in table.rows for reason in row.verdict.reasons)])
    numbers = {note: number for number, note in enumerate(notes, 1)}
    measured = [row.measured.row for row in table.rows if row.measured is not None]
    lines = []
    for row, row_texts in zip(table.rows, texts, strict=True):
        cells = [tex.text_cell(column, text) for column, text in zip(text_columns, row_texts, strict=True)]
        cells[-1] += _marks(row.measured.row, _are_mixed(measured)) if row.measured is not None else ""
        height = max(tex.height(text, most) for text, most in zip(row_texts, _PUBLISHED.values(), strict=True))
        lines.append(tex.Line(_published_cells(row, cells, numbers), height))
    return tex.floats(
        f"Published beside measured: {tex.escape(table.title)}",
        _published_caption(measured),
        f"published-{tex.slug(table.dataset)}",
        columns,
        lines,
        " ".join(rf"$^{{{number}}}$\,{tex.escape(text)}." for text, number in numbers.items()),
    )


def _published_caption(measured: Sequence[Row]) -> str:
    return _sentences(
        f"Overall mAP in percent as printed and as measured here with protocol {tex.escape(PROTOCOL)}.",
        _INTERVAL,
        "Setting: backbone, pretraining, image size.",
        "In brackets: the last epoch, where printed is the one that is best on the test set and both are published; "
        "difference and verdict are then against the last.",
        r"Diff.: measured minus printed. Verdict: \emph{within} where the printed value, taken for one run, lies in "
        r"the 95\,\% prediction interval of our seeds and test images, \emph{above} and \emph{below} where it does not "
        r"and the measured mean is above or below it.",
        _rule(measured),
        f"{_MISSING}: missing.",
        _views(measured),
    )


def _published_cells(row: PublishedRow, texts: Sequence[str], numbers: Mapping[str, int]) -> tuple[str, ...]:
    """texts: the cells of text. numbers: text of a note -> its number."""
    *printed, ours = texts
    score = row.scores["Overall"]
    notes = sorted({*row.notes, *(numbers[reason] for reason in row.verdict.reasons)})
    return (
        *printed,
        score.printed_text if row.last is None else f"{score.printed_text} ({score.last_text})",
        ours,
        _score(score.measured),
        _MISSING if score.difference is None else f"${score.difference_text}$",
        row.verdict.kind + (f"$^{{{','.join(map(str, notes))}}}$" if notes else ""),
    )


def _published_texts(row: PublishedRow) -> tuple[str, str, str, str]:
    reported = row.reported
    return (
        reported.method if row.variant == "printed" else f"{reported.method} ({row.variant})",
        reported.setting,
        row.source,
        row.our_label,
    )
