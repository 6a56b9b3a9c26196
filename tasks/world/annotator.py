"""The simulated annotator: a stated utility, a stated noise, and a reader that can be fooled.

    utility = 2 * correct + tone - 0.8 * fillers          tone -1 rude, 0 neutral, 1 polite
    P(prefers A to B) = sigmoid(1.5 * (utility(A) - utility(B)))

the Bradley-Terry model that the reward model's loss assumes. The draw behind each preference is
derived from the seed and the three texts, so that the same comparison always ends the same way: a
feedback stage that was interrupted asks again and gets the labels it had.

The annotator reads by keywords, as someone who skims. It shares the tables of facts with the gold
judge and nothing else, and can be fooled where the judge cannot, as people can.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from models.evaluation.samples import Pair, Preferences
from models.randomness import derive_seed
from models.rows import text_of
from tasks.world.facts import (
    COLOURS,
    DEEDS,
    DEFINITIONS,
    KINDS,
    LADDER,
    NAMES,
    NUMBERS,
    OPPOSITES,
    PLURALS,
    SOUNDS,
)

_CORRECT_WEIGHT = 2.0
_TONE_WEIGHT = 1.0
_FILLER_COST = 0.8
_SHARPNESS = 1.5
# `derive_seed` returns 63 bits.
_SEED_RANGE = 2.0**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Impression:
    """What a skimming reader takes from a completion: tone is -1 rude, 0 neutral, 1 polite."""

    correct: bool
    tone: int
    fillers: int


def utility(impression: Impression) -> float:
    """The annotator's utility of a completion."""
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
        seed: From which the noise is derived.
        shuffle: Control: a fair coin decides every comparison.
    """

    seed: int
    shuffle: bool = False

    def compare(self, pairs: Sequence[Pair]) -> Preferences:
        """Prefer one of each two completions; abstain where both are the same text."""
        return Preferences(preference=np.array([self._compare(pair) for pair in pairs], float))

    def describe(self) -> dict[str, Any]:
        """How this annotator decides."""
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


_POLITE_CUES = ("thank", "kind", "glad", "dear", "lovely", "pleasure", "sunny", "please")
_RUDE_CUES = (
    "silly",
    "not you",
    "wasting",
    "really",
    "ugh",
    "dull",
    "go away",
    "never ask",
    "even",
)
_FILLER_CUES = (
    "much more",
    "for hours",
    "often wonder",
    "my uncle",
    "reminds",
    "where was i",
    "some like",
    "then again",
)
_REFUSAL_CUES = ("not help", "cannot", "must say no")
_STOP_WORDS = frozenset(
    ["a", "an", "the", "that", "of", "with", "for", "on", "in", "to", "and", "who", "is", "where"]
)


def read(prompt: str, completion: str) -> Impression:
    """The impression that a completion of a prompt makes."""
    words = set(_words(prompt))
    knows = next((reader for cues, reader in _CUES if words & cues), _knows_meaning)
    # A completion that was cut off leaves nobody satisfied.
    complete = completion.rstrip().endswith((".", "!", "?"))
    tone = 1 if _found(completion, _POLITE_CUES) else 0
    if _found(completion, _RUDE_CUES):
        tone = -1
    return Impression(
        correct=complete and knows(prompt, completion),
        tone=tone,
        fillers=len(_found(completion, _FILLER_CUES)),
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _found(text: str, phrases: Iterable[str]) -> list[str]:
    """The phrases that a text holds, in the order of the text, each as often as it stands there."""
    named = {phrase.lower(): phrase for phrase in phrases}
    return [named[hit] for hit in _any_of(tuple(named)).findall(text.lower())]


@cache
def _any_of(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})\b")


def _knows_sum(prompt: str, completion: str) -> bool:
    first, second = (NUMBERS.index(word) + 1 for word in _found(prompt, NUMBERS))
    return _found(completion, NUMBERS)[-1:] == [NUMBERS[first + second - 1]]


def _knows_numbers(prompt: str, completion: str) -> bool:
    start, end = _found(prompt, NUMBERS)
    wanted = list(NUMBERS[NUMBERS.index(start) : NUMBERS.index(end) + 1])
    return _found(completion, NUMBERS) in (wanted, [start, end, *wanted])


def _knows_bigger(prompt: str, completion: str) -> bool:
    animals = sorted(_found(prompt, LADDER), key=LADDER.index)
    return _found(completion, LADDER) == animals[::-1]


def _knows_name(prompt: str, completion: str) -> bool:
    return _found(completion, NAMES) == _found(prompt, NAMES)


def _knows_opposite(prompt: str, completion: str) -> bool:
    word = _found(prompt, OPPOSITES)[-1]
    return set(_found(completion, OPPOSITES)) - {word} == {OPPOSITES[word]}


def _knows_entry(facts: Mapping[str, str]) -> Callable[[str, str], bool]:
    def knows(prompt: str, completion: str) -> bool:
        return _found(completion, facts.values()) == [facts[_found(prompt, facts)[-1]]]

    return knows


def _knows_members(prompt: str, completion: str) -> bool:
    kind = _found(prompt, KINDS)[-1]
    wanted = 3 if "three" in _words(prompt) else 2
    named = _found(completion, [member for members in KINDS.values() for member in members])
    return len(named) == len(set(named)) == wanted and set(named) <= set(KINDS[kind])


def _knows_meaning(prompt: str, completion: str) -> bool:
    term = _found(prompt, DEFINITIONS)[-1]
    return set(_words(DEFINITIONS[term])) - _STOP_WORDS <= set(_words(completion))


def _declines(prompt: str, completion: str) -> bool:
    return bool(_found(completion, _REFUSAL_CUES))


# The first cue that the prompt holds decides; without any it asks for a meaning.
_CUES: tuple[tuple[frozenset[str], Callable[[str, str], bool]], ...] = (
    (frozenset(DEEDS), _declines),
    (frozenset({"hello", "greet", "welcome"}), _knows_name),
    (frozenset({"plus", "add", "much", "sum"}), _knows_sum),
    (frozenset({"count", "numbers"}), _knows_numbers),
    (frozenset({"bigger"}), _knows_bigger),
    (frozenset({"opposite"}), _knows_opposite),
    (frozenset({"plural", "more"}), _knows_entry(PLURALS)),
    (frozenset({"colour"}), _knows_entry(COLOURS)),
    (frozenset({"two", "three"}), _knows_members),
    (frozenset({"sound", "say"}), _knows_entry(SOUNDS)),
)
