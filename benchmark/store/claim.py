"""A run that this process owns: the claim, its heartbeat, the end of its attempt, and the results that it writes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO, NoReturn

import numpy as np
from safetensors.numpy import save as save_safetensors

from benchmark.base.atomic import write_atomically
from benchmark.base.files import open_regular
from benchmark.errors import Cause, InputError, LtbenchError, RunFailed, RunHeld, RunInterrupted, StoreError
from benchmark.store.folder import RunFolder
from benchmark.store.lease import HEARTBEAT_S, Lease
from benchmark.store.logits import TARGETS, VALIDATION, VALIDATION_TARGETS
from benchmark.store.records import EpochLogits, LogitsFile, Record

# An attempt keeps the last lines of the log, as far as they lie in its last bytes.
_LOG_TAIL = 2**16
_LOG_LINES = 20


@contextlib.contextmanager
def claimed(folder: RunFolder) -> Iterator[Claim]:
    """Own a run for the duration of the block.

    The claim is one atomic create, under a lock that keeps other processes from checking or removing a lease
    meanwhile. The lease of a dead owner is removed first. An exception that ends the block is written down as a failed
    or preempted attempt; after an InputError no attempt is kept, since nothing was started. Raises RunHeld when another
    process holds the run, StoreError when the folder cannot be written.
    """
    new = not folder.path.exists()
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.attempts.path.mkdir(exist_ok=True)
        if folder.attempts.path.is_symlink():  # its target may be another user's, and would be cleared up
            raise StoreError(f"{folder.attempts.path}: is a link; remove it, or choose another folder with --results")
        lease = Lease.mine()
        with folder.lease_file.lock():
            if folder.holder() is None:
                folder.clear_up()
            lock = folder.lease_file.create(lease)
    except OSError as error:
        raise StoreError(
            f"{error.filename or folder.path}: the results folder cannot be written: {error.strerror or error}; "
            "choose another with --results"
        ) from None
    claim = Claim(folder, lease, lock, folder.attempts.next_number())
    try:
        claim.begin()
        yield claim
    except InputError:
        claim.withdraw()
        if new:
            _remove(folder, lease)
        raise
    except BaseException as error:
        claim.end(error)
        raise
    finally:
        claim.release()


def _remove(folder: RunFolder, lease: Lease) -> None:
    """Remove the folder of a run that was never started, unless another process has taken it over."""
    path = folder.path
    aside = path.with_name(f".{path.name}.{lease.token}")
    with contextlib.suppress(OSError, StoreError), folder.lease_file.lock():
        if folder.lease_file.is_of(lease):
            path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):  # folders with other files stay
        path.parent.rmdir()
        path.parent.parent.rmdir()


def cut_off(folder: RunFolder, message: str) -> None:
    """Write down an attempt that was cut off before it could begin."""
    with contextlib.suppress(RunInterrupted, RunHeld), claimed(folder):
        raise RunInterrupted(message)


def give_up(folder: RunFolder, cause: Cause, message: str) -> None:
    """Write down a failed attempt, for a run that could not begin or that is not tried again.

    Raises RunHeld when a process holds the run.
    """
    with contextlib.suppress(RunFailed), claimed(folder):
        raise RunFailed(message, cause)


class Claim:
    """A run that this process owns, and to which it writes results. number: of the attempt, from 1."""

    def __init__(self, folder: RunFolder, lease: Lease, lock: BinaryIO, number: int):
        self.folder = folder
        self.number = number
        self._lease = lease
        self._lock = lock
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._checkpoint = folder.checkpoint_time()
        self._stop = threading.Event()
        self._lost = False
        self._heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def begin(self) -> None:
        """Write down that an attempt has begun, and start the heartbeat."""
        self._note(outcome="running")
        self._heart.start()

    def check(self) -> None:
        """Raise StoreError when the last heartbeat found that another process has taken the run over."""
        if self._lost:
            self._refuse("it stops here")

    def _refuse(self, consequence: str) -> NoReturn:
        if not self.folder.path.is_dir():
            raise StoreError(f"{self.folder.path}: the run's folder was removed while it ran; {consequence}")
        raise StoreError(f"{self.folder.path}: another process took this run over; {consequence}")

    def _note(self, **facts: Any) -> None:
        attempt = {
            "attempt": self.number,
            "started": self._started,
            "host": self._lease.host,
            "pid": self._lease.pid,
            "job": self._lease.job,
            "checkpoint": self._checkpoint,
        }
        self.folder.attempts.write(self.number, attempt | facts)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            # Another process's lease gets no heartbeat from here: it would outlive its owner.
            with contextlib.suppress(OSError, StoreError):
                self._lost = not self.folder.lease_file.is_of(self._lease)
                if not self._lost:
                    self.folder.lease_file.beat()

    def end(self, error: BaseException) -> None:
        """Write down how the attempt ended: preempted where it can go on, failed with its cause otherwise."""
        # After a broken pipe (the reader of the output has ended) or on a full disk, the run itself is sound.
        asked = isinstance(error, RunInterrupted | KeyboardInterrupt | SystemExit | BrokenPipeError)
        stopped = asked or isinstance(error, StoreError)
        cause: Cause = "interrupted" if asked else "disk" if stopped else "code"
        if isinstance(error, RunFailed):
            cause = error.cause
        # An error of ours explains itself in its message; a trace would hide it.
        trace = "" if stopped or isinstance(error, LtbenchError) else "".join(traceback.format_exception(error))
        # On a full disk the attempt stays "running" with a dead lease, which is read as preempted: nothing is lost.
        with contextlib.suppress(StoreError):
            self._note(
                outcome="preempted" if stopped else "failed",
                cause=cause,
                message=str(error),
                traceback=trace,
                log_tail=self._log_tail(),
                saved=self.folder.checkpoint_time() != self._checkpoint,
                ended=datetime.now(UTC).isoformat(timespec="seconds"),
            )

    def _log_tail(self) -> list[str]:
        try:
            with open_regular(self.folder.log_path) as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
                return log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            return []

    def store_logits(
        self,
        logits: dict[str, np.ndarray],
        targets: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> LogitsFile:
        """Store test logits (float32 [N, C] a weight set) and targets (uint8 [N, C]); returns the reference.

        validation: logits of the declared weight set and targets on the validation list, where there is one. The file's
        name contains its digest, so an older record keeps its own logits until it is replaced.
        """
        tensors = {TARGETS: targets.astype(np.uint8)} | logits
        if validation is not None:
            tensors |= {VALIDATION: validation[0], VALIDATION_TARGETS: validation[1].astype(np.uint8)}
        file, digest = self._store_tensors("logits", tensors)
        return LogitsFile(file=file, sha256=digest)

    def store_epoch(self, epoch: int, logits: dict[str, np.ndarray]) -> EpochLogits:
        """Store test logits of an epoch, for the oracle; see `store_logits`."""
        file, digest = self._store_tensors(f"epoch-{epoch:03d}", logits)
        return EpochLogits(epoch=epoch, file=file, sha256=digest)

    def _store_tensors(self, stem: str, tensors: dict[str, np.ndarray]) -> tuple[str, str]:
        content = save_safetensors(tensors)
        digest = hashlib.sha256(content).hexdigest()
        name = f"{stem}-{digest[:16]}.safetensors"
        write_atomically(self.folder.path / name, content)
        return name, digest

    def finish(self, record: Record) -> None:
        """Write the record, which makes the run done. Removes the files that only an unfinished run needs."""
        if not self.folder.lease_file.is_of(self._lease):
            self._refuse("its result is not written")
        write_atomically(self.folder.record_path, record.to_json().encode())
        self.folder.drop_unneeded(record)

    def withdraw(self) -> None:
        """Remove the attempt: there was nothing left to do."""
        self.folder.attempts.remove(self.number)

    def release(self) -> None:
        """Stop the heartbeat and remove the lease."""
        self._stop.set()
        if self._heart.is_alive():
            self._heart.join()
        with contextlib.suppress(StoreError, OSError):
            if self.folder.lease_file.is_of(self._lease):
                self.folder.lease_file.remove()
        self._lock.close()
