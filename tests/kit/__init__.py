"""What several tests use: made-up records and stores, tiny datasets, calls of the command."""
