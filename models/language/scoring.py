"""Scores: one number a completion from the reward model, and the moments that normalise them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import ModelError

SCORE_MOMENTS = "score_moments.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMoments:
    """Moments of the reward model's scores on completions of the SFT model.

    Attributes:
        mean: In raw score units.
        std: The same, floored: dividing by a tiny deviation would amplify noise.
        raw_std: Before the floor.
        samples: How many completions were scored.
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
        ModelError: The folder has none.
    """
    path = folder / SCORE_MOMENTS
    try:
        return ScoreMoments(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}); a reward model's folder holds the mean and standard "
            "deviation of its scores on SFT completions: give the folder of a reward stage"
        ) from error
