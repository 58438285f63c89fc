"""The backends that carry out runs, one file each."""
