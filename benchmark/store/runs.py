"""The run store: one folder a run under `<results>/runs/`, claims, attempts, and the record.

A run folder holds

    lease.json            who is working on the run now (host, process, heartbeat by the file's time), locked by them
    attempts/001.json     one file an attempt that did not end in a record: how it ended, and why
    checkpoint.pt         where to go on; gone when the run is done
    run.log               what the attempts printed
    epoch-<number>-<sha>.safetensors    test logits of an epoch, where `--oracle` asked for them
    logits-<sha>.safetensors, record.json

`record.json`, written by rename after fsync, is the only proof that a run is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import numpy as np
from safetensors.numpy import save as save_safetensors

from benchmark.base.atomic import drafts, write_atomically
from benchmark.base.files import MOST_TEXT, open_regular, read_regular
from benchmark.base.lock import is_locked, lock, lock_open
from benchmark.errors import Cause, InputError, LtbenchError, RunFailed, RunHeld, RunInterrupted, StoreError
from benchmark.spec import RunSpec
from benchmark.store.lease import HEARTBEAT_S, LEASE_LIFETIME_S, Lease
from benchmark.store.logits import TARGETS, VALIDATION, VALIDATION_TARGETS
from benchmark.store.records import EpochLogits, LogitsFile, Record

State = Literal["pending", "running", "done", "failed", "preempted"]
# Of a run's id, at the end of its folder's name.
_ID_DIGITS = 12
# Bytes of a log that its last lines are looked for in.
_LOG_TAIL = 2**16
_HOW_TO_NAME = "give a run's folder name, its id, or the start of either"


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path):
        self.path = path
        self.record_path = path / "record.json"
        self.checkpoint_path = path / "checkpoint.pt"
        self.log_path = path / "run.log"
        self._lease_path = path / "lease.json"
        self._attempts = path / "attempts"

    def record(self) -> Record | None:
        """The run's record, None when the run is not done. Raises StoreError for one not whole, of another run, or a
        link to a file that is not there."""
        if not _is_there(self.record_path):
            return None
        record = Record.from_file(self.record_path)
        if record.folder_name != self.path.name:
            raise StoreError(f"{self.record_path}: this is the record of {record.folder_name}; remove the copy")
        return record

    def state(self) -> State:
        """Where the run stands. Raises StoreError when the folder holds something that is not whole."""
        if self.record() is not None:
            return "done"
        if self.holder() is not None:
            return "running"
        last = self.last_attempt()
        if last is None:
            return "pending"
        # An attempt that never wrote how it ended was killed: its checkpoint, if any, is where to go on.
        return "failed" if last["outcome"] == "failed" else "preempted"

    def record_digest(self) -> str | None:
        """sha256 of the record's file, None where there is none."""
        try:
            return hashlib.sha256(read_regular(self.record_path)).hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self.record_path}: cannot be read: {error.strerror or error}") from None

    def holder(self) -> Lease | None:
        """The living owner of the run, if there is one. Raises StoreError for a lease that is garbage."""
        try:
            lease = Lease.read(self._lease_path)
            beat = self._lease_path.stat().st_mtime
            locked = lease is not None and lease.is_on_this_machine and is_locked(self._lease_path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if lease is None:
            return None
        age = time.time() - beat
        if age > LEASE_LIFETIME_S:
            # This machine's clock may be ahead: both times by the clock of the file system, before anybody is robbed.
            age = self._clock() - beat
        return None if lease.is_dead(age, locked) else lease

    def _clock(self) -> float:
        """Now, as the file system tells the time; as this machine does where the folder cannot be written."""
        try:
            with tempfile.TemporaryFile(dir=self.path) as probe:
                probe.write(b"\n")
                probe.flush()
                return os.fstat(probe.fileno()).st_mtime
        except OSError:
            return time.time()

    def last_attempt(self) -> dict[str, Any] | None:
        """What the last attempt without a record left: outcome, cause, message, traceback."""
        for path in reversed(self._attempt_files()):
            # One that is withdrawn meanwhile is none.
            with contextlib.suppress(FileNotFoundError):
                return _read_attempt(path)
        return None

    def next_attempt(self) -> int:
        """The number of the attempt that begins next, from 1."""
        files = self._attempt_files()
        return 1 + int(files[-1].stem) if files else 1

    def settle(self, cause: Cause, message: str) -> None:
        """Note why the last attempt ended, where it could not say so itself or knew only that it was asked to stop."""
        attempt = self.last_attempt()
        if attempt is None or self.holder() is not None:
            return
        # Who was asked to stop does not know of the walltime.
        if attempt["outcome"] == "running" or (cause == "timeout" and attempt.get("cause") == "interrupted"):
            saved = attempt.get("saved", self.checkpoint_time() != attempt.get("checkpoint"))
            facts = {"outcome": "preempted", "cause": cause, "message": message, "saved": saved}
            write_atomically(self._attempt_files()[-1], json.dumps(attempt | facts, indent=1).encode())

    def attempts(self, since: int) -> list[dict[str, Any]]:
        """What the attempts from number `since` left, in order."""
        return [_read_attempt(path) for path in self._attempt_files() if int(path.stem) >= since]

    def idle_attempts(self, since: int) -> list[dict[str, Any]]:
        """The last attempts in a row, of those from number `since`, that were cut off before they saved anything."""
        idle = itertools.takewhile(
            lambda attempt: attempt["outcome"] == "preempted" and not attempt.get("saved", True),
            reversed(self.attempts(since)),
        )
        return list(idle)

    def cut_off(self, message: str) -> None:
        """Note an attempt that was cut off before it could begin."""
        with contextlib.suppress(RunInterrupted, RunHeld), self.claim():
            raise RunInterrupted(message)

    def give_up(self, cause: Cause, message: str) -> None:
        """Note that the run failed, as an attempt that could not begin or is not worth another.

        Raises RunHeld when a process is at work on the run.
        """
        with contextlib.suppress(RunFailed), self.claim():
            raise RunFailed(message, cause)

    def checkpoint_time(self) -> int | None:
        """When the checkpoint was written, in nanoseconds of the file system's clock; None where there is none."""
        try:
            return self.checkpoint_path.stat().st_mtime_ns
        except OSError:
            return None

    def check_writable(self) -> None:
        """Raise StoreError when the folder cannot be made or written: better now than after an hour's work."""
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise StoreError(f"{existing}: the results folder cannot be written; choose another with --results")

    def _attempt_files(self) -> list[Path]:
        names = [name for name in listed(self._attempts) if re.fullmatch(r"\d+\.json", name, re.ASCII)]
        return [self._attempts / name for name in sorted(names, key=lambda name: int(name.partition(".")[0]))]

    @contextlib.contextmanager
    def claim(self) -> Iterator[Claim]:
        """Own the run for the duration of the block.

        The claim is one atomic create, under a lock that lets nobody judge or remove a lease meanwhile; that of a
        dead owner is removed first. How the block ends is written down: an exception as a failed or preempted
        attempt, InputError as none: nothing was started. Raises RunHeld when another process holds the run, StoreError
        when the folder cannot be written.
        """
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._attempts.mkdir(exist_ok=True)
            if self._attempts.is_symlink():  # what it leads to is somebody else's, and would be cleared up
                raise StoreError(f"{self._attempts}: is a link; remove it, or choose another folder with --results")
            lease = Lease.mine()
            with self._locked():
                if self.holder() is None:
                    self._clear_up()
                lock = self._create_lease(lease)
        except OSError as error:
            raise StoreError(
                f"{error.filename or self.path}: the results folder cannot be written: {error.strerror or error}; "
                "choose another with --results"
            ) from None
        claim = Claim(self, lease, lock, self.next_attempt())
        try:
            claim.begin()
            yield claim
        except InputError:
            claim.withdraw()
            if new:
                self._remove(lease)
            raise
        except BaseException as error:
            claim.end(error)
            raise
        finally:
            claim.release()

    def _remove(self, lease: Lease) -> None:
        """Leave no trace of a run that was never started, as long as it is this process's."""
        aside = self.path.with_name(f".{self.path.name}.{lease.token}")
        with contextlib.suppress(OSError, StoreError), self._locked():
            if self._holds(lease):
                self.path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):  # what holds something else stays
            self.path.parent.rmdir()
            self.path.parent.parent.rmdir()

    def _locked(self) -> BinaryIO:
        """Until this is closed nobody else judges, makes or removes a lease of the run."""
        return lock(self.path / "lock")

    def _clear_up(self) -> None:
        """Note that the last owner died, and remove what it left half-written; the lease last, as whoever is killed in
        here leaves the rest to the next."""
        dead = Lease.read(self._lease_path)
        attempt = self.last_attempt()
        if dead and attempt and attempt["outcome"] == "running":
            self.settle("killed", f"process {dead.pid} on {dead.host} ended without a word")
        for path in (*drafts(self.path), *drafts(self._attempts), *self.path.glob(".lease.*")):
            path.unlink(missing_ok=True)
        self._lease_path.unlink(missing_ok=True)

    def tidy(self, record: Record) -> None:
        """Remove what a process left that was killed after it had written this record and before it gave the run back.

        A lease that is still there tells of it. An attempt after the record's is one to replace it, and may go on.
        """
        if not self._lease_path.exists() or self.next_attempt() > record.attempts + 1:
            return
        with contextlib.suppress(OSError, StoreError), self._locked():
            if self.holder() is None:
                self._drop_unneeded(record)
                self._clear_up()

    def _drop_unneeded(self, record: Record) -> None:
        """What only an unfinished run needs, or an older record."""
        self.checkpoint_path.unlink(missing_ok=True)
        self._attempt_path(record.attempts).unlink(missing_ok=True)
        kept = {record.logits.file, *(epoch.file for epoch in record.oracle)}
        for pattern in ("logits-*.safetensors", "epoch-*.safetensors"):
            for stale in self.path.glob(pattern):
                if stale.name not in kept:
                    stale.unlink()

    def _attempt_path(self, number: int) -> Path:
        return self._attempts / f"{number:03d}.json"

    def _create_lease(self, lease: Lease) -> BinaryIO:
        """Returns the lease's file, which is locked as long as it is open: so who holds a run is known on this machine,
        whatever any clock says."""
        # Not `replacing`, which would take the name from another lease: a link is made where there is none, and of a
        # complete file, whose lock is held before anybody sees it; also on NFS.
        draft = self.path / f".lease.{lease.token}"
        file = draft.open("wb")
        try:
            lock_open(file)
            file.write(json.dumps(asdict(lease)).encode())
            file.flush()
            os.link(draft, self._lease_path)
        except BaseException as error:
            with contextlib.suppress(OSError):  # what it could not write, it tries again
                file.close()
            if not isinstance(error, FileExistsError):
                raise
            holder = Lease.read(self._lease_path)
            who = f" by process {holder.pid} on {holder.host}" if holder else ""
            raise RunHeld(f"{self.path}: the run is being worked on{who}; wait for it or stop it") from None
        finally:
            draft.unlink(missing_ok=True)
        return file

    def _holds(self, lease: Lease) -> bool:
        return Lease.read(self._lease_path) == lease


