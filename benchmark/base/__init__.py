"""Helpers that know nothing of learning.

files, atomic, lock    opening files of unknown origin, replacing them whole, one lock
cache       the cache folder
scheduler   SLURM: its commands and its variables
yamlio      safe YAML, with errors that name file and line
processes, memory, signals    worker processes, two switches that save time, Ctrl-C and SIGTERM
modules, method_files    importing every module of a folder, and the files of `methods/`
"""
