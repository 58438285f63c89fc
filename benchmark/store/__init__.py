"""The run store: one folder a run, with its record, logits, attempts and the lease of the process that runs it.

records     the record, one validated JSON file: the only proof that a run is done
logits      the stored logits and labels of a run
lease       the process that holds a run, and whether it is alive; lease_file: the lease as a file
attempts    the attempts that ended without a record
folder      a run's folder, and the state of the run
claim       owning a run: heartbeat, results, end of the attempt
runs        a results folder: finding runs, reading records
"""

from pathlib import Path

# Results folders below the working directory: the published runs, and the user's own.
PUBLISHED = Path("results")
LOCAL = PUBLISHED / "local"
