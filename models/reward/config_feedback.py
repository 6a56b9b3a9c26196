"""What the feedback stage can be told."""

from typing import Literal

from pydantic import Field

from models.config import Config


class FeedbackConfig(Config):
    """Completions of the SFT model, compared by an annotator and mixed with given preferences."""

    annotator: Literal["none", "simulated"] = Field(
        default="none",
        title="Annotator",
        description="Who compares: none skips the stage; simulated is the embedded world's.",
    )
    preferences: int = Field(
        default=4000,
        ge=1,
        title="Preferences",
        description="Training pairs after mixing, annotated and given ones together.",
    )
    annotated_share: float = Field(
        default=0.6,
        gt=0,
        le=1,
        title="Annotated share",
        description="Share of the training pairs that are two samples of the SFT model.",
    )

    @property
    def annotated(self) -> int:
        """Pairs to be annotated."""
        return round(self.preferences * self.annotated_share)

    @property
    def given(self) -> int:
        """Pairs to be taken from the given preferences."""
        return self.preferences - self.annotated
