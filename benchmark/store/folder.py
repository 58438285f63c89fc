"""A run's folder, `<results>/runs/<name>`: its files, and the state of the run that follows from them.

    lease.json            the process that holds the run now: see `store.lease_file`
    attempts/001.json     how each attempt without a record ended, and why: see `store.attempts`
    checkpoint.pt         from which the run resumes; removed when the run is done
    run.log               what the attempts printed
    epoch-<number>-<sha>.safetensors    test logits of an epoch, where `--oracle` asked for them
    logits-<sha>.safetensors, record.json

`record.json`, written by rename after fsync, is the only proof that a run is done. `store.claim` writes the results of
the process that owns the run.
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
        """The run's record; None when the run is not done.

        Raises StoreError for a record that is damaged or of another run, and for a link to a missing file.
        """
        if not is_taken(self.record_path):
            return None
        record = Record.from_file(self.record_path)
        if record.folder_name != self.path.name:
            raise StoreError(f"{self.record_path}: this is the record of {record.folder_name}; remove the copy")
        return record

    def record_digest(self) -> str | None:
        """sha256 of the record's file; None where there is none."""
        try:
            return hashlib.sha256(read_regular(self.record_path)).hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self.record_path}: cannot be read: {error.strerror or error}") from None

    def state(self) -> State:
        """The run's state. Raises StoreError when a file in the folder is damaged."""
        if self.record() is not None:
            return "done"
        if self.holder() is not None:
            return "running"
        last = self.attempts.last()
        if last is None:
            return "pending"
        # An attempt that is still "running" was killed, and goes on from its checkpoint, if any.
        return "failed" if last["outcome"] == "failed" else "preempted"

    def holder(self) -> Lease | None:
        """The living owner of the run; None where there is none. Raises StoreError for a damaged lease."""
        return self.lease_file.holder()

    def checkpoint_time(self) -> int | None:
        """Time of the checkpoint's file, in nanoseconds of the file system's clock; None where there is none."""
        try:
            return self.checkpoint_path.stat().st_mtime_ns
        except OSError:
            return None

    def check_writable(self) -> None:
        """Raise StoreError when the folder cannot be created or written, before hours of training."""
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise StoreError(f"{existing}: the results folder cannot be written; choose another with --results")

    def note_cause(self, cause: Cause, message: str) -> None:
        """Write down why the last attempt ended, where it was killed or knew only that it was asked to stop.

        Nothing is written while a process owns the run. Raises StoreError.
        """
        attempt = self.attempts.last()
        if attempt is None or self.holder() is not None:
            return
        # A process that is asked to stop does not know that its walltime was over.
        if attempt["outcome"] == "running" or (cause == "timeout" and attempt.get("cause") == "interrupted"):
            saved = attempt.get("saved", self.checkpoint_time() != attempt.get("checkpoint"))
            facts = {"outcome": "preempted", "cause": cause, "message": message, "saved": saved}
            self.attempts.rewrite_last(attempt | facts)

    def clear_up(self) -> None:
        """Write down that the last owner died, and remove its drafts; under the lease's lock.

        The lease is removed last: if this process is killed meanwhile, the next one clears up. Raises StoreError.
        """
        dead = self.lease_file.read()
        attempt = self.attempts.last()
        if dead and attempt and attempt["outcome"] == "running":
            self.note_cause("killed", f"process {dead.pid} on {dead.host} ended without a message")
        for draft in (*drafts(self.path), *drafts(self.attempts.path)):
            draft.unlink(missing_ok=True)
        self.lease_file.remove_drafts()
        self.lease_file.remove()

    def tidy(self, record: Record) -> None:
        """Clear up after a process that was killed after it had written this record and before it removed its lease.

        The lease that it left shows this. A later attempt than the record's is going to replace it, and may go on.
        """
        if not self.lease_file.path.exists() or self.attempts.next_number() > record.attempts + 1:
            return
        with contextlib.suppress(OSError, StoreError), self.lease_file.lock():
            if self.holder() is None:
                self.drop_unneeded(record)
                self.clear_up()

    def drop_unneeded(self, record: Record) -> None:
        """Remove the files that only an unfinished run, or an older record than this one, needs."""
        self.checkpoint_path.unlink(missing_ok=True)
        self.attempts.remove(record.attempts)
        kept = {record.logits.file, *(epoch.file for epoch in record.oracle)}
        for pattern in ("logits-*.safetensors", "epoch-*.safetensors"):
            for stale in self.path.glob(pattern):
                if stale.name not in kept:
                    stale.unlink()
