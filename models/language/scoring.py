"""Scores: one number per completion from a reward model, and the moments that normalise them."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import ModelError
from models.language.sequences import Sequences, map_chunks, sequence_scores

SCORE_MOMENTS = "score_moments.json"

SCORED_TOKENS = 8192
"""Most tokens of one forward pass, where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMoments:
    """Moments of the reward model's scores on completions of the SFT model.

    Attributes:
        mean: In raw score units.
        std: The same, floored: dividing by a tiny deviation would amplify noise.
        raw_std: Before the floor.
    """

    mean: float
    std: float
    raw_std: float
    samples: int


def write_score_moments(folder: Path, moments: ScoreMoments) -> None:
    """Put the moments into a reward model's folder."""
    (folder / SCORE_MOMENTS).write_text(
        json.dumps(asdict(moments), indent=2) + "\n", encoding="utf-8"
    )


def read_score_moments(folder: Path) -> ScoreMoments:
    """Read the moments that a reward stage stored with its model.

    Raises:
        ModelError: The folder has none, or they are no moments.
    """
    path = folder / SCORE_MOMENTS
    try:
        moments = ScoreMoments(**json.loads(path.read_text(encoding="utf-8")))
        if not all(map(math.isfinite, astuple(moments))) or moments.std <= 0.0:
            raise ValueError(f"got {moments}")
        return moments
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}); a reward model's folder holds the mean and standard "
            "deviation of its scores on SFT completions: give the folder of a reward stage"
        ) from error


@torch.no_grad()
def score_sequences(
    model: Any, sequences: Sequence[Sequence[int]], batch_tokens: int = SCORED_TOKENS
) -> torch.Tensor:
    """Score sequences with a reward model, each read at its last token.

    Args:
        sequences: Prompt and completion together; completions end with EOS unless cut.
        batch_tokens: Most tokens of one forward pass; bounds memory, not the result.

    Returns:
        (sequences,) float32 on the CPU, in the order given.
    """
    if not sequences:
        return torch.zeros(0)
    by_length = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    was_training = model.training
    model.eval()
    scores = map_chunks(
        lambda chunk: sequence_scores(model, chunk),
        # Where the prompt ends does not matter here: only the last token is read.
        Sequences.from_lists(
            [sequences[row][:0] for row in by_length],
            [sequences[row] for row in by_length],
            device=model.device,
        ),
        batch_tokens,
        what="scoring",
    )
    model.train(was_training)
    ordered = torch.empty(len(sequences))
    ordered[torch.tensor(by_length)] = scores.cpu()
    return ordered


class SequenceScorer:
    """A reward model that scores every different sequence once.

    The last digits of a score depend on what else is in its batch. Scored once, a completion that
    two models share has the same score for both, to the last bit: a tie.
    """

    def __init__(self, model: Any, batch_tokens: int = SCORED_TOKENS) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        self._known: dict[tuple[int, ...], float] = {}

    def score(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Score sequences of prompt and completion, (sequences,)."""
        rows = [tuple(ids) for ids in sequences]
        new = list(dict.fromkeys(row for row in rows if row not in self._known))
        scores = score_sequences(self._model, new, self._batch_tokens).double().tolist()
        self._known.update(zip(new, scores, strict=True))
        return np.array([self._known[row] for row in rows], dtype=np.float64)
