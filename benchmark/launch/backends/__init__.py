"""Where runs are launched: one file a backend."""
