"""What a promotion can be told: how much is measured, who judges, and where the gates stand."""

from typing import Literal

from pydantic import Field, model_validator

from models.config import Config


class PromotionConfig(Config):
    """A challenger against the champion on the same held-out prompts."""

    prompts: int = Field(
        default=512,
        ge=2,
        title="Held-out prompts",
        description="Prompts on which both models answer, at most as many as there are.",
    )
    samples_per_prompt: int = Field(
        default=4, ge=1, title="Samples a prompt", description="Completions of each model."
    )
    bootstrap_resamples: int = Field(
        default=2000,
        ge=100,
        title="Bootstrap resamples",
        description="Resamplings of the prompts behind each 95% interval.",
    )
    judge: Literal["auto", "gold", "judge"] = Field(
        default="auto",
        title="Judge",
        description=(
            "Who judges the gain: the gold judge of the embedded world, or the held-out second "
            "reward model. Auto takes the gold judge where there is one."
        ),
    )
    max_kl_to_reference: float = Field(
        default=10.0,
        gt=0,
        title="Largest KL to reference",
        description="Nats a completion, to its own SFT model. Raise it for long ones.",
    )
    min_length_ratio: float = Field(
        default=0.7,
        gt=0,
        title="Smallest length ratio",
        description="Mean completion length in tokens, challenger over champion.",
    )
    max_length_ratio: float = Field(
        default=1.4,
        gt=0,
        title="Largest length ratio",
        description="Mean completion length in tokens, challenger over champion.",
    )
    min_eos_ratio: float = Field(
        default=0.8,
        gt=0,
        title="Smallest EOS ratio",
        description="Share of completions that end by themselves, challenger over champion.",
    )
    min_distinct_2_ratio: float = Field(
        default=0.8,
        gt=0,
        title="Smallest distinct-2 ratio",
        description="Without a gold judge: distinct-2 of all completions, over the champion's.",
    )
    min_matched_distinct_2_ratio: float = Field(
        default=0.7,
        gt=0,
        title="Smallest matched distinct-2 ratio",
        description="With a gold judge: distinct-2 of matched good completions.",
    )
    min_matched_completions: int = Field(
        default=100,
        ge=1,
        title="Fewest matched completions",
        description="With a gold judge: matched good completions of each model; fewer, rejected.",
    )

    @model_validator(mode="after")
    def _length_bounds_are_ordered(self) -> "PromotionConfig":
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio {self.min_length_ratio} is not below max_length_ratio "
                f"{self.max_length_ratio}; choose bounds around 1, such as 0.7 and 1.4"
            )
        return self
