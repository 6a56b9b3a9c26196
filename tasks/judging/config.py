"""The configs of evaluation: decisions (verdict and promotion), and any models side by side."""

import re

from pydantic import Field, NonNegativeInt, PositiveFloat, field_validator, model_validator

from models.config import Config, Count
from models.evaluation.config import Bounds, MeasuringConfig
from tasks.judging.judges import Decider, JudgeName


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


def _want_endpoint(endpoint: EndpointConfig) -> None:
    if not (endpoint.url and endpoint.model):
        raise ValueError(
            f"judges name endpoint, but endpoint.url is {endpoint.url!r} and endpoint.model is "
            f"{endpoint.model!r}; give both, or leave endpoint out"
        )


class EvaluationConfig(Bounds, MeasuringConfig):
    """A policy against its SFT model or the champion: how it is measured, who decides, bounds."""

    judge: Decider = "auto"
    """Who decides; auto: the gold judge if there is one, else the held-out reward model."""
    endpoint: EndpointConfig = Field(default_factory=EndpointConfig, title="Endpoint judge")

    @model_validator(mode="after")
    def _judge_is_complete(self) -> "EvaluationConfig":
        if self.judge == "endpoint":
            _want_endpoint(self.endpoint)
        return self


class EvaluateModelsConfig(MeasuringConfig):
    """How many prompts and samples, and which judges."""

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
        if "endpoint" in self.judges:
            _want_endpoint(self.endpoint)
        return self