def _read_attempt(path: Path) -> dict[str, Any]:
    try:
        attempt = json.loads(read_regular(path, MOST_TEXT))
        for key, kind in (("cause", str), ("message", str), ("saved", bool)):
            if not isinstance(attempt.get(key, kind()), kind):
                raise TypeError(f"{key} is {attempt[key]!r}")
        # An attempt that never wrote how it ended was killed: its checkpoint, if any, is where to go on.
        return attempt if attempt["outcome"] in ("running", "failed", "preempted") else {"outcome": "preempted"}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(f"{path}: not an attempt's file; remove it and run again") from None


class Claim:
    """A run that this process owns: where its results go."""

    def __init__(self, folder: RunFolder, lease: Lease, lock: BinaryIO, number: int):
        self.folder = folder
        self.number = number
        self._lease = lease
        self._lock = lock
        self._attempt_path = folder._attempt_path(number)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._checkpoint = folder.checkpoint_time()
        self._stop = threading.Event()
        self._lost = False
        self._heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def begin(self) -> None:
        """Note that an attempt has begun, and start the heartbeat."""
        self._note(outcome="running")
        self._heart.start()

    def check(self) -> None:
        """Raise StoreError when the last heartbeat found that the run is no longer this process's."""
        if self._lost:
            self._refuse("it stops here")

    def _refuse(self, what: str) -> NoReturn:
        if not self.folder.path.is_dir():
            raise StoreError(f"{self.folder.path}: the run's folder was removed while it ran; {what}")
        raise StoreError(f"{self.folder.path}: another process took this run over; {what}")

    def _note(self, **facts: Any) -> None:
        who = {"attempt": self.number, "started": self._started, "host": self._lease.host, "pid": self._lease.pid}
        who |= {"job": self._lease.job, "checkpoint": self._checkpoint}
        write_atomically(self._attempt_path, json.dumps(who | facts, indent=1).encode())

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            # Not the lease of whoever took over: it would outlive its owner.
            with contextlib.suppress(OSError, StoreError):
                self._lost = not self.folder._holds(self._lease)
                if not self._lost:
                    os.utime(self.folder._lease_path)

    def end(self, error: BaseException) -> None:
        """Write down how the attempt ended: preempted where it can go on, failed with its cause otherwise."""
        # A broken pipe: whoever read the output has gone, and the run is sound. So it is when the disk is full.
        asked = isinstance(error, RunInterrupted | KeyboardInterrupt | SystemExit | BrokenPipeError)
        stopped = asked or isinstance(error, StoreError)
        cause: Cause = "interrupted" if asked else "disk" if stopped else "code"
        if isinstance(error, RunFailed):
            cause = error.cause
        # The trace of an error that explains itself would only hide the explanation.
        trace = "" if stopped or isinstance(error, LtbenchError) else "".join(traceback.format_exception(error))
        # On a full disk the attempt stays "running" with a dead lease, which reads as preempted: nothing is lost.
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
                return log.read().decode(errors="replace").splitlines()[-20:]
        except OSError:
            return []

    def store_logits(
        self,
        logits: dict[str, np.ndarray],
        targets: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> LogitsFile:
        """Store test logits (float32 [N, C] a weight set) and targets (uint8 [N, C]); returns the reference.

        validation: logits of the declared weight set and targets on the validation list, where there is one. The file
        is named by its content, so an older record keeps its own logits until it is replaced.
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
        """Write the record: from here on the run is done. Removes what only an unfinished run needs."""
        if not self.folder._holds(self._lease):
            self._refuse("its result is not written")
        write_atomically(self.folder.record_path, record.to_json().encode())
        self.folder._drop_unneeded(record)

    def withdraw(self) -> None:
        """Take the attempt back: there was nothing left to do."""
        self._attempt_path.unlink(missing_ok=True)

    def release(self) -> None:
        """Stop the heartbeat and give the run back."""
        self._stop.set()
        if self._heart.is_alive():
            self._heart.join()
        with contextlib.suppress(StoreError, OSError):
            if self.folder._holds(self._lease):
                self.folder._lease_path.unlink()
        self._lock.close()


class RunNotFound(StoreError):
    """A results folder holds no run, or several, of the name that was asked for."""


class NoSuchRun(RunNotFound):
    """It holds none."""

    def __init__(self, run: str, where: Path, what: str = "run"):
        super().__init__(f"{where}: no {what} matches {run!r}; {_HOW_TO_NAME}")


class Store:
    """A results folder."""

    def __init__(self, root: Path | str):
        self.root = Path(root)

    def folder(self, spec: RunSpec) -> RunFolder:
        """The folder of a run, whether it exists or not."""
        return RunFolder(self.root / "runs" / spec.folder_name)

    def find(self, run: str) -> RunFolder:
        """The folder of a finished run by its folder name, its id, or the beginning of either. Raises RunNotFound,
        or StoreError where the record that would tell is not whole."""
        runs, what = self.root / "runs", "finished run"
        folder = RunFolder(runs / matching(run, [path.parent.name for path in record_paths(self.root)], runs, what))
        if not folder.path.name.startswith(run) and len(run) > _ID_DIGITS:
            # The folder's name has no more digits than that.
            record = folder.record()
            if record is None or not record.run_id.startswith(run.lower()):
                raise NoSuchRun(run, runs, what)
        return folder


def matching(run: str, names: Iterable[str], where: Path, what: str = "run") -> str:
    """The one of `names` that is a run's folder name, begins so, or has an id that begins so as far as the name holds
    it. Raises RunNotFound."""
    names = sorted(names)
    hits = [name for name in names if name == run]
    if not hits and run:
        digits = run[:_ID_DIGITS].lower() if re.fullmatch("[0-9a-f]{1,64}", run.lower()) else " "
        hits = [name for name in names if name.startswith(run) or name.rpartition("-")[2].startswith(digits)]
    if not hits:
        raise NoSuchRun(run, where, what)
    if len(hits) > 1:
        raise RunNotFound(f"{where}: {len(hits)} runs match {run!r} ({', '.join(hits[:5])}); {_HOW_TO_NAME}")
    return hits[0]


def record_paths(root: Path | str) -> list[Path]:
    """Where the records of a results folder are, sorted; links without content (git-annex, DVC) are among them, for
    their reader to name. Raises StoreError when the folder of the runs cannot be read."""
    runs = Path(root) / "runs"
    return [path for path in (runs / name / "record.json" for name in listed(runs)) if _is_there(path)]


def run_names(root: Path | str) -> list[str]:
    """The names of the folders of a results folder's runs, sorted. Raises StoreError when they cannot be read."""
    runs = Path(root) / "runs"
    return [name for name in listed(runs) if (runs / name).is_dir()]


def listed(folder: Path) -> list[str]:
    """The names in a folder, sorted, without hidden ones, which are on their way in or out; none where there is no such
    folder. Raises StoreError when it cannot be read, or is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(folder) or folder.is_dir():  # not there, or only now
            return []
        problem = "no folder, and results have one there; move it away"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}; ask its owner for access"
    raise StoreError(f"{folder}: {problem}")


def _is_there(path: Path) -> bool:
    """Whether a name is taken, if only by a link that leads nowhere or by a file that may not be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def load_records(
    root: Path | str, problems: list[StoreError] | None = None, leave_out: Container[str] = ()
) -> Iterator[Record]:
    """Every validated record of a results folder, sorted by folder name.

    problems: where given, a record that is not whole is appended to it as a StoreError and left out; otherwise
    the first one is raised. leave_out: names of folders that are not read. Raises StoreError as well when there is no
    such folder.
    """
    if not Path(root).is_dir():
        raise StoreError(f"{root}: no such results folder; give another with --results")
    for path in record_paths(root):
        if path.parent.name in leave_out:
            continue
        try:
            record = RunFolder(path.parent).record()
        except StoreError as error:
            if problems is None:
                raise
            problems.append(error)
        else:
            if record is not None:
                yield record
