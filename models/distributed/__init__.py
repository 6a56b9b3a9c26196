"""Several processes that train one model together.

team: who takes part, and what they tell each other; one process alone is a team too.
gradients: summed over the team.
"""
