"""Datasets: list and describe them, fetch and check their images, make one of your own labels."""

from __future__ import annotations

# In the order of the help.
COMMANDS = ("list", "prepare", "verify")
