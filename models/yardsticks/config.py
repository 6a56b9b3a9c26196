"""What can be chosen of the yardsticks that are no networks."""

from pydantic import Field

from models.config import Config


class NgramConfig(Config):
    """An n-gram language model with interpolated, modified Kneser-Ney smoothing."""

    order: int = Field(4, ge=1, le=8)
    """Tokens of the longest n-gram: how many it predicts from, plus one."""
