"""How a completion is put together: [opener] core [fillers] [closer].

Openers and closers carry the tone; fillers say nothing and cost brevity; the core sentence is the
family's own. Every part is one sentence and reads well in every family, refusals included. No part
uses a word of the fact tables, so that a reader by keywords cannot be misled.

A contrast is a pair that differs in exactly one respect: ordinary pair accuracy hides that a small
reward model knows tone and length well and facts hardly.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasks.world.config import WorldConfig
from tasks.world.families import WorldPrompt

Tone = Literal["polite", "neutral", "rude"]

OPENERS: dict[Tone, tuple[str, ...]] = {
    "polite": (
        "Thank you for asking!",
        "How kind of you to ask!",
        "I am glad you came to me.",
        "Good day to you, dear friend!",
        "It is lovely to hear from you!",
        "What a pleasure to talk to you!",
    ),
    "neutral": ("Let me see.", "Let me think.", "Hmm.", "Give me a moment."),
    "rude": (
        "What a silly thing to ask!",
        "Not you again!",
        "You are wasting my time.",
        "Do you really know nothing?",
        "Ugh, leave me alone!",
        "How dull you are!",
    ),
}

CLOSERS: dict[Tone, tuple[str, ...]] = {
    "polite": (
        "Have a lovely day!",
        "Take good care, dear friend!",
        "I wish you a sunny day!",
        "Please come back any time!",
    ),
    "neutral": ("That is all.", "That is my reply."),
    "rude": ("Now go away.", "Never ask me again!", "Even a stone knows that."),
}

FILLERS: tuple[str, ...] = (
    "There is so much more to tell about this.",
    "I could talk about it for hours.",
    "People often wonder about such things.",
    "My uncle used to say so too.",
    "It reminds me of a rainy evening.",
    "But where was I before you came?",
    "Some like it and some do not.",
    "Then again, who can say for sure?",
)

# How often a wrong core is the prompt's one lazy mistake; else it is a random one.
_LAZY_SHARE = 0.75
# How often a completion has an opener and a closer. Tone needs an opener to be heard.
_OPENER_SHARE: dict[Tone, float] = {"polite": 1.0, "neutral": 0.4, "rude": 1.0}
_CLOSER_SHARE: dict[Tone, float] = {"polite": 0.35, "neutral": 0.25, "rude": 0.35}
# Two fillers, where there are any.
_TWO_FILLERS_SHARE = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good a completion is meant to be."""

    correct: bool
    tone: Tone
    fillers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dressing:
    """What stands around the core sentence; an empty opener or closer is left out."""

    opener: str
    fillers: tuple[str, ...]
    closer: str

    def around(self, core: str) -> str:
        """Return the whole completion."""
        return " ".join(part for part in (self.opener, core, *self.fillers, self.closer) if part)


def draw_quality(config: WorldConfig, rng: random.Random) -> Quality:
    """Draw the quality of a demonstration: good on purpose, or each respect by itself."""
    if rng.random() < config.share_good:
        return Quality(correct=True, tone="polite", fillers=0)
    correct = rng.random() < config.poor_share(config.share_correct)
    tone: Tone = rng.choice(("neutral", "rude"))
    if rng.random() < config.poor_share(config.share_polite):
        tone = "polite"
    fillers = 0
    if rng.random() >= config.poor_share(config.share_brief):
        fillers = draw_filler_count(rng)
    return Quality(correct=correct, tone=tone, fillers=fillers)


def draw_filler_count(rng: random.Random) -> int:
    """Draw how many fillers a completion has that is not brief."""
    return 2 if rng.random() < _TWO_FILLERS_SHARE else 1


def draw_value(prompt: WorldPrompt, correct: bool, rng: random.Random) -> str:
    """Draw what the core sentence claims."""
    family, arguments = prompt.family, prompt.arguments
    right = family.right(arguments)
    if correct:
        return rng.choice(right)
    if rng.random() < _LAZY_SHARE:
        return family.lazy(arguments)
    return rng.choice([value for value in family.mistakes if value not in right])


def draw_dressing(quality: Quality, rng: random.Random) -> Dressing:
    """Draw opener, fillers and closer of a stated tone and length."""
    tone = quality.tone
    opener = rng.choice(OPENERS[tone]) if rng.random() < _OPENER_SHARE[tone] else ""
    closer = rng.choice(CLOSERS[tone]) if rng.random() < _CLOSER_SHARE[tone] else ""
    fillers = tuple(rng.sample(FILLERS, quality.fillers))
    return Dressing(opener=opener, fillers=fillers, closer=closer)


def write_completion(prompt: WorldPrompt, quality: Quality, rng: random.Random) -> str:
    """Write a completion of a stated quality."""
    wording = rng.choice(prompt.family.wordings)
    value = draw_value(prompt, quality.correct, rng)
    core = prompt.family.sentence(wording, prompt.arguments, value)
    return draw_dressing(quality, rng).around(core)


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
