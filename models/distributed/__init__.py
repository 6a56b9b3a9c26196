"""Several processes that train one model together.

team: who takes part, and what they tell each other; one process alone is a team too. `worker` is
what each of them runs, `records` says in JSON what it is given and gives back.
"""
