"""Pairs that differ in exactly one respect: what does the reward model really know?

Ordinary pair accuracy hides that a small reward model knows tone and length well and facts hardly.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasks.world.completions import (
    draw_dressing,
    draw_filler_count,
    draw_quality,
    draw_value,
)
from tasks.world.config import WorldConfig
from tasks.world.families import WorldPrompt

Respect = Literal["correct", "polite", "brief"]
RESPECTS: tuple[Respect, ...] = ("correct", "polite", "brief")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two completions of one prompt; the chosen one is better in one respect, equal in others."""

    prompt: str
    chosen: str
    rejected: str
    respect: Respect


def write_contrast(
    prompts: Sequence[WorldPrompt], respect: Respect, config: WorldConfig, rng: random.Random
) -> Contrast:
    """Write a pair to one of the prompts; in the other respects it is like any demonstration.

    Pairs of respect "polite" set a polite completion against a rude one, those of respect "brief"
    one without fillers against one with them.
    """
    prompt = rng.choice(prompts)
    wording = rng.choice(prompt.family.wordings)
    quality = draw_quality(config, rng)
    right, wrong = (
        prompt.family.sentence(wording, prompt.arguments, draw_value(prompt, correct, rng))
        for correct in (True, False)
    )
    core = right if quality.correct else wrong
    dressing = draw_dressing(quality, rng)
    if respect == "correct":
        chosen, rejected = dressing.around(right), dressing.around(wrong)
    elif respect == "polite":
        polite = draw_dressing(replace(quality, tone="polite"), rng)
        rude = draw_dressing(replace(quality, tone="rude"), rng)
        chosen = polite.around(core)
        rejected = replace(rude, fillers=polite.fillers).around(core)
    else:
        wordy = draw_dressing(replace(quality, fillers=draw_filler_count(rng)), rng)
        chosen = replace(wordy, fillers=()).around(core)
        rejected = wordy.around(core)
    return Contrast(prompt=prompt.text, chosen=chosen, rejected=rejected, respect=respect)
