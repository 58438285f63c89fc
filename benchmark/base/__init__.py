"""What knows nothing of learning.

files, atomic, lock    opening files that somebody else may have made, replacing them whole, one lock
cache       where the cache is
scheduler   SLURM: its commands, and what it says to a job
yamlio      YAML, safe and with errors that name file and line
processes, memory, signals    worker processes, two switches that save time, Ctrl-C and SIGTERM
method_files    finding the files of `methods/`
"""
