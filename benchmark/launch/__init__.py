"""Launching runs, here or on a cluster, and following those that were launched.

product     the axes of a sweep -> plans
jobs        plans -> what the re-run rule says of each
forecast    what is known before: how many, how long, what is missing
launch      carries out what is left to do; returns a report
report      how each run ended
backend     what a backend is, and the registry; backends: one file each
worker      the process that carries out runs; crew: its launcher's side
sweeps      what was launched, on disk; queues: what schedulers say of it
status      the state of all runs; logs: what one has printed
"""
