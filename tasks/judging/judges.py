"""Judges: whoever says which completion is better, behind two small interfaces.

A *pointwise* judge gives every sample a number; win rates compare the numbers. A *pairwise* judge
is shown two completions of one prompt and prefers one. To add a judge, write one of the two and
name it in `make_judges`.

    reward, judge   a reward model; "judge" is a second one that training never saw
    gold            the embedded world's own rule (tasks/world/judge.py)
    vader           sentiment of English text, -1 to 1
    endpoint        a language model behind an OpenAI-compatible API (tasks/judging/endpoint.py)
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, ParameterError
from models.evaluation.config import EvaluateModelsConfig, JudgeName
from models.evaluation.measures import ModelSamples
from tasks.judging.interface import Content, text_of

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two completions of one prompt, as texts."""

    prompt: Content
    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdicts:
    """What a pairwise judge said.

    Attributes:
        preference: 1 where the first completion is better, 0 where the second is, 0.5 for a tie,
            NaN where no answer could be read, (pairs,).
        facts: How far the judge can be trusted, such as the share of answers that followed the
            position; names to numbers, none infinite.
    """

    preference: Floats
    facts: Mapping[str, float] = field(default_factory=dict)


class PointwiseJudge(Protocol):
    """Anyone who gives a completion a number, the better the higher."""

    def score(self, prompts: Sequence[Content], samples: ModelSamples, model: Path) -> Floats:
        """Score every sample of a model, (prompts, samples); `model` is its folder."""


@runtime_checkable
class PairwiseJudge(Protocol):
    """Anyone who prefers one of two completions."""

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        """Compare each pair, in the order that was given."""

    def close(self) -> None:
        """Let go of connections."""


class RewardJudge:
    """A reward model: the one that PPO maximised, or a second one that it never saw."""

    def __init__(self, folder: Path, device: str) -> None:
        """Load it from its folder."""
        from models.evaluation.model_samples import RewardScorer  # imports torch

        self._scorer = RewardScorer(folder, device)

    def score(self, prompts: Sequence[Content], samples: ModelSamples, model: Path) -> Floats:
        """The score head's number at the last token of each sample."""
        return self._scorer.score(prompts, samples, model)


class GoldJudge:
    """The rule of the embedded world, 0 to 1; see `tasks/world/judge.py` for the formula."""

    def __init__(self, prompts: Sequence[Content]) -> None:
        """Refuse prompts of another world before anything is sampled.

        Raises:
            DataError: A prompt is none of the embedded world's.
        """
        from tasks.world.families import known_prompts

        known = known_prompts()
        strange = [text for text in (text_of(one, "user") for one in prompts) if text not in known]
        if strange:
            raise DataError(
                f"the gold judge knows only prompts of the embedded world; got {len(strange)} of "
                f"{len(prompts)} others, such as {strange[0][:80]!r}; take the prompts of a preset "
                "on the world, such as quickstart, or leave gold out of judges"
            )

    def score(self, prompts: Sequence[Content], samples: ModelSamples, model: Path) -> Floats:
        """correct * (0.5 + 0.25 tone + 0.25 brevity), 0 for what did not end by itself."""
        from tasks.world.judge import judge

        return np.array(
            [
                [
                    judge(text_of(prompt, "user"), text, bool(finished)).score
                    for text, finished in zip(texts, ends, strict=True)
                ]
                for prompt, texts, ends in zip(
                    prompts, samples.texts, samples.finished, strict=True
                )
            ]
        )


class VaderJudge:
    """Sentiment of English completions by a lexicon and rules: VADER's compound score, -1 to 1.

    The completion alone is judged. Long texts go to the ends of the scale: the sum of all words'
    valences is squashed, x / sqrt(x² + 15).

    Source:
        Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
        Media Text (2014).
    """

    def __init__(self) -> None:
        """Load the lexicon.

        Raises:
            ParameterError: The package is not installed.
        """
        try:
            vader: Any = importlib.import_module("vaderSentiment.vaderSentiment")
        except ImportError as error:
            raise ParameterError(
                "judges name vader, but the package vaderSentiment is not installed; install it "
                "with: pip install vaderSentiment"
            ) from error
        self._polarity: Callable[[str], Mapping[str, float]] = (
            vader.SentimentIntensityAnalyzer().polarity_scores
        )

    def score(self, prompts: Sequence[Content], samples: ModelSamples, model: Path) -> Floats:
        """The compound score of each text; 0 of an empty one."""
        return np.array(
            [[self._polarity(text)["compound"] for text in texts] for texts in samples.texts]
        )


def make_judges(
    config: EvaluateModelsConfig,
    prompts: Sequence[Content],
    *,
    reward_models: Mapping[str, Path],
    device: str,
    answers: Path,
) -> dict[str, PointwiseJudge | PairwiseJudge]:
    """Make every judge that is asked for, before anything is sampled: what is missing shows now.

    Args:
        config: Names of the judges, and how to reach the endpoint.
        prompts: What will be judged.
        reward_models: Folders of the reward models by judge, "reward" and "judge".
        device: Where reward models run.
        answers: Folder that outlives a crash, for answers that were paid for.

    Raises:
        ParameterError: A judge lacks its model or its package.
        DataError: A judge cannot judge these prompts.
    """
    made: dict[str, PointwiseJudge | PairwiseJudge] = {}
    for name in config.judges:
        if name == "gold":
            made[name] = GoldJudge(prompts)
        elif name == "vader":
            made[name] = VaderJudge()
        elif name == "endpoint":
            from tasks.judging.endpoint import EndpointJudge

            made[name] = EndpointJudge(config.endpoint, answers / "endpoint-answers.jsonl")
        else:
            made[name] = _reward_judge(name, reward_models, device)
    return made


def _reward_judge(name: JudgeName, folders: Mapping[str, Path], device: str) -> Any:
    if name not in folders:
        raise ParameterError(
            f"judges name {name}, but no {name} model was given; name one, such as "
            f"{name}/3fa81c2b or models:/NAME@ALIAS, or leave {name} out of judges"
        )
    return RewardJudge(folders[name], device)
