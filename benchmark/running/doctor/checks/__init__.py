"""The checks of the doctor, one module each; see `benchmark.running.doctor`."""
