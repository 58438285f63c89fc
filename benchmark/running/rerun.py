"""Whether a re-run rule launches a run, and the record of a run that is not launched."""

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

# Re-run rule -> the states in which it launches a run.
_LAUNCHED: dict[Rerun, tuple[str, ...]] = {
    "never": (),
    "missing": ("pending", "preempted"),
    "failed": ("pending", "preempted", "failed"),
    "stale": ("pending", "preempted", "stale", "other images"),
    "always": ("pending", "preempted", "failed", "stale", "other images", "done"),
}


@dataclass(frozen=True)
class Decision:
    """A run's state, whether a re-run rule launches it, and how.

    replaces: sha256 of the record file that is to be replaced, None for none. Another record that exists later was made
    by another process meanwhile, and is kept. attempt: number of the first attempt after this decision. fresh: that
    attempt removes an earlier checkpoint; later attempts resume from its own. took_s: device time of the existing
    record's run, None for none.
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
    """Decide whether a re-run rule launches a run. pixels: `known_pixels`, or a function that caches it for many runs.

    never: launch nothing. missing: runs that are pending or were interrupted. failed: these and failed runs. stale:
    those of `missing`, and runs that were made by other code or on other images than the present ones. always: every
    run that is not running, from the beginning. Raises StoreError for a folder with a damaged file.
    """
    # First: a record that appears later was made by another process, and is kept.
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

    Raises InputError where there is none or it was made from other images than the present ones, RunFailed for a run
    that failed, RunHeld for one that another process holds.
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
    # Every rule but `never` launches a run that is neither done, failed nor running.
    raise InputError(f"{folder.path}: the run is {state} and --rerun never launches nothing; use --rerun missing")


def _check_images(plan: Plan, record: Record, folder: RunFolder, reporter: Reporter) -> None:
    """Raise InputError unless the images here are those of the record. Decodes them if necessary."""
    decoded = cache_images(plan, reporter) if has_images_to_compare(plan) else {}
    if others := other_images(record, {name: images.digest for name, images in decoded.items()}):
        raise InputError(
            f"{folder.path}: the run was done on other images ({', '.join(others)}) than are here now; bring back "
            "the images, name another folder with --results, or make it anew with --rerun stale"
        )


def lacks_oracle(plan: Plan, record: Record) -> bool:
    """Whether a plan asks for the logits of every epoch and a record of its run lacks them."""
    return plan.oracle and bool(record.history) and not record.oracle
