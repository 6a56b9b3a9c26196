"""This machine.

`servers` starts and finds them, `temporary` has one for a command, `logs` explains why one did not
start, `password` closes them, `guardian` ends what a dead parent left,
`liveness` tells living runs from dead ones, `time_limit` stops a run in time.
"""
