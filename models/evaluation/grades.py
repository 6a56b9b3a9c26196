"""How far a judge stands from the reward model that training maximised, and so what it can see.

What is maximised looks better to itself whatever happens. A relative, trained from the same base on
the same kind of pairs, shares its likings: it finds what was over-optimised by chance, not what
both get wrong. Only somebody who learned from neither is independent.

Source: Eisenstein et al., Helping or Herding? Reward Model Ensembles Mitigate but do not Eliminate
Reward Hacking (2023): reward models of one base share errors.
"""

from typing import Literal, TypeAlias

Grade: TypeAlias = Literal["gold", "people", "another model", "rule", "other", "relative", "own"]
"""The most trusted first; other: a judge that nothing is known of."""

GRADES: dict[str, Grade] = {
    "gold": "gold",
    "people": "people",
    "endpoint": "another model",
    "vader": "rule",
    "judge": "relative",
    "reward": "own",
}
"""By judge."""


def grade_of(judge: str) -> Grade:
    """The grade of a judge, by its name."""
    return GRADES.get(judge, "other")


def is_independent(judge: str) -> bool:
    """Whether a judge has nothing in common with the reward model."""
    return grade_of(judge) not in ("relative", "own")
