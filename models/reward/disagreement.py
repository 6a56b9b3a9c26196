"""Where two reward models disagree: there a label says most.

Used between rounds of feedback, to choose what annotators are asked about. Scores of different
models have different scales, so each model's are measured from their mean over a prompt's
completions, in units of their root mean square over all of them.

    disagreement = mean over pairs (i, j) of a prompt's completions of |(a_i - a_j) - (b_i - b_j)|

Source: Christiano et al., Deep Reinforcement Learning from Human Preferences (2017), section 2.2.4:
queries with the highest variance across an ensemble; of two members that is a quarter of the square
of this difference.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.language.folders import load_frozen, load_reward_model, load_tokenizer
from models.language.scoring import score_sequences
from models.language.tokenizer import (
    NO_LIMIT,
    as_completion,
    encode_completions,
    encode_prompts,
)
from models.rows import Content
from models.statistics.intervals import Floats

SMALLEST = 1e-12
"""Of a root mean square: a model that scores all alike has no opinion, and not an infinite one."""


def measure_disagreement(
    *,
    rewards: Sequence[Path],
    prompts: Sequence[Content],
    completions: Sequence[Sequence[str]],
    device: str,
) -> list[float]:
    """Measure how far two reward models disagree about each prompt's completions.

    Args:
        rewards: Folders of the two.
        completions: Of each prompt, at least two; whole ones, for they are read with EOS.

    Returns:
        A number a prompt, at least 0.

    Raises:
        ModelError: A folder is no complete reward model.
    """
    first, second = (_scores(one, prompts, completions, device) for one in rewards)
    return disagreements(first, second)


def disagreements(first: Sequence[Floats], second: Sequence[Floats]) -> list[float]:
    """The same from scores: of each prompt an array, (completions,)."""
    apart = [a - b for a, b in zip(_in_units(first), _in_units(second), strict=True)]
    return [
        float(np.mean([abs(one - other) for one, other in itertools.combinations(each, 2)]))
        for each in apart
    ]


def _in_units(scores: Sequence[Floats]) -> list[Floats]:
    centred = [each - each.mean() for each in scores]
    unit = float(np.sqrt(np.mean(np.concatenate(centred) ** 2))) if centred else 0.0
    return [each / max(unit, SMALLEST) for each in centred]


def _scores(
    reward: Path, prompts: Sequence[Content], completions: Sequence[Sequence[str]], device: str
) -> list[Floats]:
    tokenizer = load_tokenizer(reward)
    model = load_frozen(load_reward_model, reward, device)
    context: int = model.config.max_position_embeddings
    asked = encode_prompts(tokenizer, prompts, NO_LIMIT)
    pairs = zip(prompts, completions, strict=True)
    said = encode_completions(
        tokenizer, [as_completion(prompt, text) for prompt, each in pairs for text in each]
    )
    repeated = [ids for ids, each in zip(asked, completions, strict=True) for _ in each]
    rows = [[*ids, *own][-context:] for ids, own in zip(repeated, said, strict=True)]
    scores = score_sequences(model, rows).double().numpy()
    ends = np.cumsum([len(each) for each in completions])[:-1]
    return np.split(scores, ends)
