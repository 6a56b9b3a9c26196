"""The config of the embedded world: dataset sizes and the quality of its demonstrations."""

from typing import Annotated

from pydantic import Field, model_validator

from models.config import Config, Share, ShareBelowOne

Rows = Annotated[int, Field(ge=0, le=100_000_000)]


class WorldConfig(Config):
    """Sizes and shares of the generated datasets; the facts of the world are fixed."""

    documents: int = Field(24_000, ge=100, le=100_000_000, title="Pretraining documents")
    """Texts of a few sentences; 24,000 are about 1.1 million tokens."""
    demonstrations: int = Field(9_000, ge=100, le=100_000_000)
    """Prompts with a completion, good and poor ones mixed."""
    preferences: Rows = Field(2_400, title="Given preferences")
    """Compared pairs of written completions to training prompts."""
    heldout_preferences: Rows = 600
    """Pairs for held-out prompts, to measure the reward model."""
    contrasts: Rows = Field(110, title="Contrast pairs")
    """Held-out pairs of each kind: they differ only in correctness, tone or brevity."""
    heldout_share: float = Field(0.25, gt=0, lt=1)
    """Share of arguments held out, in families that hold out by argument."""
    share_good: ShareBelowOne = Field(0.5, title="Good demonstrations")
    """Share that is correct, polite and brief; the rest is drawn at random."""
    share_correct: Share = Field(0.75, title="Correct demonstrations")
    """Share of all demonstrations."""
    share_polite: Share = Field(0.57, title="Polite demonstrations")
    """Share of all demonstrations."""
    share_brief: Share = Field(0.77, title="Brief demonstrations")
    """Share of all demonstrations; a brief one has no filler sentence."""
    shuffle_preferences: bool = False
    """Negative control: random training preferences, from which nothing can be learned."""

    @model_validator(mode="after")
    def _shares_hold_the_good_ones(self) -> "WorldConfig":
        for name in ("share_correct", "share_polite", "share_brief"):
            share = getattr(self, name)
            if share < self.share_good:
                raise ValueError(
                    f"{name} {share} is below share_good {self.share_good}, but every good "
                    f"demonstration counts towards it; raise {name} or lower share_good"
                )
        return self

    @model_validator(mode="after")
    def _pairs_can_differ(self) -> "WorldConfig":
        alike = min(self.share_correct, self.share_polite, self.share_brief) == 1
        if alike and (self.preferences or self.heldout_preferences):
            raise ValueError(
                "share_correct, share_polite and share_brief are all 1, so no two completions "
                "differ in quality and no pair can be compared; lower one of them, or set "
                "preferences and heldout_preferences to 0"
            )
        return self

    def poor_share(self, share: float) -> float:
        """Share among the demonstrations drawn at random, so that all together reach `share`."""
        return (share - self.share_good) / (1 - self.share_good)
