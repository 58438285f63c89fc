"""Pretrained weights: what protocols need, where it lies, fetching and checking it."""

from __future__ import annotations

# In the order of the help.
COMMANDS = ("list", "fetch", "check")
