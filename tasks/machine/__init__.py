"""This machine.

`launch` says with what the servers are started, `servers` does it, `temporary` has one for a
command, `logs` explains why one did not start, `lookup` finds them, `addresses` knows where they
are, `password` closes them, `postgres` tries their databases. `guardian` ends what a dead parent
left, `teams` are processes that learn together, `hosts` those of several hosts, which meet at a
`rendezvous` (`network` knows addresses), `liveness` tells living runs from dead ones, `time_limit`
stops a run in time, `signals` loses none, `memory` says how much there is, `speed` how fast it
trains.
"""
