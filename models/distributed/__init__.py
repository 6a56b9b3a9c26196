"""Several processes that train one model together.

team: who takes part, and what they tell each other; one process alone is a team too.
gradients: summed over the team.
sharding: models that are spread over the team. parts: their weights made whole and cut again.
interruption: signals that wait until weights are at rest, in a team until all can leave together.
worker: what each process of a team runs. records: what it is given and gives back, in JSON.
"""
