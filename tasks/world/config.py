"""What the embedded world can be told: how many rows, and how good its demonstrations are."""

from pydantic import Field, NonNegativeInt, model_validator

from models.config import Config, Share, ShareBelowOne


class WorldConfig(Config):
    """Sizes and shares of the generated datasets; the facts of the world are fixed."""

    documents: int = Field(24_000, ge=100, title="Pretraining documents")
    """Short texts of a few sentences; 24,000 are about 1.1 million tokens."""
    demonstrations: int = Field(9_000, ge=100)
    """Prompts with a completion, good and poor ones mixed."""
    preferences: NonNegativeInt = Field(2_400, title="Ready-made preferences")
    """Pairs of written completions to training prompts, compared in advance."""
    heldout_preferences: NonNegativeInt = Field(600, title="Held-out preferences")
    """Pairs to held-out prompts; the reward model is measured on them."""
    contrasts: NonNegativeInt = Field(110, title="Contrasts per respect")
    """Held-out pairs that differ in correctness, in tone or in brevity only."""
    heldout_share: float = Field(0.25, gt=0, lt=1, title="Held-out share")
    """Share of the arguments kept back in families that hold out by arguments."""
    share_good: ShareBelowOne = Field(0.5, title="Good demonstrations")
    """Made correct, polite and brief on purpose; the rest is drawn at random."""
    share_correct: Share = Field(0.75, title="Correct demonstrations")
    """Among all of them."""
    share_polite: Share = Field(0.57, title="Polite demonstrations")
    """Among all of them."""
    share_brief: Share = Field(0.77, title="Brief demonstrations")
    """Among all of them; a brief one has no filler sentence."""
    shuffle_preferences: bool = Field(
        False,
        title="Shuffle preferences (control)",
        description="For tests: a fair coin decides every training preference, ready-made or "
        "annotated. Held-out preferences stay honest. Nothing can be learned, and the verdict "
        "must say so.",
    )

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

    def poor_share(self, share: float) -> float:
        """Share among the demonstrations drawn at random, so that all together reach `share`."""
        return (share - self.share_good) / (1 - self.share_good)
