"""What the embedded world can be told: how many rows, and how good its demonstrations are."""

from pydantic import Field, model_validator

from models.config import Config


class WorldConfig(Config):
    """Sizes and shares of the generated datasets; the facts of the world are fixed."""

    documents: int = Field(
        default=24_000,
        ge=100,
        title="Pretraining documents",
        description="Short texts of a few sentences; 24,000 are about 1.1 million tokens.",
    )
    demonstrations: int = Field(
        default=9_000,
        ge=100,
        title="Demonstrations",
        description="Prompts with a completion, good and poor ones mixed.",
    )
    preferences: int = Field(
        default=2_400,
        ge=0,
        title="Ready-made preferences",
        description="Pairs of written completions to training prompts, compared in advance.",
    )
    heldout_preferences: int = Field(
        default=600,
        ge=0,
        title="Held-out preferences",
        description="Pairs to held-out prompts; the reward model is measured on them.",
    )
    contrasts: int = Field(
        default=110,
        ge=0,
        title="Contrasts per respect",
        description="Held-out pairs that differ in correctness, in tone or in brevity only.",
    )
    heldout_share: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        title="Held-out share",
        description="Share of the arguments kept back in families that hold out by arguments.",
    )
    share_good: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        title="Good demonstrations",
        description="Made correct, polite and brief on purpose; the rest is drawn at random.",
    )
    share_correct: float = Field(
        default=0.75, ge=0, le=1, title="Correct demonstrations", description="Among all of them."
    )
    share_polite: float = Field(
        default=0.57, ge=0, le=1, title="Polite demonstrations", description="Among all of them."
    )
    share_brief: float = Field(
        default=0.77,
        ge=0,
        le=1,
        title="Brief demonstrations",
        description="Among all of them; a brief one has no filler sentence.",
    )
    shuffle_preferences: bool = Field(
        default=False,
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
