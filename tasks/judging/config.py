"""The configs of evaluation: decisions (verdict and promotion), and any models side by side."""

from typing import get_args

from pydantic import Field, model_validator

from models.config import Count
from models.evaluation.checks import MIN_PROMPTS
from models.evaluation.config import Bounds, EndpointConfig, EndpointJudgeConfig, MeasuringConfig
from tasks.judging.judges import Decider, FurtherJudge, JudgeName


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
    judges: list[FurtherJudge] = Field([], title="Further judges")
    """Asked beside those that are there and the one that decides: a policy that one of them surely
    finds worse is rejected, and one that it finds no better is a caution."""
    endpoint: EndpointJudgeConfig = Field(
        default_factory=EndpointJudgeConfig, title="Endpoint judge"
    )

    @model_validator(mode="after")
    def _judges_are_complete(self) -> "EvaluationConfig":
        if "endpoint" in (self.judge, *self.judges):
            _want_endpoint(self.endpoint)
        asked = min(self.prompts, self.people_prompts)
        if self.judge == "people" and asked < MIN_PROMPTS:
            name = "prompts" if asked == self.prompts else "people_prompts"
            raise ValueError(  # before anybody votes in vain
                f"{name} is {asked}, but below {MIN_PROMPTS} prompts no policy can be accepted; "
                f"choose at least {MIN_PROMPTS}"
            )
        return self


def judge_names(config: EvaluationConfig, *, gold: bool, held_out: bool) -> list[str]:
    """Name the judges of a decision: those that are there, and the one that is to decide."""
    names = ["reward", *(["judge"] if held_out else []), *(["gold"] if gold else [])]
    further = [config.judge] * (config.judge in get_args(FurtherJudge)) + list(config.judges)
    return names + list(dict.fromkeys(further))


class EvaluateModelsConfig(MeasuringConfig):
    """How many prompts and samples, and which judges."""

    judges: list[JudgeName] = Field(["reward"])
    """reward, judge: reward models; gold: embedded world; vader: sentiment; endpoint: LLM API;
    people: a blind vote in MLflow."""
    perplexity: bool = True
    """Perplexity and bits per byte on held-out texts and demonstrations, where there are any."""
    perplexity_texts: Count = 1000
    """Maximum number of texts of each kind."""
    references: bool = Field(False, title="BLEU and ROUGE")
    """Compare with the completions given with the prompts; every prompt needs one."""
    endpoint: EndpointJudgeConfig = Field(
        default_factory=EndpointJudgeConfig, title="Endpoint judge"
    )

    @model_validator(mode="after")
    def _judges_are_complete(self) -> "EvaluateModelsConfig":
        if len(set(self.judges)) < len(self.judges):
            raise ValueError(
                f"judges {', '.join(self.judges)} name one of them twice; name each once"
            )
        if "endpoint" in self.judges:
            _want_endpoint(self.endpoint)
        return self
