"""The lease of a run as a file, `lease.json`: made by one process alone, locked by it, its time the heartbeat.

A second file, `lock`, is locked by whoever judges, makes or removes a lease, for as long as that takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from benchmark.base.lock import is_locked, lock, lock_open
from benchmark.errors import RunHeld
from benchmark.store.lease import LEASE_LIFETIME_S, Lease


class LeaseFile:
    """That of the run in a folder."""

    def __init__(self, run: Path):
        self.path = run / "lease.json"
        self._run = run

    def lock(self) -> BinaryIO:
        """Until this is closed nobody else judges, makes or removes the lease. Raises OSError."""
        return lock(self._run / "lock")

    def read(self) -> Lease | None:
        """The lease, None where there is none. Raises StoreError for a file that is garbage."""
        return Lease.read(self.path)

    def holder(self) -> Lease | None:
        """The living owner of the run, if there is one. Raises StoreError for a lease that is garbage."""
        try:
            lease = self.read()
            beat = self.path.stat().st_mtime
            locked = lease is not None and lease.is_on_this_machine and is_locked(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if lease is None:
            return None
        age = time.time() - beat
        if age > LEASE_LIFETIME_S:
            # This machine's clock may be ahead: both times by the clock of the file system, before anybody is robbed.
            age = self._clock() - beat
        return None if lease.is_dead(age, locked) else lease

    def create(self, lease: Lease) -> BinaryIO:
        """Make the file, which is locked as long as what is returned is open: so who holds a run is known on this
        machine, whatever any clock says. Raises RunHeld where there is a lease, OSError where none can be written."""
        # Not `replacing`, which would take the name from another lease: a link is made where there is none, and of a
        # complete file, whose lock is held before anybody sees it; also on NFS.
        draft = self._run / f".lease.{lease.token}"
        file = draft.open("wb")
        try:
            lock_open(file)
            file.write(json.dumps(asdict(lease)).encode())
            file.flush()
            os.link(draft, self.path)
        except BaseException as error:
            with contextlib.suppress(OSError):  # what it could not write, it tries again
                file.close()
            if not isinstance(error, FileExistsError):
                raise
            holder = self.read()
            who = f" by process {holder.pid} on {holder.host}" if holder else ""
            raise RunHeld(f"{self._run}: the run is being worked on{who}; wait for it or stop it") from None
        finally:
            draft.unlink(missing_ok=True)
        return file

    def is_of(self, lease: Lease) -> bool:
        """Whether the run is still that lease's. Raises StoreError."""
        return self.read() == lease

    def beat(self) -> None:
        """Show that the owner is alive. Raises OSError."""
        os.utime(self.path)

    def remove(self) -> None:
        """Give the run back."""
        self.path.unlink(missing_ok=True)

    def remove_drafts(self) -> None:
        """Remove what a process left that was killed while it made the lease; under `lock`."""
        for draft in self._run.glob(".lease.*"):
            draft.unlink(missing_ok=True)

    def _clock(self) -> float:
        """Now, as the file system tells the time; as this machine does where the folder cannot be written."""
        try:
            with tempfile.TemporaryFile(dir=self._run) as probe:
                probe.write(b"\n")
                probe.flush()
                return os.fstat(probe.fileno()).st_mtime
        except OSError:
            return time.time()
