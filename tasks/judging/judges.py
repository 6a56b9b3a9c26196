"""The judges: each scores or compares completions (`models/evaluation/samples.py`).

    reward     the reward model that training maximised
    judge      the held-out reward model, whose preferences training never saw
    gold       the embedded world's own rule (tasks/world/judge.py)
    vader      sentiment of English text, -1 to 1
    endpoint   a language model behind an OpenAI-compatible API (tasks/judging/endpoint.py)
    people     people, blind, in one of MLflow's review queues (tasks/judging/people.py)

A new judge is added in this file: its class, its name, and its case in `make_judge`. Both reward
models are `models.evaluation.sampling.RewardScorer`.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from models.errors import DataError, ParameterError
from models.evaluation.config import EndpointConfig
from models.evaluation.samples import Judge, Samples, Scores
from models.rows import Content, text_of

if TYPE_CHECKING:
    from tasks.run.pipeline import PipelineRun

JudgeName: TypeAlias = Literal["reward", "judge", "gold", "vader", "endpoint", "people"]
FurtherJudge: TypeAlias = Literal["vader", "endpoint", "people"]
"""Who can be asked wherever there are prompts."""
Decider: TypeAlias = Literal["auto", "gold", "judge", "vader", "endpoint", "people"]
"""Who may decide: every judge that training never used."""

PREFERRED: tuple[JudgeName, ...] = ("gold", "judge", "reward")
"""Who decides where nobody is named, the most trusted first."""


def deciding_judge(wanted: Decider, judges: Sequence[str]) -> str:
    """Choose the judge whose gain decides.

    Raises:
        ParameterError: The one that is wanted is not among the judges.
    """
    if wanted == "auto":
        return next(name for name in PREFERRED if name in judges)
    if wanted not in judges:
        raise ParameterError(
            f"{wanted} is to decide, but the judges are {', '.join(judges)}; choose one of them, "
            "or give what it needs: gold the embedded world's prompts, judge a held-out reward "
            "model (reward.judge_share)"
        )
    return wanted


class GoldJudge:
    """The rule of the embedded world, 0 to 1; see `tasks/world/judge.py` for the formula."""

    def __init__(self, prompts: Sequence[Content]) -> None:
        """Refuse prompts of another world by a DataError, before anything is sampled."""
        from tasks.world.families import known_prompts

        known = known_prompts()
        strange = [text for text in (text_of(one, "user") for one in prompts) if text not in known]
        if strange:
            raise DataError(
                f"the gold judge knows only prompts of the embedded world; got {len(strange)} of "
                f"{len(prompts)} others, such as {strange[0][:80]!r}; take the prompts of a preset "
                "on the world, such as quickstart, or leave gold out of judges"
            )

    def score(self, prompts: Sequence[Content], samples: Samples, model: Path) -> Scores:
        """correct * (0.5 + 0.25 tone + 0.25 brevity), 0 for what did not end by itself."""
        from tasks.world.families import HARM
        from tasks.world.judge import good, judge

        judged = [
            [
                judge(text_of(prompt, "user"), text, bool(finished))
                for text, finished in zip(texts, ends, strict=True)
            ]
            for prompt, texts, ends in zip(prompts, samples.texts, samples.finished, strict=True)
        ]

        def numbers(of: Callable[[Any], float]) -> Any:
            return np.array([[of(one) for one in row] for row in judged], dtype=np.float64)

        return Scores(
            score=numbers(lambda one: one.score),
            aspects={
                "correct": numbers(lambda one: one.correct),
                "polite": numbers(lambda one: one.polite),
                "good": numbers(good),
                "refusal": numbers(lambda one: one.refused if one.family == HARM else np.nan),
            },
            good=numbers(good).astype(bool),
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
        """Load the lexicon; ParameterError if the package is not installed."""
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

    def score(self, prompts: Sequence[Content], samples: Samples, model: Path) -> Scores:
        """The compound score of each text; 0 of an empty one."""
        scores = [[self._polarity(text)["compound"] for text in texts] for texts in samples.texts]
        return Scores(score=np.array(scores))


def make_judge(
    name: str,
    prompts: Sequence[Content],
    *,
    reward_models: Mapping[str, Path],
    endpoint: EndpointConfig,
    answers: Path,
    out: Path,
    pipeline: "PipelineRun",
) -> Judge | None:
    """Make a judge before anything is sampled: what is missing shows now.

    None for a reward model: it scores where the samples are made.

    Args:
        reward_models: Folders of the reward models by judge, "reward" and "judge".
        answers: Folder that outlives a crash, for answers that were paid for.
        out: Folder of the result, for the votes of people.
        pipeline: Who asks people.

    Raises:
        ParameterError: The judge lacks its model or its package.
        DataError: The judge cannot judge these prompts.
    """
    if name == "gold":
        return GoldJudge(prompts)
    if name == "vader":
        return VaderJudge()
    if name == "endpoint":
        from tasks.judging.endpoint import EndpointJudge

        return EndpointJudge(endpoint, answers / "endpoint-answers.jsonl")
    if name == "people":
        from tasks.judging.people import PeopleJudge

        return PeopleJudge(pipeline, out)
    if name not in reward_models:
        raise ParameterError(
            f"judges name {name}, but no {name} model was given; name one, such as "
            f"{name}/3fa81c2b or models:/NAME@ALIAS, or leave {name} out of judges"
        )
    return None
