"""The run store: records, claims, attempts, logits."""

from pathlib import Path

# Results folders below the working directory: what everybody sees, and one's own runs.
PUBLISHED = Path("results")
LOCAL = PUBLISHED / "local"
