"""The lease of a run as a file, `lease.json`. Its owner creates and locks it; the file's time is the heartbeat.

A process locks a second file, `lock`, while it checks, creates or removes a lease.
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
    """The lease of the run in a folder."""

    def __init__(self, run: Path):
        self.path = run / "lease.json"
        self._run = run

    def lock(self) -> BinaryIO:
        """Keep other processes from checking, creating or removing the lease until this is closed. Raises OSError."""
        return lock(self._run / "lock")

    def read(self) -> Lease | None:
        """The lease; None where there is none. Raises StoreError for a damaged file."""
        return Lease.read(self.path)

    def holder(self) -> Lease | None:
        """The living owner of the run; None where there is none. Raises StoreError for a damaged lease."""
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
            # This machine's clock may be ahead. The file system's clock decides, so that no living owner loses its run.
            age = self._clock() - beat
        return None if lease.is_dead(age, locked) else lease

    def create(self, lease: Lease) -> BinaryIO:
        """Create the file, locked for as long as the returned file is open.

        The lock shows on this machine that the owner is alive, whatever the clocks say. Raises RunHeld where there is a
        lease, OSError where none can be written.
        """
        # Not by `replacing`, which would overwrite another lease. A link fails where the name is taken, also on NFS,
        # and the file is complete and locked before other processes see it.
        draft = self._run / f".lease.{lease.token}"
        file = draft.open("wb")
        try:
            lock_open(file)
            file.write(json.dumps(asdict(lease)).encode())
            file.flush()
            os.link(draft, self.path)
        except BaseException as error:
            with contextlib.suppress(OSError):  # closing tries again to write
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
        """Whether the run is still held by this lease. Raises StoreError."""
        return self.read() == lease

    def beat(self) -> None:
        """Show that the owner is alive. Raises OSError."""
        os.utime(self.path)

    def remove(self) -> None:
        """Remove the lease."""
        self.path.unlink(missing_ok=True)

    def remove_drafts(self) -> None:
        """Remove the drafts of a process that was killed while it created the lease; under `lock`."""
        for draft in self._run.glob(".lease.*"):
            draft.unlink(missing_ok=True)

    def _clock(self) -> float:
        """The time now by the clock of the file system, or of this machine where the folder cannot be written."""
        try:
            with tempfile.TemporaryFile(dir=self._run) as probe:
                probe.write(b"\n")
                probe.flush()
                return os.fstat(probe.fileno()).st_mtime
        except OSError:
            return time.time()
