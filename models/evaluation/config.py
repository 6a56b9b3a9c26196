"""The configs of evaluation: SFT against PPO, any models, challenger against champion."""

import re
from typing import Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat, field_validator, model_validator

from models.config import Config, Count, Share


class EvaluationConfig(Config):
    """Sampling of both models on held-out prompts, intervals and the verdict's bounds."""

    prompts: Count = Field(512, title="Held-out prompts")
    """Prompts compared, at most as many as there are; fewer than 512 are reported."""
    samples_per_prompt: Count = Field(4, title="Samples a prompt")
    """Completions of each model; a gold judge's diversity rule needs at least 2."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamplings of the prompts behind each 95% interval."""
    min_length_ratio: PositiveFloat = Field(0.7, title="Smallest length ratio")
    """Mean completion length in tokens, PPO over SFT; below it, rejected."""
    max_length_ratio: PositiveFloat = Field(1.4, title="Largest length ratio")
    """Mean completion length in tokens, PPO over SFT; above it, rejected."""
    min_eos_ratio: PositiveFloat = Field(0.8, title="Smallest EOS ratio")
    """Share of completions that end by themselves, PPO over SFT."""
    min_distinct_2_ratio: PositiveFloat = Field(0.8, title="Smallest distinct-2 ratio")
    """Without a gold judge: distinct-2 of all completions, PPO over SFT."""
    min_good_pair_difference: Share = Field(0.5, title="Smallest good-pair difference")
    """With a gold judge: probability that two good samples of one prompt differ."""
    min_matched_distinct_2_ratio: PositiveFloat = Field(
        0.7, title="Smallest matched distinct-2 ratio"
    )
    """With a gold judge: distinct-2 of matched good completions, PPO over SFT."""
    min_matched_completions: Count = Field(100, title="Fewest matched completions")
    """With a gold judge: matched good completions of each model; fewer, rejected."""

    # On the quickstart accepted policies end at 1 to 2.5 nats, over-optimised ones at 14 to 39.
    # The sum grows with the tokens of a completion: raise the bound for long ones.
    max_kl_to_reference: float | None = Field(10.0, gt=0, title="Largest KL")
    """Mean nats a completion from SFT; above it, rejected. Raise it for long ones."""

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

    url: str = Field("", title="Address")
    """Base address up to /v1, such as http://127.0.0.1:8000/v1."""
    model: str = ""
    """The judge's name, as its endpoint knows it."""
    criteria: str = Field(
        "Which completion answers the prompt better: helpful, true, harmless, to the "
        "point? Length alone is no merit.",
        min_length=1,
    )
    """What the judge is to look at, in your own words."""
    api_key_env: str = Field(
        "OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", title="Variable with the key"
    )
    """Name of the environment variable that holds the API key; unset: no key."""
    prompts: Count = Field(128, title="Prompts asked about")
    """The first of the evaluated prompts; each costs two requests a pair of models."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Of the judge; some models accept 1 only."""
    max_tokens: NonNegativeInt = Field(256, title="Longest answer")
    """Tokens of the judge's answer; 0 leaves it to the endpoint."""
    concurrency: int = Field(4, ge=1, le=64, title="Requests at once")
    """Most requests in flight."""
    timeout_seconds: PositiveFloat = Field(60.0, title="Timeout")
    """Seconds until a request counts as failed."""
    retries: int = Field(4, ge=0, le=10)
    """Further attempts after no answer, 408, 409, 429 or 5xx; longer pauses each."""

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
    """Which prompts, how many samples, and who judges."""

    prompts: Count = 512
    """Drawn from those given, at most as many as there are."""
    samples_per_prompt: Count = Field(4, title="Samples a prompt")
    """Completions of each model."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamplings of the prompts behind each 95% interval."""
    judges: list[JudgeName] = Field(
        ["reward"],
        description="reward and judge: reward models; gold: the embedded world's rule; vader: "
        "sentiment of English; endpoint: a language model behind an API.",
    )
    perplexity: bool = True
    """And bits per byte, on held-out texts and demonstrations where there are some."""
    perplexity_texts: Count = Field(1000, title="Texts for perplexity")
    """Most of each kind that are read."""
    references: bool = Field(False, title="BLEU and ROUGE")
    """Against the completions given with the prompts; every prompt needs one."""
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
    """Prompts on which both models answer, at most as many as there are."""
    samples_per_prompt: Count = Field(4, title="Samples a prompt")
    """Completions of each model."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamplings of the prompts behind each 95% interval."""
    judge: Literal["auto", "gold", "judge"] = Field(
        "auto",
        description="Who judges the gain: the gold judge of the embedded world, or the held-out "
        "second reward model. Auto takes the gold judge where there is one.",
    )
    max_kl_to_reference: PositiveFloat = Field(10.0, title="Largest KL to reference")
    """Nats a completion, to its own SFT model. Raise it for long ones."""
    min_length_ratio: PositiveFloat = Field(0.7, title="Smallest length ratio")
    """Mean completion length in tokens, challenger over champion."""
    max_length_ratio: PositiveFloat = Field(1.4, title="Largest length ratio")
    """Mean completion length in tokens, challenger over champion."""
    min_eos_ratio: PositiveFloat = Field(0.8, title="Smallest EOS ratio")
    """Share of completions that end by themselves, challenger over champion."""
    min_distinct_2_ratio: PositiveFloat = Field(0.8, title="Smallest distinct-2 ratio")
    """Without a gold judge: distinct-2 of all completions, over the champion's."""
    min_matched_distinct_2_ratio: PositiveFloat = Field(
        0.7, title="Smallest matched distinct-2 ratio"
    )
    """With a gold judge: distinct-2 of matched good completions."""
    min_matched_completions: Count = Field(100, title="Fewest matched completions")
    """With a gold judge: matched good completions of each model; fewer, rejected."""

    @model_validator(mode="after")
    def _length_bounds_are_ordered(self) -> "PromotionConfig":
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio {self.min_length_ratio} is not below max_length_ratio "
                f"{self.max_length_ratio}; choose bounds around 1, such as 0.7 and 1.4"
            )
        return self
