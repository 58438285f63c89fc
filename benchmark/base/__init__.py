"""What knows nothing of learning: files, YAML, processes, signals."""
