"""The registered datasets: whether their lists and images are here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmark.data.dataset import DATA_ROOT_VARIABLE, DATASETS, DatasetFolder, ListsNotMade, given_root
from benchmark.data.presence import presence_of
from benchmark.errors import InputError
from benchmark.running.doctor.finding import Finding, Place

PLACE = 6


def check(place: Place) -> Iterator[Finding]:
    given = given_root(place.data_root)
    if given and not given.is_dir():
        where = "--data-root" if place.data_root else DATA_ROOT_VARIABLE
        yield Finding("data root", "bad", f"{where} names {given}, which is no folder", "correct it")
    elif given:
        yield Finding("data root", "ok", f"{given}")
    for name, folder in DATASETS.items():
        yield _dataset(name, folder, place.data_root)


def _dataset(name: str, folder: DatasetFolder, data_root: Path | None) -> Finding:
    check, remedy = f"data {name}", f"ltbench data prepare {name}"
    try:
        presence = presence_of(folder.open(data_root))
    except ListsNotMade:
        return Finding(check, "warn", "its lists are not made", remedy)
    except InputError as error:
        return Finding(check, "bad", str(error))
    if presence.state in ("here", "rendered"):
        return Finding(check, "ok", "all images are here" if presence.state == "here" else "rendered")
    if presence.state == "no data root":
        remedy = f"set {DATA_ROOT_VARIABLE} or give --data-root, then {remedy}"
        return Finding(check, "warn", "no data root is named", remedy)
    return Finding(check, "warn", f"{presence.text} below {presence.root}", remedy)
