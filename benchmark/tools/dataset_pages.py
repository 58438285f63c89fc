"""The pages of the registered datasets: README.md and a picture of co-occurrence in each folder of `splits/`.

They are made from the lists and from dataset.yaml, of every dataset whose lists are in its folder. A page is compared
as it stands; a picture by the digest of its data, since its bytes depend on the version of matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.base.atomic import write_atomically
from benchmark.data.dataset import DATA_ROOT_VARIABLE, DATASETS, DatasetCard, DatasetFolder
from benchmark.data.facts import Facts, facts_of
from benchmark.errors import LtbenchError
from benchmark.leaderboard.pages.markdown import escape, pipe_table
from benchmark.leaderboard.plots.picture import description_of
from benchmark.tools import cooccurrence

PAGE, PICTURE = "README.md", "cooccurrence.png"
COMMAND = "python -m benchmark.tools.dataset_pages"
_PAIRS = 10


def described() -> Iterator[tuple[DatasetFolder, Facts]]:
    """The registered datasets whose lists are in the repository."""
    for _, folder in DATASETS.items():
        if folder.card.lists == "here":
            yield folder, facts_of(folder.open())


def stale(folder: DatasetFolder, facts: Facts) -> list[Path]:
    """The files of a dataset that are missing, or are not what its lists give."""
    page, picture = folder.path / PAGE, folder.path / PICTURE
    found = [] if page.is_file() and page.read_text(encoding="utf-8") == page_of(folder.card, facts) else [page]
    wanted = cooccurrence.description(facts)
    return found if wanted is None or description_of(picture) == wanted else [*found, picture]


def write(folder: DatasetFolder, facts: Facts) -> list[Path]:
    """Write the files of a dataset that are stale, and return them. Raises StoreError."""
    found = stale(folder, facts)
    for path in found:
        write_atomically(path, page_of(folder.card, facts).encode() if path.name == PAGE else cooccurrence.png(facts))
    return found


def page_of(card: DatasetCard, facts: Facts) -> str:
    """A dataset's page, in Markdown."""
    parts = [
        f"# {escape(facts.title)}\n",
        f"<!-- Made by `{COMMAND}` from the lists and dataset.yaml; edit these. -->\n",
        f"`{facts.name}`: {escape(facts.notes)}\n" if facts.notes else "",
        _lists(facts),
        _classes(facts),
        _pairs(facts),
        "## Images\n\n" + _images(card, facts.name) + "\n",
        _texts("Sources", facts.sources),
        _texts("Terms of use", facts.terms),
        _texts("Traps", facts.traps),
        f"Fingerprint: `{facts.fingerprint}`\n",
    ]
    return "\n".join(filter(None, parts))


def _lists(facts: Facts) -> str:
    titles = ("list", "images", "labels", "labels an image", "at most", "images without a label")
    rows = [
        (f"`{name}.txt`", f"{one.images:,}", f"{one.labels:,}", f"{one.labels_per_image:.2f}", str(one.most_labels),
         f"{one.without_label:,}")
        for name, one in facts.lists.items()
    ]  # fmt: skip
    return "## Lists\n\n" + pipe_table(titles, [":--", *["--:"] * 5], rows)


def _classes(facts: Facts) -> str:
    groups = ", ".join(f"{count} {group}" for group, count in facts.groups.items())
    most, *_, least = facts.ranked()
    told = (
        f"{len(facts.classes)} classes: {groups} ({facts.rule}). "
        f"{escape(most.name)} has {most.positives['train']:,}, {escape(least.name)} "
        f"{least.positives['train']:,}: an imbalance of {facts.imbalance:,.0f}. The numbers are images with the class."
    )
    rows = [
        (escape(one.name), one.group, *(f"{count:,}" for count in one.positives.values())) for one in facts.ranked()
    ]
    titles = ("class", "group", *facts.lists)
    return f"## Classes\n\n{told}\n\n" + pipe_table(titles, [":--", ":--", *["--:"] * len(facts.lists)], rows)


def _pairs(facts: Facts) -> str:
    pairs = facts.closest_pairs(_PAIRS)
    if not pairs:
        return ""
    rows = [
        (escape(pair.first), escape(pair.second), f"{pair.both:,} of {pair.given:,}", f"{pair.both / pair.given:.0%}")
        for pair in pairs
    ]
    table = pipe_table(("images with", "that also have", "", "share"), (":--", ":--", "--:", "--:"), rows)
    picture = f"![{cooccurrence.ALT}]({PICTURE})\n\n" if cooccurrence.description(facts) else ""
    return f"## Co-occurrence\n\n{picture}The closest pairs, of two training images or more:\n\n{table}"


def _images(card: DatasetCard, name: str) -> str:
    if card.images == "rendered":
        return "Rendered when they are needed; none is on disk."
    where = DATA_ROOT_VARIABLE if card.folder == "." else f"{DATA_ROOT_VARIABLE}/{card.folder}"
    return (
        f"Looked up below `${where}`, or the folder of `--data-root`; `ltbench data prepare {name}` brings them there."
    )


def _texts(title: str, texts: Sequence[str]) -> str:
    return f"## {title}\n\n" + "".join(f"- {escape(text)}\n" for text in texts) if texts else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when all is as the lists give it, 1 when `--check` finds other files, 2 for an error."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    args = parser.parse_args(argv)
    try:
        found = [path for one in described() for path in (stale(*one) if args.check else write(*one))]
    except LtbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in found:
        print(f"{path}: {f'out of date; {COMMAND} writes it' if args.check else 'written'}")
    return 1 if args.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
