"""The configs of feedback, reward model training and reward model quality."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.config import (
    BatchSize,
    Config,
    Count,
    LearningRate,
    Positive,
    PositiveShare,
    Resamples,
    Share,
    Steps,
)
from models.evaluation.config import EndpointConfig
from models.training.config import FineTuningConfig


class FeedbackConfig(Config):
    """Completions of the SFT model, compared by an annotator and mixed with given preferences."""

    annotator: Literal["none", "simulated", "people", "endpoint"] = "none"
    """none: skip the stage; simulated: the embedded world's annotator; people: those who answer in
    MLflow's review queue, while the run is suspended; endpoint: a language model behind an API."""
    preferences: int = Field(4000, ge=1, le=10_000_000)
    """Training pairs after mixing, annotated and given ones together; with people it follows from
    their answers."""
    annotated_share: PositiveShare = 0.6
    """Share of the training pairs that are two samples of the SFT model."""
    prompts: int = Field(200, ge=1, le=100_000, title="Prompts for people")
    """Prompts whose completions people rate."""
    completions: int = Field(4, ge=2, le=9, title="Completions for people")
    """Completions of each of these prompts; equal ones count once."""
    answered_share: PositiveShare = 1.0
    """Share of the reviews that must be done before the run resumes by itself."""
    rated_twice: Share = Field(0.0, title="Rated twice")
    """Share of these prompts that go to two people, to see how far they agree. Above 0 each of
    QUARTET_RATERS has their own queue; with 0 all share one."""
    without_raters: str = Field("", title="Without raters")
    """People whose labels are left out, separated by commas; the report on feedback names those who
    are far off the others."""
    choose: Literal["random", "disagreement"] = Field("random", title="Choice of prompts")
    """disagreement: from the second round of a loop on, those of several times as many whose
    completions the reward model and the held-out one of the last round disagree about most."""
    endpoint: EndpointConfig = Field(default_factory=EndpointConfig, title="Endpoint annotator")
    """Its criteria are the constitution: what makes one completion better than another."""

    @model_validator(mode="after")
    def _annotator_is_complete(self) -> Self:
        if self.annotator == "endpoint" and not (self.endpoint.url and self.endpoint.model):
            raise ValueError(
                f"annotator is endpoint, but endpoint.url is {self.endpoint.url!r} and "
                f"endpoint.model is {self.endpoint.model!r}; give both, or choose another annotator"
            )
        return self

    @property
    def left_out(self) -> tuple[str, ...]:
        """The people whose labels are left out, in lower case as MLflow compares them."""
        names = (name.strip().lower() for name in self.without_raters.split(","))
        return tuple(sorted({name for name in names if name}))

    @property
    def annotated(self) -> int:
        """Pairs to be annotated."""
        return round(self.preferences * self.annotated_share)

    @property
    def given(self) -> int:
        """Pairs to be taken from the given preferences."""
        return self.preferences - self.annotated


class RewardStageConfig(FineTuningConfig):
    """A Bradley-Terry reward model trained on preferences, initialised from the SFT model."""

    batch_element: Literal["pair", "prompt"] = Field("pair", title="Batch element")
    """pair: each pair alone; prompt: all pairs of a prompt, each completion computed once."""
    batch_size: BatchSize = 64
    """Batch elements, i.e. pairs or prompts, per optimiser step."""
    learning_rate: LearningRate = 5e-4
    """Peak learning rate."""
    moment_samples: int = Field(512, ge=16, le=1_000_000, title="Samples for score moments")
    """SFT completions whose scores give the mean and standard deviation for normalisation."""
    min_score_std: Positive = 0.1
    """Lower bound of that standard deviation, so that noise is not amplified."""
    checkpoint_steps: Steps = 50
    """Optimiser steps between checkpoints."""
    judge_share: float = Field(0.0, ge=0, le=0.8, title="Held-out judge share")
    """Share of prompts whose pairs train a held-out reward model to judge PPO; 0 = none."""


class RewardQualityConfig(Config):
    """Held-out pairs, best-of-n sampling, and the check that can stop before PPO."""

    prompts: Count = Field(128, title="Best-of-n prompts")
    """Held-out prompts for the best-of-n curve, at most as many as there are."""
    best_of: int = Field(16, ge=1, le=64, title="Maximum n")
    """SFT completions per prompt; the curve runs from 1 to n."""
    bins: int = Field(10, ge=1, le=10_000, title="Calibration bins")
    """Bins with equally many held-out pairs, by score difference."""
    bootstrap_resamples: Resamples = 2000
    """Resamples of the prompts for each 95% interval."""
    min_confidence: float = Field(0.53, ge=0.5, lt=1, title="Minimum mean confidence")
    """Mean of sigmoid(|score difference|) over held-out pairs; below it, weak."""
    stop_if_weak: bool = True
    """End before PPO if the reward model is no better than length or noise."""
