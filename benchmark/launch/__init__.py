"""How a sweep's runs are carried out: on this machine's devices, or on a SLURM cluster."""
