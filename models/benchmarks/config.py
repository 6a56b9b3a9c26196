"""The config of multiple-choice and cloze questions."""

from typing import Literal

from pydantic import Field

from models.config import Config


class MultipleChoiceConfig(Config):
    """How questions are put to the models."""

    shots: int = Field(0, ge=0, le=64, title="Examples shown")
    """Solved questions before each one; 0 = zero-shot."""
    prompt: Literal["plain", "chat"] = "plain"
    """plain: the question as it is; chat: formatted by the model's chat template."""
    delimiter: str = Field(" ", max_length=16)
    """Between question and answer in plain prompts; empty for Chinese."""
