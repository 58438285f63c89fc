"""Output on a terminal: text, tables, progress."""
