"""SLURM: whether there is one, and whether it answers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.base import scheduler
from benchmark.errors import InputError
from benchmark.running.doctor.finding import Finding, Place

PLACE = 5


def check(place: Place) -> Iterator[Finding]:
    if job := scheduler.job_id():
        yield Finding("slurm job", "ok", f"this is in job {job}")
    try:
        scheduler.check_tools()
    except InputError:
        yield Finding("slurm", "ok", "there is none: sweeps run on this machine")
        return
    try:
        found = scheduler.partitions()
    except InputError as error:
        yield Finding("slurm", "warn", str(error), "ask the site whether SLURM is up, or use --cluster local")
        return
    if not found:
        yield Finding("slurm", "warn", "no partition is open to you", "ask the site, or use --cluster local")
    for text in found:
        if text.split()[1].rstrip(",") == "up":
            yield Finding("slurm", "ok", text)
        else:
            yield Finding("slurm", "warn", text, "choose another partition")
