"""What to launch, by a re-run rule and a run's state, and what a run gives that is not launched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmark.errors import InputError, RunFailed, RunHeld
from benchmark.running.images import cache_images, has_images_to_compare, known_pixels, other_images
from benchmark.running.plan import Plan
from benchmark.running.rules import Rerun
from benchmark.store.folder import RunFolder, State
from benchmark.store.records import Record
from benchmark.ui.progress import Reporter

# What each rule launches.
_LAUNCHED = {
    "never": (),
    "missing": ("pending", "preempted"),
    "failed": ("pending", "preempted", "failed"),
    "stale": ("pending", "preempted", "stale", "other images"),
    "always": ("pending", "preempted", "failed", "stale", "other images", "done"),
}


@dataclass(frozen=True)
class Decision:
    """A run's state, whether a re-run rule launches it, and what launching means.

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
    plan: Plan, folder: RunFolder, rerun: Rerun, pixels: Callable[[Plan], Mapping[str, str | None]] | None = None
) -> Decision:
    """What a re-run rule says of a run. pixels: `known_pixels` unless given, or what remembers it for many runs.

    never: launch nothing. missing: what is pending or was interrupted. failed: that and what failed. stale: that of
    `missing` and what was done by other code or on other images than are here now. always: everything that is not
    running, from the beginning. Raises StoreError for a folder that holds something that is not whole.
    """
    # First: a record that appears after this is somebody else's, and no reason to make another.
    replaces = folder.record_digest()
    record = folder.record()
    state: State | Literal["stale", "other images"] = "done" if record is not None else folder.state()
    if record is not None and other_images(record, (pixels or known_pixels)(plan)):
        state = "other images"
    elif record is not None and record.environment.code_digest != plan.code_digest:
        state = "stale"
    took_s = None if record is None else record.timings.total_s
    if state not in _LAUNCHED[rerun]:
        return Decision(state, launch=False, took_s=took_s)
    return Decision(state, True, replaces, folder.attempts.next_number(), rerun == "always", took_s)


def not_launched(plan: Plan, decision: Decision, folder: RunFolder, reporter: Reporter) -> Record:
    """The record of a run that is not launched.

    Raises InputError where there is none or it was made from other images than are here, RunFailed for a run that
    failed, RunHeld for one that another process is at.
    """
    state, record = decision.state, folder.record()
    if record is not None:
        _check_images(plan, record, folder, reporter)
        folder.tidy(record)
        note = " by other code than this: --rerun stale runs it again" if state == "stale" else ""
        if lacks_oracle(plan, record):
            note += " without the logits of every epoch: --rerun always makes it anew with them"
        reporter.line(f"done before{note}: {folder.path}")
        return record
    if state == "failed":
        last = folder.attempts.last() or {}
        message = f"{folder.path}: the run failed before: {last.get('message')}; try again with --rerun failed"
        raise RunFailed(message, cause=last.get("cause", "code"))
    if state == "running":
        raise RunHeld(f"{folder.path}: the run is being worked on by another process; wait for it or stop it")
    # Every rule but one launches what is neither done, failed nor running.
    raise InputError(f"{folder.path}: the run is {state} and --rerun never launches nothing; use --rerun missing")


def _check_images(plan: Plan, record: Record, folder: RunFolder, reporter: Reporter) -> None:
    """Raise InputError unless the images here are those of the record; they are decoded where they were not yet."""
    decoded = cache_images(plan, reporter) if has_images_to_compare(plan) else {}
    if others := other_images(record, {name: images.digest for name, images in decoded.items()}):
        raise InputError(
            f"{folder.path}: the run was done on other images ({', '.join(others)}) than are here now; bring back "
            "the images, name another folder with --results, or make it anew with --rerun stale"
        )


def lacks_oracle(plan: Plan, record: Record) -> bool:
    """Whether a plan asks for the logits of every epoch, and a record of its run came without."""
    return plan.oracle and bool(record.history) and not record.oracle
