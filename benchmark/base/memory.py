"""Two defaults of Python and of the C library that cost time here; each switch is kept as long as it pays.

`python -m benchmark.tools.scale` builds the stores on which they were measured. Processor time without the switch:
    paused_collections    2,000 records read and made into tables: 23 % more; the whole `leaderboard --check`: 10 % more
    KEEP_MEMORY           scores of 20 runs with 50,000 test images and 81 classes: 6 % more
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# Environment of a new process. glibc gives the memory of a large array back at once, and has it cleared and mapped anew
# for the next array. Read when a process starts; elsewhere nobody reads it.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


@contextlib.contextmanager
def paused_collections() -> Iterator[None]:
    """Pause Python's search for cycles: records hold none, and it goes through all of them again and again while
    thousands are read."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
