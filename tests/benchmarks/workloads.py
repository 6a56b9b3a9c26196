"""What the benchmarks run: model sizes, workloads and prompts, the same for both sides.

Imports nothing that is heavy and nothing of the project, so that the parent process stays small
and the peer's interpreter can read it.
"""

import random
from dataclasses import dataclass, replace

PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
FIRST_WORD_ID = 3
PROMPT_TOKENS = (8, 64)
"""Shortest and longest prompt."""
COMPLETION_TOKENS = (12, 126)
"""Shortest and longest completion of a demonstration or a preference."""
CONTEXT = 512
BLOCK_TOKENS = 64
"""Of a block of pretraining, as the quickstart's."""
MINIBATCHES = 4
LEARNING_RATE = 1e-9
"""At a normal one completion lengths drift within a few iterations, and with them the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A Llama trunk with tied embeddings."""

    vocabulary: int
    width: int
    feed_forward: int
    layers: int
    heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One PPO iteration.

    Attributes:
        size: Name in `SIZES`.
        rollouts: Completions of one iteration.
        new_tokens: Longest completion; without `eos_boost` each has exactly so many.
        eos_boost: How far the EOS row of the embedding is raised; None: nothing ends early.
        epochs: Passes over the rollouts; InstructGPT, OpenRLHF and verl take one.
        lora_rank: Of the adapters that actor and critic learn; None: all their weights.
    """

    size: str
    rollouts: int
    new_tokens: int
    eos_boost: float | None = None
    epochs: int = 4
    lora_rank: int | None = None

    @property
    def rollouts_per_minibatch(self) -> int:
        """Completions of one optimiser step."""
        return self.rollouts // MINIBATCHES


SMALL = Size(vocabulary=4096, width=256, feed_forward=688, layers=6, heads=4)

SIZES = {
    "tiny": Size(vocabulary=256, width=64, feed_forward=176, layers=2, heads=2),
    "Q": Size(vocabulary=2000, width=128, feed_forward=352, layers=3, heads=4),
    "S": SMALL,
    "S4": replace(SMALL, width=512, feed_forward=1376, heads=8),
    "M": Size(vocabulary=8192, width=512, feed_forward=1376, layers=8, heads=8),
    "R135": Size(vocabulary=49152, width=576, feed_forward=1536, layers=30, heads=9),
}
"""Q is the quickstart's, of 0.86 million parameters; S has 5.8, M 29.5, R135 the 135 of SmolLM2,
with as many heads for keys as for queries; S4 has four times the FLOPs of S a token."""

WORKLOADS = {
    "S64": Workload(size="S", rollouts=32, new_tokens=64),
    "S128e": Workload(size="S", rollouts=32, new_tokens=128, eos_boost=0.903),
    "M64": Workload(size="M", rollouts=16, new_tokens=64),
    "S64e1": Workload(size="S", rollouts=32, new_tokens=64, epochs=1),
    "S128e1": Workload(size="S", rollouts=32, new_tokens=128, eos_boost=0.903, epochs=1),
    "R135e1": Workload(size="R135", rollouts=8, new_tokens=48, epochs=1),
    "R135e1l": Workload(size="R135", rollouts=8, new_tokens=48, epochs=1, lora_rank=16),
    "S64-rollouts-x4": Workload(size="S", rollouts=128, new_tokens=64),
    "S64-model-x4": Workload(size="S4", rollouts=32, new_tokens=64),
    "smoke": Workload(size="tiny", rollouts=8, new_tokens=8),
    "smoke-e": Workload(size="tiny", rollouts=8, new_tokens=16, eos_boost=0.4),
    "smoke-l": Workload(size="tiny", rollouts=8, new_tokens=8, lora_rank=4),
    "smoke-rollouts-x4": Workload(size="tiny", rollouts=32, new_tokens=8),
}
"""The EOS of S128e and S128e1 comes after about 45 tokens."""


def prompt_blocks(workload: Workload, count: int, seed: int = 11) -> list[list[list[int]]]:
    """Draw the prompts of each round: blocks of as many token lists as there are rollouts."""
    generator = random.Random(seed)
    return [
        [_prompt(generator, workload.size) for _ in range(workload.rollouts)] for _ in range(count)
    ]


def stage_rows(
    size: str, count: int, sides: tuple[str, ...], seed: int = 12
) -> list[dict[str, str]]:
    """Draw rows of words: a prompt and a completion for each name in `sides`."""
    generator = random.Random(seed)
    return [
        {
            "prompt": _words(generator, size, PROMPT_TOKENS),
            # The blank keeps the last word of the prompt and the first of this apart when joined.
            **{side: f" {_words(generator, size, COMPLETION_TOKENS)}" for side in sides},
        }
        for _ in range(count)
    ]


def word(token_id: int) -> str:
    """The text of a token; the tokenizer splits at blanks."""
    return f"t{token_id}"


def _prompt(generator: random.Random, size: str) -> list[int]:
    length = generator.randint(*PROMPT_TOKENS)
    last = SIZES[size].vocabulary - 1
    return [BOS_ID] + [generator.randint(FIRST_WORD_ID, last) for _ in range(length - 1)]


def _words(generator: random.Random, size: str, tokens: tuple[int, int]) -> str:
    last = SIZES[size].vocabulary - 1
    ids = [generator.randint(FIRST_WORD_ID, last) for _ in range(generator.randint(*tokens))]
    return " ".join(map(word, ids))
