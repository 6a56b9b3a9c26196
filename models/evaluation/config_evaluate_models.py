"""What the evaluation of any models on any prompts can be told."""

import re
from typing import Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from models.config import Config

JudgeName: TypeAlias = Literal["reward", "judge", "gold", "vader", "endpoint"]


class EndpointConfig(Config):
    """A language model behind an OpenAI-compatible API, asked which of two completions is better.

    Its key comes from the environment of the process that asks, never from here.
    """

    url: str = Field(
        default="",
        title="Address",
        description="Base address up to /v1, such as http://127.0.0.1:8000/v1.",
    )
    model: str = Field(
        default="", title="Model", description="The judge's name, as its endpoint knows it."
    )
    criteria: str = Field(
        default="Which completion answers the prompt better: helpful, true, harmless, to the "
        "point? Length alone is no merit.",
        min_length=1,
        title="Criteria",
        description="What the judge is to look at, in your own words.",
    )
    api_key_env: str = Field(
        default="OPENAI_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        title="Variable with the key",
        description="Name of the environment variable that holds the API key; unset: no key.",
    )
    prompts: int = Field(
        default=128,
        ge=1,
        title="Prompts asked about",
        description="The first of the evaluated prompts; each costs two requests a pair of models.",
    )
    temperature: float = Field(
        default=0.0,
        ge=0,
        le=2,
        title="Temperature",
        description="Of the judge; some models accept 1 only.",
    )
    max_tokens: int = Field(
        default=256,
        ge=0,
        title="Longest answer",
        description="Tokens of the judge's answer; 0 leaves it to the endpoint.",
    )
    concurrency: int = Field(
        default=4, ge=1, le=64, title="Requests at once", description="Most requests in flight."
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, title="Timeout", description="Seconds until a request counts as failed."
    )
    retries: int = Field(
        default=4,
        ge=0,
        le=10,
        title="Retries",
        description="Further attempts after no answer, 408, 409, 429 or 5xx; longer pauses each.",
    )

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

    prompts: int = Field(
        default=512,
        ge=1,
        title="Prompts",
        description="Drawn from those given, at most as many as there are.",
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
    judges: list[JudgeName] = Field(
        default=["reward"],
        title="Judges",
        description="reward and judge: reward models; gold: the embedded world's rule; vader: "
        "sentiment of English; endpoint: a language model behind an API.",
    )
    perplexity: bool = Field(
        default=True,
        title="Perplexity",
        description="And bits per byte, on held-out texts and demonstrations where there are some.",
    )
    perplexity_texts: int = Field(
        default=1000,
        ge=1,
        title="Texts for perplexity",
        description="Most of each kind that are read.",
    )
    references: bool = Field(
        default=False,
        title="BLEU and ROUGE",
        description="Against the completions given with the prompts; every prompt needs one.",
    )
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
