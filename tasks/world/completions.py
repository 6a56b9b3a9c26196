"""The world's texts: completions, contrasts, and the documents of the corpus.

A completion is [opener] core [fillers] [closer]. Openers and closers carry the tone; fillers say
nothing and cost brevity; the core sentence is the family's own. Every part is one sentence and
reads well in every family, refusals included. No part uses a word of the fact tables, so that a
reader by keywords cannot be misled.

A contrast is a pair that differs in exactly one respect: ordinary pair accuracy hides that a small
reward model knows tone and length well and facts hardly.

All facts stand in statements of the corpus, for knowledge comes from pretraining; what is held out
is the prompts: none of those stands in any document. Echoes repeat words of the family. They carry
no fact, but from them a small network learns early to copy a word from its context, without which
it cannot name what a prompt asks about.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasks.world.config import WorldConfig
from tasks.world.families import WorldPrompt
from tasks.world.family import Family

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
class _Dressing:
    """The sentences around the core; an empty opener or closer is left out."""

    opener: str
    fillers: tuple[str, ...]
    closer: str

    def around(self, core: str) -> str:
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
        fillers = _filler_count(rng)
    return Quality(correct=correct, tone=tone, fillers=fillers)


def _filler_count(rng: random.Random) -> int:
    return 2 if rng.random() < _TWO_FILLERS_SHARE else 1


def _value(prompt: WorldPrompt, correct: bool, rng: random.Random) -> str:
    family, arguments = prompt.family, prompt.arguments
    right = family.right(arguments)
    if correct:
        return rng.choice(right)
    if rng.random() < _LAZY_SHARE:
        return family.lazy(arguments)
    return rng.choice([value for value in family.mistakes if value not in right])


def _dressing(quality: Quality, rng: random.Random) -> _Dressing:
    tone = quality.tone
    opener = rng.choice(OPENERS[tone]) if rng.random() < _OPENER_SHARE[tone] else ""
    closer = rng.choice(CLOSERS[tone]) if rng.random() < _CLOSER_SHARE[tone] else ""
    fillers = tuple(rng.sample(FILLERS, quality.fillers))
    return _Dressing(opener=opener, fillers=fillers, closer=closer)


def write_completion(prompt: WorldPrompt, quality: Quality, rng: random.Random) -> str:
    """Write a completion of a stated quality."""
    wording = rng.choice(prompt.family.wordings)
    value = _value(prompt, quality.correct, rng)
    core = prompt.family.sentence(wording, prompt.arguments, value)
    return _dressing(quality, rng).around(core)


Respect = Literal["correct", "polite", "brief"]
RESPECTS: tuple[Respect, ...] = ("correct", "polite", "brief")


def write_contrast(
    prompts: Sequence[WorldPrompt], respect: Respect, config: WorldConfig, rng: random.Random
) -> dict[str, str]:
    """Write a pair to one of the prompts; in the other respects it is like any demonstration.

    Pairs of respect "polite" set a polite completion against a rude one, those of respect "brief"
    one without fillers against one with them.
    """
    prompt = rng.choice(prompts)
    wording = rng.choice(prompt.family.wordings)
    quality = draw_quality(config, rng)
    right, wrong = (
        prompt.family.sentence(wording, prompt.arguments, _value(prompt, correct, rng))
        for correct in (True, False)
    )
    core = right if quality.correct else wrong
    dressing = _dressing(quality, rng)
    if respect == "correct":
        chosen, rejected = dressing.around(right), dressing.around(wrong)
    elif respect == "polite":
        polite = _dressing(replace(quality, tone="polite"), rng)
        rude = _dressing(replace(quality, tone="rude"), rng)
        chosen = polite.around(core)
        rejected = replace(rude, fillers=polite.fillers).around(core)
    else:
        wordy = _dressing(replace(quality, fillers=_filler_count(rng)), rng)
        chosen = replace(wordy, fillers=()).around(core)
        rejected = wordy.around(core)
    return {"prompt": prompt.text, "chosen": chosen, "rejected": rejected, "respect": respect}


# Shares of the documents that are dialogues and echoes; the rest are statements.
_DIALOGUE_SHARE = 0.35
_ECHO_SHARE = 0.2
# Sentences in a document of statements; exchanges in a dialogue; echoes. All make about 45 tokens.
_STATEMENTS = (3, 6)
_EXCHANGES = (1, 3)
_ECHOES = (3, 5)
# Share of the statements that only mention an argument, in families that have such sentences.
_MENTION_SHARE = 0.35

_ECHO_SENTENCES = (
    "The teacher says: {words}. The class says: {words}.",
    "You say {words}, and I say {words}.",
    "Say after me: {words}! {Words}, says everyone.",
    "{Words}? Yes, {words}.",
)
_ECHO_LENGTHS = (1, 2, 2, 3)
_ECHO_JOINTS = (", ", " and ", " or ", " plus ", " to ", " is bigger than ")


def write_document(
    family: Family, training: Sequence[WorldPrompt], config: WorldConfig, rng: random.Random
) -> str:
    """Write one document of a family.

    Args:
        family: Subject of the document.
        training: The family's training prompts; no other prompt appears.
        config: Tone and brevity of the completions in dialogues, all of which are correct.
        rng: The family's own generator.
    """
    kind = rng.random()
    if kind < _DIALOGUE_SHARE:
        return "\n".join(_exchange(training, config, rng) for _ in range(rng.randint(*_EXCHANGES)))
    if kind < _DIALOGUE_SHARE + _ECHO_SHARE:
        return " ".join(_echo(family, rng) for _ in range(rng.randint(*_ECHOES)))
    statements = [_statement(family, rng) for _ in range(rng.randint(*_STATEMENTS))]
    return " ".join(dict.fromkeys(statements))


def _statement(family: Family, rng: random.Random) -> str:
    arguments = rng.choice(family.arguments)
    if family.mentions and rng.random() < _MENTION_SHARE:
        return family.sentence(rng.choice(family.mentions), arguments)
    template = rng.choice(family.plain_statements)
    return family.sentence(template, arguments, rng.choice(family.right(arguments)))


def _echo(family: Family, rng: random.Random) -> str:
    words = [rng.choice(rng.choice(family.arguments)) for _ in range(rng.choice(_ECHO_LENGTHS))]
    phrase = rng.choice(_ECHO_JOINTS).join(words)
    capital = phrase[0].upper() + phrase[1:]
    return rng.choice(_ECHO_SENTENCES).format(words=phrase, Words=capital)


def _exchange(training: Sequence[WorldPrompt], config: WorldConfig, rng: random.Random) -> str:
    """A prompt and a completion: correct, since the corpus is true, in any tone."""
    prompt = rng.choice(training)
    quality = draw_quality(config, rng)
    completion = write_completion(prompt, replace(quality, correct=True), rng)
    return f"{prompt.text}\n{completion}"
