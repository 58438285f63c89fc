"""The run store: one folder a run, with its record, logits, attempts and the lease of who is working on it.

records     the record, one validated JSON file: the only proof that a run is done
logits      the stored logits and labels of a run
lease       who holds a run, and whether that process is alive; lease_file: the file that says so
attempts    how the attempts ended that left no record
folder      a run's folder, and the state that follows from it
claim       owning a run: heartbeat, results, how it ends
runs        a results folder: finding runs, reading records
"""

from pathlib import Path

# Results folders below the working directory: what everybody sees, and one's own runs.
PUBLISHED = Path("results")
LOCAL = PUBLISHED / "local"
