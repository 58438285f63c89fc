"""Two switches that save time: one against a default of Python, one against a default of the C library.

`python -m benchmark.tools.scale` builds the stores on which they were measured. Processor time without a switch:
    paused_collections    reading 2,000 records and building the tables: 23 % more; `leaderboard --check`: 10 % more
    KEEP_MEMORY           scoring 20 runs with 50,000 test images and 81 classes: 6 % more
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# Environment of a new process. By default glibc returns the memory of a large array to the system at once, and must map
# and clear new memory for the next array. glibc reads it when a process starts; other C libraries ignore it.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


@contextlib.contextmanager
def paused_collections() -> Iterator[None]:
    """Pause Python's garbage collection of cycles. Records hold no cycles, but while thousands are read the collector
    would search all of them repeatedly."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
