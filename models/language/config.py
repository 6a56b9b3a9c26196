"""How completions are sampled, everywhere the same: feedback, score moments, PPO, evaluation."""

from pydantic import Field, model_validator

from models.config import Config


class SamplingConfig(Config):
    """Plain temperature sampling: top-p and top-k would make logprobs of another distribution."""

    temperature: float = Field(
        default=1.0,
        gt=0,
        title="Temperature",
        description="Divides the logits in sampling and in every logprob.",
    )
    max_completion_tokens: int = Field(
        default=64,
        ge=1,
        title="Longest completion",
        description="Tokens, EOS included; a completion cut here has no EOS.",
    )
    min_completion_tokens: int = Field(
        default=1,
        ge=1,
        title="Shortest completion",
        description="Tokens, EOS included; EOS has no probability before.",
    )
    batch_size: int = Field(
        default=256,
        ge=1,
        title="Sampling batch",
        description="Completions sampled at once; bounds memory.",
    )

    @model_validator(mode="after")
    def _shortest_fits_longest(self) -> "SamplingConfig":
        if self.min_completion_tokens > self.max_completion_tokens:
            raise ValueError(
                f"min_completion_tokens {self.min_completion_tokens} exceeds max_completion_tokens "
                f"{self.max_completion_tokens}; lower the one or raise the other"
            )
        return self
