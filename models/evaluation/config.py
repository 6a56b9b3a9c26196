"""How much is measured, the bounds of a decision, and how to reach a judge behind an API."""

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from models.config import Config, Count, Positive, Resamples, Share


class MeasuringConfig(Config):
    """How many prompts and samples, and how intervals are made."""

    prompts: Count = Field(512, title="Held-out prompts")
    """At most as many as there are, noted if fewer than 512; a decision needs 30."""
    people_prompts: Count = 50
    """How many of the evaluated prompts judge `people` compares; a decision needs 30."""
    samples_per_prompt: int = Field(4, ge=1, le=10_000)
    """Completions of each model; the gold judge's diversity check needs at least 2."""
    bootstrap_resamples: Resamples = 2000
    """Resamples of the prompts for each 95% interval."""


class Bounds(Config):
    """The bounds of a decision: a model against its baseline."""

    min_length_ratio: Positive = 0.5
    """Mean completion length in tokens, model over baseline; rejected below it. Above it the gain
    at equal length decides."""
    max_length_ratio: Positive = 2.0
    """Mean completion length in tokens, model over baseline; rejected above it."""
    min_eos_ratio: Positive = 0.8
    """Share of completions that end with EOS, model over baseline."""
    min_distinct_2_ratio: Positive = Field(0.8, title="Minimum distinct-2 ratio")
    """Without a gold judge: distinct-2 of all completions, model over baseline."""
    min_good_pair_difference: Share = 0.5
    """With a gold judge: probability that two good samples of a prompt differ."""
    min_matched_distinct_2_ratio: Positive = Field(0.7, title="Minimum matched distinct-2 ratio")
    """With a gold judge: distinct-2 of matched good completions, model over baseline."""
    min_matched_completions: Count = 100
    """With a gold judge: matched good completions of each model; rejected if fewer."""

    # On the quickstart accepted policies end at 1 to 2.5 nats, over-optimised ones at 14 to 39.
    # The sum grows with the tokens of a completion: raise the bound for long ones.
    max_kl_to_reference: float | None = Field(10.0, gt=0, le=1e9)
    """Mean nats per completion from the SFT model; rejected above it. Raise it for long ones."""

    @model_validator(mode="after")
    def _length_bounds_are_ordered(self) -> "Bounds":
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio {self.min_length_ratio} is not below max_length_ratio "
                f"{self.max_length_ratio}; choose bounds around 1, such as 0.5 and 2"
            )
        return self


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
    temperature: float = Field(0.0, ge=0, le=2)
    """Temperature of the judge; some models accept only 1."""
    max_tokens: int = Field(256, ge=0, le=1_048_576)
    """Maximum tokens of the judge's answer; 0 = the endpoint's default."""
    concurrency: int = Field(4, ge=1, le=64)
    """Maximum requests in flight."""
    timeout_seconds: float = Field(60.0, gt=0, le=3600, title="Timeout")
    """Seconds until a request counts as failed."""
    retries: int = Field(4, ge=0, le=10)
    """Further attempts after no answer, 408, 409, 429 or 5xx, with growing pauses."""

    @field_validator("url")
    @classmethod
    def _url_is_plain(cls, url: str) -> str:
        if url and not _is_plain(url):
            raise ValueError(  # without the address: it may hold a password
                "the address of the endpoint is no http(s) address without user and password, "
                "? and #; give one such as http://127.0.0.1:8000/v1, and the key in the "
                "environment variable that api_key_env names (OPENAI_API_KEY)"
            )
        return url.rstrip("/")


class EndpointJudgeConfig(EndpointConfig):
    """A language model as a judge of an evaluation."""

    prompts: Count = 128
    """How many of the evaluated prompts are judged; two requests per prompt and model pair."""


def _is_plain(url: str) -> bool:
    """Whether nothing in an address could be a secret, and it can be called."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises if there can be no such port
    except ValueError:
        return False
    return bool(re.fullmatch(r"https?://[^@?#\s\x00-\x20\x7f-\x9f]+", url)) and (
        bool(parts.hostname) and port != 0
    )
