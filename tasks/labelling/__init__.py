"""People compare completions in MLflow's review queues.

`items`: what is asked, a prompt and several completions; `queue` puts them before people; `answers`
reads what they said as labels; `pairs` makes preferences of labels; `waiting` is for answers that
are missing.
"""
