"""The simulated annotator: a stated utility, a stated noise, and a reader that can be fooled.

    utility = 2 * correct + tone - 0.8 * fillers          tone -1 rude, 0 neutral, 1 polite
    P(prefers A to B) = sigmoid(1.5 * (utility(A) - utility(B)))

the Bradley-Terry model that the reward model's loss assumes. The draw behind each preference is
derived from the seed and the three texts, so that the same comparison always ends the same way: a
feedback stage that was interrupted asks again and gets the labels it had.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.evaluation.samples import Pair, Preferences
from models.randomness import derive_seed
from models.rows import text_of
from tasks.world.reader import Impression, read

_CORRECT_WEIGHT = 2.0
_TONE_WEIGHT = 1.0
_FILLER_COST = 0.8
_SHARPNESS = 1.5
# `derive_seed` returns 63 bits.
_SEED_RANGE = 2.0**63


def utility(impression: Impression) -> float:
    """How much the annotator likes what was read."""
    return (
        _CORRECT_WEIGHT * impression.correct
        + _TONE_WEIGHT * impression.tone
        - _FILLER_COST * impression.fillers
    )


def preference_probability(first: Impression, second: Impression) -> float:
    """Probability that the first of two completions is preferred."""
    return 1.0 / (1.0 + math.exp(-_SHARPNESS * (utility(first) - utility(second))))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAnnotator:
    """Compares completions to prompts of the embedded world, with noise.

    Attributes:
        seed: from which the noise is derived.
        shuffle: a control for tests: a fair coin decides every comparison.
    """

    seed: int
    shuffle: bool = False

    def compare(self, pairs: Sequence[Pair]) -> Preferences:
        """Prefer one of each two completions; abstain where both read the same."""
        return Preferences(preference=np.array([self._compare(pair) for pair in pairs], float))

    def describe(self) -> dict[str, Any]:
        """Say how this annotator decides."""
        return {
            "annotator": "simulated",
            "utility": f"{_CORRECT_WEIGHT:g} * correct + {_TONE_WEIGHT:g} * tone "
            f"- {_FILLER_COST:g} * fillers",
            "noise": f"P(prefers A) = sigmoid({_SHARPNESS:g} * (utility(A) - utility(B)))",
            "shuffle": self.shuffle,
            "seed": self.seed,
        }

    def _compare(self, pair: Pair) -> float:
        prompt = text_of(pair.prompt, "user")
        first = text_of(pair.first, "assistant")
        second = text_of(pair.second, "assistant")
        if first == second:
            return math.nan
        probability = 0.5
        if not self.shuffle:
            probability = preference_probability(read(prompt, first), read(prompt, second))
        draw = derive_seed(self.seed, "\n".join((prompt, first, second))) / _SEED_RANGE
        return float(draw < probability)
