"""What to launch: a re-run rule and where a run stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmark.running.environment import code_digest
from benchmark.running.images import known_pixels, other_images
from benchmark.running.plan import Plan
from benchmark.running.rules import Rerun
from benchmark.store.folder import RunFolder, State
from benchmark.store.records import Record


@dataclass(frozen=True)
class Decision:
    """What a re-run rule says of a run: where it stands, whether to launch it, and what launching means.

    replaces: sha256 of the record file that is made anew, None for none. Any other record that is there later was made
    by somebody who did the same meanwhile, and is kept. attempt: the number of the first attempt from this decision.
    fresh: that attempt throws an earlier checkpoint away; those after it go on from its own. took_s: device time of the
    run that is there, None for none.
    """

    state: State | Literal["stale", "other images", "queued"]
    launch: bool
    replaces: str | None = None
    attempt: int = 1
    fresh: bool = False
    took_s: float | None = None


def decide(
    work: Plan, folder: RunFolder, rerun: Rerun, pixels: Callable[[Plan], Mapping[str, str | None]] | None = None
) -> Decision:
    """What a re-run rule says of a run. pixels: `known_pixels` unless given, or what remembers it for many runs.

    never: launch nothing. missing: what is pending or was interrupted. failed: that and what failed. stale: that of
    `missing` and what was done by other code or on other images than are here now. always: everything that is not
    running, from the beginning.
    """
    # First: a record that appears after this is somebody else's, and no reason to make another.
    replaces = folder.record_digest()
    record = folder.record()
    state: State | Literal["stale", "other images"] = "done" if record is not None else folder.state()
    if record is not None and other_images(record, (pixels or known_pixels)(work)):
        state = "other images"
    elif record is not None and record.environment.code_digest != code_digest(work.method):
        state = "stale"
    took_s = None if record is None else record.timings.total_s
    launch = {
        "never": (),
        "missing": ("pending", "preempted"),
        "failed": ("pending", "preempted", "failed"),
        "stale": ("pending", "preempted", "stale", "other images"),
        "always": ("pending", "preempted", "failed", "stale", "other images", "done"),
    }[rerun]
    if state not in launch:
        return Decision(state, launch=False, took_s=took_s)
    return Decision(state, True, replaces, folder.attempts.next_number(), rerun == "always", took_s)


def lacks_oracle(work: Plan, record: Record) -> bool:
    """Whether a plan asks for the logits of every epoch, and a record of its run came without."""
    return work.oracle and bool(record.history) and not record.oracle
