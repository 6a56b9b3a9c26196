"""Prefect flows: what a person starts, in which order.

`pipeline` is the whole story; `preferences` is its part from feedback to a measured reward model,
and `feedback` that by people; `waiting` suspends a run until they have answered. `improve` is the
loop over rounds of all this.
`stages` runs one stage alone; `evaluation`, `benchmarks`, `compare` and `promotion` work on what
exists; `tidying` removes what nobody needs; `foundations` compares `families` of models.
`parameters` composes the stages' configs and reads presets; `fields` are set by name; `forms` shows
them; `names` names runs; `lifecycle` opens, cancels and suspends them. What a run will do and take
is foretold in `planning`; the command is in `cli`, servers and deployments in `operation`.
"""
