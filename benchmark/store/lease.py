"""Leases of runs, and whether their owners are alive."""

from __future__ import annotations

import functools
import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.base import scheduler
from benchmark.base.files import MOST_TEXT, read_regular
from benchmark.errors import StoreError

HEARTBEAT_S = 15.0
# Another host's lease is dead when its heartbeat is this old: the machine is gone, or missed many beats.
LEASE_LIFETIME_S = 600.0


@dataclass(frozen=True)
class Lease:
    """The process that holds a run.

    started: distinguishes a process from a later one with the same pid. machine: distinguishes hosts and containers of
    one name. job, restarts: id of the SLURM job, and how often it was requeued.
    """

    token: str
    host: str
    pid: int
    started: str
    job: str
    restarts: str = ""
    machine: str = ""

    @classmethod
    def mine(cls) -> Lease:
        """A lease for this process."""
        return cls(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=process_start(os.getpid()),
            job=scheduler.job_id(),
            restarts=scheduler.job_restarts(),
            machine=machine(),
        )

    @classmethod
    def checked(cls, facts: Any) -> Lease:
        """A lease made from the content of a file. Raises TypeError or ValueError for anything but a lease."""
        lease = cls(**facts)
        for name, value in asdict(lease).items():
            if type(value) is not (int if name == "pid" else str):
                raise TypeError(f"{name} is {value!r}")
        if not 0 < lease.pid < 2**31:
            raise ValueError(f"pid is {lease.pid}")
        return lease

    @classmethod
    def read(cls, path: Path) -> Lease | None:
        """The lease in a file; None where there is no file. Raises StoreError for anything but a lease."""
        try:
            return cls.checked(json.loads(read_regular(path, MOST_TEXT)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"{path}: not a lease ({error}); remove the file if no run is using the folder") from None

    def is_dead(self, heartbeat_age_s: float, locked: bool = False) -> bool:
        """Whether its owner has ended.

        On this host the process is looked up. In this job of the cluster, an earlier start of the job has ended. On
        another host the owner has ended when its heartbeat is old and its job is gone.

        locked: whether a process of this machine, in any container, holds the lock of the lease's file.
        """
        if self.is_here and "unknown" not in (self.started, now := process_start(self.pid)):
            return now != self.started
        if locked:
            return False
        if self.job and self.job == scheduler.job_id():
            # An earlier start of this job has ended; other nodes of the present start may be running.
            return self.restarts != scheduler.job_restarts()
        return heartbeat_age_s > LEASE_LIFETIME_S and not (self.job and scheduler.may_go_on(self.job))

    @property
    def is_here(self) -> bool:
        """Whether its owner is, or was, a process that this one can look up."""
        return self.host == socket.gethostname() and self.machine in ("", machine())

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its owner is, or was, a process of this machine, perhaps in another container."""
        boot = self.machine.partition(" ")[0]
        return boot == machine().partition(" ")[0] if boot else self.host == socket.gethostname()


@functools.cache
def machine() -> str:
    """Id of this machine's boot and of its name space of processes; empty without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot.

    Empty when there is no such process, "unknown" when there is one but no /proc.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return "" if not _process_exists(pid) else "unknown"
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended: only its parent has not read its exit status yet.
    return "" if fields[0] in "ZX" else fields[19]


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
