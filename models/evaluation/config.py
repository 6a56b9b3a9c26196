"""The configs of evaluation: SFT against PPO, any models, challenger against champion."""

import re
from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat, field_validator, model_validator

from models.config import Config, Count, Share


class EvaluationConfig(Config):
    """Sampling of both models on held-out prompts, and the bounds of the verdict."""

    prompts: Count = Field(512, title="Held-out prompts")
    """At most as many as there are; fewer than 512 are reported."""
    samples_per_prompt: Count = 4
    """Completions of each model; the gold judge's diversity check needs at least 2."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamples of the prompts for each 95% interval."""
    min_length_ratio: PositiveFloat = 0.7
    """Mean completion length in tokens, PPO over SFT; rejected below it."""
    max_length_ratio: PositiveFloat = 1.4
    """Mean completion length in tokens, PPO over SFT; rejected above it."""
    min_eos_ratio: PositiveFloat = 0.8
    """Share of completions that end with EOS, PPO over SFT."""
    min_distinct_2_ratio: PositiveFloat = Field(0.8, title="Minimum distinct-2 ratio")
    """Without a gold judge: distinct-2 of all completions, PPO over SFT."""
    min_good_pair_difference: Share = 0.5
    """With a gold judge: probability that two good samples of a prompt differ."""
    min_matched_distinct_2_ratio: PositiveFloat = Field(
        0.7, title="Minimum matched distinct-2 ratio"
    )
    """With a gold judge: distinct-2 of matched good completions, PPO over SFT."""
    min_matched_completions: Count = 100
    """With a gold judge: matched good completions of each model; rejected if fewer."""

    # On the quickstart accepted policies end at 1 to 2.5 nats, over-optimised ones at 14 to 39.
    # The sum grows with the tokens of a completion: raise the bound for long ones.
    max_kl_to_reference: float | None = Field(10.0, gt=0)
    """Mean nats per completion from SFT; rejected above it. Raise it for long completions."""

    @model_validator(mode="after")
    def _length_bounds_are_ordered(self) -> "EvaluationConfig":
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio {self.min_length_ratio} is not below max_length_ratio "
                f"{self.max_length_ratio}; choose bounds around 1, such as 0.7 and 1.4"
            )
        return self


JudgeName: TypeAlias = Literal["reward", "judge", "gold", "vader", "endpoint"]


class EndpointConfig(Config):
    """A language model behind an OpenAI-compatible API, asked which of two completions is better.

    Its key comes from the environment of the process that asks, never from here.
    """

    url: str = ""
    """Base URL up to /v1, such as http://127.0.0.1:8000/v1."""
    model: str = ""
    """Name of the judge model at the endpoint."""
    criteria: str = Field(
        "Which completion answers the prompt better: helpful, true, harmless, to the "
        "point? Length alone is no merit.",
        min_length=1,
    )
    """What the judge should look for, in your own words."""
    api_key_env: str = Field(
        "OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", title="API key variable"
    )
    """Name of the environment variable with the API key; without it, no key is sent."""
    prompts: Count = 128
    """How many of the evaluated prompts are judged; two requests per prompt and model pair."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Temperature of the judge; some models accept only 1."""
    max_tokens: NonNegativeInt = 256
    """Maximum tokens of the judge's answer; 0 = the endpoint's default."""
    concurrency: int = Field(4, ge=1, le=64)
    """Maximum requests in flight."""
    timeout_seconds: PositiveFloat = Field(60.0, title="Timeout")
    """Seconds until a request counts as failed."""
    retries: int = Field(4, ge=0, le=10)
    """Further attempts after no answer, 408, 409, 429 or 5xx, with growing pauses."""

    @field_validator("url")
    @classmethod
    def _url_is_plain(cls, url: str) -> str:
        if url and not re.match(r"https?://[^@\s]+$", url):
            raise ValueError(
                "the address of the endpoint is no http(s) address without user and password; "
                "give one such as http://127.0.0.1:8000/v1, and the key in the environment"
            )
        return url.rstrip("/")


class EvaluateModelsConfig(Config):
    """How many prompts and samples, and which judges."""

    prompts: Count = 512
    """Drawn at random from the given prompts, at most as many as there are."""
    samples_per_prompt: Count = 4
    """Completions of each model."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamples of the prompts for each 95% interval."""
    judges: list[JudgeName] = Field(["reward"])
    """reward, judge: reward models; gold: embedded world; vader: sentiment; endpoint: LLM API."""
    perplexity: bool = True
    """Perplexity and bits per byte on held-out texts and demonstrations, where there are any."""
    perplexity_texts: Count = 1000
    """Maximum number of texts of each kind."""
    references: bool = Field(False, title="BLEU and ROUGE")
    """Compare with the completions given with the prompts; every prompt needs one."""
    endpoint: EndpointConfig = Field(default_factory=EndpointConfig, title="Endpoint judge")

    @model_validator(mode="after")
    def _judges_are_complete(self) -> "EvaluateModelsConfig":
        if len(set(self.judges)) < len(self.judges):
            raise ValueError(
                f"judges {', '.join(self.judges)} name one of them twice; name each once"
            )
        if "endpoint" in self.judges and not (self.endpoint.url and self.endpoint.model):
            raise ValueError(
                f"judges name endpoint, but endpoint.url is {self.endpoint.url!r} and "
                f"endpoint.model is {self.endpoint.model!r}; give both, or leave endpoint out"
            )
        return self


class PromotionConfig(Config):
    """A challenger against the champion on the same held-out prompts."""

    prompts: int = Field(512, ge=2, title="Held-out prompts")
    """At most as many as there are."""
    samples_per_prompt: Count = 4
    """Completions of each model."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamples of the prompts for each 95% interval."""
    judge: Literal["auto", "gold", "judge"] = "auto"
    """gold: the embedded world's; judge: the held-out reward model; auto: gold if there is one."""
    max_kl_to_reference: PositiveFloat = 10.0
    """Nats per completion from the model's own SFT model. Raise it for long completions."""
    min_length_ratio: PositiveFloat = 0.7
    """Mean completion length in tokens, challenger over champion."""
    max_length_ratio: PositiveFloat = 1.4
    """Mean completion length in tokens, challenger over champion."""
    min_eos_ratio: PositiveFloat = 0.8
    """Share of completions that end with EOS, challenger over champion."""
    min_distinct_2_ratio: PositiveFloat = Field(0.8, title="Minimum distinct-2 ratio")
    """Without a gold judge: distinct-2 of all completions, challenger over champion."""
    min_matched_distinct_2_ratio: PositiveFloat = Field(
        0.7, title="Minimum matched distinct-2 ratio"
    )
    """With a gold judge: distinct-2 of matched good completions."""
    min_matched_completions: Count = 100
    """With a gold judge: matched good completions of each model; rejected if fewer."""

    @model_validator(mode="after")
    def _length_bounds_are_ordered(self) -> "PromotionConfig":
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio {self.min_length_ratio} is not below max_length_ratio "
                f"{self.max_length_ratio}; choose bounds around 1, such as 0.7 and 1.4"
            )
        return self
