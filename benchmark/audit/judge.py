"""The one judge of a run: every rule about a single run, for verification, bundles and the leaderboard.

`judge` applies all rules. The leaderboard reads thousands of runs, in several processes, and keeps results in its
cache. It calls `record_faults`, `files.load`, `files.load_epoch`, `files.score_again` and `lists.label_faults` one by
one. It leaves out `names` and `undeclared.changed_setting`, which need the methods and would load PyTorch. The rules
about several runs are in `agreement`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmark.audit.files import RECORD, Contents, Files, Stated, load, load_epoch, read_epoch, score_again
from benchmark.audit.lists import label_faults, split_fault
from benchmark.audit.undeclared import changed_recipe, changed_setting
from benchmark.errors import StoreError
from benchmark.store.records import Record


@dataclass
class Judged:
    """The judge's verdict on a run.

    faults: messages, one line each. scored: whether its logits could be scored. labels, logits: digests by which runs
    are compared, see `files.Contents`; empty where the logits contradict the record.
    """

    faults: list[str]
    scored: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    logits: str | None = None


def judge(record: Record, files: Files) -> Judged:
    """Compare a record with its files, and with the registered dataset, protocol and method that it names.

    Each file is read once.
    Raises InputError when a registered dataset or a method here cannot be loaded.
    """
    from benchmark.audit.names import misnamed  # with PyTorch

    judged, stated, contents = Judged(record_faults(record, files)), Stated.of(record), None
    try:
        contents = load(stated, files)
        judged.labels, judged.logits = contents.labels, contents.logits
        judged.faults += label_faults(record, contents.labels, files)
        judged.faults += score_again(contents, files)[1]
        judged.scored = True
    except StoreError as error:
        judged.faults.append(str(error))
    setting = changed_setting(record)
    problems = [*misnamed(record), *([] if setting is None else [setting])]
    judged.faults += [files.fault(RECORD, problem) for problem in problems]
    judged.faults += _epoch_faults(stated, contents, files)
    return judged


def record_faults(record: Record, files: Files) -> list[str]:
    """Messages for a record that contradicts the registered lists or the protocol that it names.

    Reads none of its other files, and loads no PyTorch. Raises InputError as `judge`.
    """
    split, change = split_fault(record, files), changed_recipe(record)
    return [fault for fault in (split, None if change is None else files.fault(RECORD, change)) if fault is not None]


def _epoch_faults(stated: Stated, contents: Contents | None, files: Files) -> Iterator[str]:
    for epoch in stated.epochs:
        try:
            if contents is None:
                read_epoch(epoch, stated, files)
            else:
                load_epoch(epoch, contents, files)
        except StoreError as error:
            yield str(error)
