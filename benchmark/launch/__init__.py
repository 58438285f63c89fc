"""Launching runs, here or on a cluster, and following those that were launched.

product     the axes of a sweep -> plans
jobs        plans -> jobs, each with the decision of the re-run rule
forecast    number and duration of the runs to launch, and what they lack
launch      carries out the runs that are left to do; returns a report
report      how each run ended
backend     the contract of a backend, and the registry; backends: one file each
worker      the process that carries out runs; crew: the worker processes as their launcher sees them
sweeps      the launched sweeps on disk; queues: their jobs in the schedulers' queues
status      the state of all runs; logs: the log of one
"""
