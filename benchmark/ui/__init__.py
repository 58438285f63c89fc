"""What people see on a terminal: text, tables, progress."""
