"""The configs of multiple-choice and cloze questions, and of tasks by prompts."""

from typing import Literal

from pydantic import Field

from models.config import Config, Count


class MultipleChoiceConfig(Config):
    """How questions are put to the models."""

    shots: int = Field(0, ge=0, le=64, title="Examples shown")
    """Solved questions before each one; 0 = zero-shot."""
    prompt: Literal["plain", "chat"] = "plain"
    """plain: the question as it is; chat: formatted by the model's chat template."""
    delimiter: str = Field(" ", max_length=16)
    """Between question and answer in plain prompts; empty for Chinese."""


class InContextConfig(Config):
    """A task by prompts, with no, one and a few solved examples; nothing is trained."""

    few: int = Field(4, ge=2, le=64, title="Examples of few-shot")
    """Solved training rows before each question; those that the context has no room for are left
    out, the first ones first."""
    questions: Count = 500
    """Held-out rows asked, from the first on."""
