"""This machine.

`servers` starts and finds them, `password` closes them, `guardian` ends what a dead parent left,
`liveness` tells living runs from dead ones, `time_limit` stops a run in time, `memory`
says how much there is.
"""
