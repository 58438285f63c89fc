"""A run's folder, `<results>/runs/<name>`: what is in it, and the state of the run that follows from it.

    lease.json            who is working on the run now: see `store.lease_file`
    attempts/001.json     how each attempt without a record ended, and why: see `store.attempts`
    checkpoint.pt         where to go on; gone when the run is done
    run.log               what the attempts printed
    epoch-<number>-<sha>.safetensors    test logits of an epoch, where `--oracle` asked for them
    logits-<sha>.safetensors, record.json

`record.json`, written by rename after fsync, is the only proof that a run is done. What a process writes that owns the
run is in `store.claim`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Literal

from benchmark.base.atomic import drafts
from benchmark.base.files import read_regular
from benchmark.errors import Cause, StoreError
from benchmark.store.attempts import Attempts
from benchmark.store.lease import Lease
from benchmark.store.lease_file import LeaseFile
from benchmark.store.listing import is_taken
from benchmark.store.records import Record

State = Literal["pending", "running", "done", "failed", "preempted"]


class RunFolder:
    """One run's folder, whether it exists or not."""

    def __init__(self, path: Path):
        self.path = path
        self.record_path = path / "record.json"
        self.checkpoint_path = path / "checkpoint.pt"
        self.log_path = path / "run.log"
        self.attempts = Attempts(path)
        self.lease_file = LeaseFile(path)

    def record(self) -> Record | None:
        """The run's record, None when the run is not done. Raises StoreError for one not whole, of another run, or a
        link to a file that is not there."""
        if not is_taken(self.record_path):
            return None
        record = Record.from_file(self.record_path)
        if record.folder_name != self.path.name:
            raise StoreError(f"{self.record_path}: this is the record of {record.folder_name}; remove the copy")
        return record

    def record_digest(self) -> str | None:
        """sha256 of the record's file, None where there is none."""
        try:
            return hashlib.sha256(read_regular(self.record_path)).hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self.record_path}: cannot be read: {error.strerror or error}") from None

    def state(self) -> State:
        """The run's state. Raises StoreError when the folder holds something that is not whole."""
        if self.record() is not None:
            return "done"
        if self.holder() is not None:
            return "running"
        last = self.attempts.last()
        if last is None:
            return "pending"
        # An attempt that never wrote how it ended was killed: its checkpoint, if any, is where to go on.
        return "failed" if last["outcome"] == "failed" else "preempted"

    def holder(self) -> Lease | None:
        """The living owner of the run, if there is one. Raises StoreError for a lease that is garbage."""
        return self.lease_file.holder()

    def checkpoint_time(self) -> int | None:
        """When the checkpoint was written, in nanoseconds of the file system's clock; None where there is none."""
        try:
            return self.checkpoint_path.stat().st_mtime_ns
        except OSError:
            return None

    def check_writable(self) -> None:
        """Raise StoreError when the folder cannot be made or written: better now than after an hour of training."""
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise StoreError(f"{existing}: the results folder cannot be written; choose another with --results")

    def note_cause(self, cause: Cause, message: str) -> None:
        """Note why the last attempt ended, where it could not say so itself or knew only that it was asked to stop.

        Nothing is noted while a process owns the run. Raises StoreError.
        """
        attempt = self.attempts.last()
        if attempt is None or self.holder() is not None:
            return
        # Who was asked to stop does not know of the walltime.
        if attempt["outcome"] == "running" or (cause == "timeout" and attempt.get("cause") == "interrupted"):
            saved = attempt.get("saved", self.checkpoint_time() != attempt.get("checkpoint"))
            facts = {"outcome": "preempted", "cause": cause, "message": message, "saved": saved}
            self.attempts.rewrite_last(attempt | facts)

    def clear_up(self) -> None:
        """Note that the last owner died, and remove what it left half-written; under the lease's lock.

        The lease goes last, as whoever is killed in here leaves the rest to the next. Raises StoreError.
        """
        dead = self.lease_file.read()
        attempt = self.attempts.last()
        if dead and attempt and attempt["outcome"] == "running":
            self.note_cause("killed", f"process {dead.pid} on {dead.host} ended without a word")
        for draft in (*drafts(self.path), *drafts(self.attempts.path)):
            draft.unlink(missing_ok=True)
        self.lease_file.remove_drafts()
        self.lease_file.remove()

    def tidy(self, record: Record) -> None:
        """Remove what a process left that was killed after it had written this record and before it gave the run back.

        A lease that is still there tells of it. An attempt after the record's is one to replace it, and may go on.
        """
        if not self.lease_file.path.exists() or self.attempts.next_number() > record.attempts + 1:
            return
        with contextlib.suppress(OSError, StoreError), self.lease_file.lock():
            if self.holder() is None:
                self.drop_unneeded(record)
                self.clear_up()

    def drop_unneeded(self, record: Record) -> None:
        """Remove what only an unfinished run needs, or an older record than this one."""
        self.checkpoint_path.unlink(missing_ok=True)
        self.attempts.remove(record.attempts)
        kept = {record.logits.file, *(epoch.file for epoch in record.oracle)}
        for pattern in ("logits-*.safetensors", "epoch-*.safetensors"):
            for stale in self.path.glob(pattern):
                if stale.name not in kept:
                    stale.unlink()
