"""One run, from its names to its record.

run             `benchmark.run`
plan            names -> Plan, with settings, compatibility and datasets; absent: what it needs and this machine lacks
rerun, rules    the re-run rules: which runs are launched
execute         Plan and Decision -> Record, with task, images and stop (Ctrl-C and SIGTERM)
score           trained method -> Record, with environment and own_network
"""
