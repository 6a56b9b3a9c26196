"""What the evaluation of SFT against PPO can be told, and where the verdict draws its lines."""

from pydantic import Field, model_validator

from models.config import Config


class EvaluationConfig(Config):
    """Sampling of both models on held-out prompts, intervals and the verdict's bounds."""

    prompts: int = Field(
        default=512,
        ge=1,
        title="Held-out prompts",
        description="Prompts compared, at most as many as there are; fewer than 512 are reported.",
    )
    samples_per_prompt: int = Field(
        default=4,
        ge=1,
        title="Samples a prompt",
        description="Completions of each model; a gold judge's diversity rule needs at least 2.",
    )
    bootstrap_resamples: int = Field(
        default=2000,
        ge=100,
        title="Bootstrap resamples",
        description="Resamplings of the prompts behind each 95% interval.",
    )
    min_length_ratio: float = Field(
        default=0.7,
        gt=0,
        title="Smallest length ratio",
        description="Mean completion length in tokens, PPO over SFT; below it, rejected.",
    )
    max_length_ratio: float = Field(
        default=1.4,
        gt=0,
        title="Largest length ratio",
        description="Mean completion length in tokens, PPO over SFT; above it, rejected.",
    )
    min_eos_ratio: float = Field(
        default=0.8,
        gt=0,
        title="Smallest EOS ratio",
        description="Share of completions that end by themselves, PPO over SFT.",
    )
    min_distinct_2_ratio: float = Field(
        default=0.8,
        gt=0,
        title="Smallest distinct-2 ratio",
        description="Without a gold judge: distinct-2 of all completions, PPO over SFT.",
    )
    min_good_pair_difference: float = Field(
        default=0.5,
        ge=0,
        le=1,
        title="Smallest good-pair difference",
        description="With a gold judge: probability that two good samples of one prompt differ.",
    )
    min_matched_distinct_2_ratio: float = Field(
        default=0.7,
        gt=0,
        title="Smallest matched distinct-2 ratio",
        description="With a gold judge: distinct-2 of matched good completions, PPO over SFT.",
    )
    min_matched_completions: int = Field(
        default=100,
        ge=1,
        title="Fewest matched completions",
        description="With a gold judge: matched good completions of each model; fewer, rejected.",
    )

    # On the quickstart accepted policies end at 1 to 2.5 nats, over-optimised ones at 14 to 39.
    # The sum grows with the tokens of a completion: raise the bound for long ones.
    max_kl_to_reference: float | None = Field(
        default=10.0,
        gt=0,
        title="Largest KL",
        description="Mean nats a completion from SFT; above it, rejected. Raise it for long ones.",
    )

    @model_validator(mode="after")
    def _length_bounds_are_ordered(self) -> "EvaluationConfig":
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio {self.min_length_ratio} is not below max_length_ratio "
                f"{self.max_length_ratio}; choose bounds around 1, such as 0.7 and 1.4"
            )
        return self
