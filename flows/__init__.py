"""Prefect flows: what a person starts, in which order.

`pipeline` is the whole story; `preferences` is its part from feedback to a measured reward model.
`stages` runs one stage alone; `evaluation`, `benchmarks`, `compare` and `promotion` work on what
exists. `parameters` composes the stages' configs and reads presets; `forms` shows their fields;
`checks` and `memory` refuse what cannot succeed here; `plan` foretells a run, and its cost by
`costs` and `rates`; `names` names runs; `lifecycle` opens, cancels and suspends
them. The command is in `cli`, servers and deployments in `operation`.
"""
