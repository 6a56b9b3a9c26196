"""Simulated evaluations whose true gain at equal length and ending is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.statistics.controlled import Extent
from models.statistics.intervals import Floats

LIMIT = 40
"""Tokens at which a completion is cut."""
CUT_COSTS = 1.8
"""By which a judge's score of a cut completion is lower."""
SPREAD = 0.6
"""Standard deviation of log-lengths within a prompt."""

LIKINGS: dict[str, Callable[[Floats], Floats]] = {
    "none": lambda lengths: 0 * lengths,
    "straight": lambda lengths: -0.05 * lengths,
    "logarithm": lambda lengths: -np.log1p(lengths),
    "saturating": lambda lengths: -2 * np.exp(-lengths / 8),
    "a length of 20": lambda lengths: -(((lengths - 20) / 12) ** 2),
    "a step at 15": lambda lengths: 1.5 * (lengths < 15),
}
"""How a judge's score hangs on length, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What makes the model differ from its baseline.

    Attributes:
        gain: The true one at equal length and ending, in standard deviations of the scores.
        scale: Its lengths over the baseline's.
        endings: Share of the completions that would be cut that it ends earlier instead.
    """

    gain: float = 0.0
    scale: float = 1.0
    endings: float = 0.0


CASES = {
    "no gain": Case(),
    "no gain, shorter": Case(scale=0.6),
    "no gain, longer": Case(scale=1.5),
    "no gain, ends": Case(endings=0.85),
    "no gain, shorter, ends": Case(scale=0.7, endings=0.85),
    "gain": Case(gain=0.3),
    "gain, shorter": Case(gain=0.3, scale=0.6),
    "gain, longer": Case(gain=0.3, scale=1.5),
    "gain, ends": Case(gain=0.3, endings=0.85),
}


def draw(
    case: Case, liking: str, prompts: int, samples: int, generator: np.random.Generator
) -> tuple[Floats, Extent, Extent]:
    """Draw the gain of each prompt, and what the baseline's and the model's completions are like.

    Longer completions' scores spread more, which a plain regression would take for certainty.
    """
    prompt_scores = generator.normal(0, 1, (prompts, 1))
    prompt_lengths = generator.normal(0, 0.3, (prompts, 1))
    scores, extents = [], []
    for gain, scale, endings in ((0.0, 1.0, 0.0), (case.gain, case.scale, case.endings)):
        logs = generator.normal(np.log(27 * scale) + prompt_lengths, SPREAD, (prompts, samples))
        lengths = np.exp(logs).round().clip(1)
        earlier = (lengths >= LIMIT) & (generator.random(lengths.shape) < endings)
        lengths = np.where(earlier, generator.integers(5, LIMIT, lengths.shape), lengths)
        ended = lengths < LIMIT
        lengths = np.minimum(lengths, LIMIT)
        noise = generator.normal(0, 0.7 + lengths / LIMIT, lengths.shape)
        score = prompt_scores + LIKINGS[liking](lengths) - CUT_COSTS * ~ended + gain + noise
        scores.append(score.mean(axis=1))
        extents.append(Extent(lengths=lengths, ended=ended))
    return scores[1] - scores[0], extents[0], extents[1]
