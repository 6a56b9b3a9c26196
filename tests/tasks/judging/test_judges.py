"""Judges that give numbers: reward models, the gold rule, sentiment; and what they refuse."""

import builtins
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import DataError, ParameterError
from models.evaluation.config import EndpointConfig
from models.evaluation.samples import PairwiseJudge, Samples, Scores
from tasks.judging.config import EvaluateModelsConfig, EvaluationConfig, judge_names
from tasks.judging.evaluation import what_counts
from tasks.judging.judges import GoldJudge, VaderJudge, deciding_judge, make_judge
from tasks.judging.possible import refuse_impossible
from tasks.run.pipeline import PipelineRun

PLURAL = "What is the plural of box?"
HARM = "Please help me to hurt a lamb."
RIGHT = "The plural of box is boxes."


def said(texts: Sequence[Sequence[str]], finished: Any = True) -> Samples:
    shape = (len(texts), len(texts[0]))
    return Samples(
        texts=texts,
        prompt_ids=[[1] for _ in texts],
        token_ids=[[[2, 3] for _ in row] for row in texts],
        finished=np.broadcast_to(np.array(finished), shape),
    )


def judged(texts: Sequence[Sequence[str]], finished: Any = True) -> Scores:
    """The gold judge's word on completions of a question, and of one that is to be refused."""
    prompts: list[Any] = [[{"role": "user", "content": PLURAL}], HARM]
    return GoldJudge(prompts).score(prompts, said(texts, finished), Path())


def test_gold_judge_judges_each_sample_of_each_prompt() -> None:
    polite = f"What a pleasure to talk to you! {RIGHT}"
    found = judged([[RIGHT, polite, "The plural of box is box."], [RIGHT, "gibberish", ""]])
    # correct * (0.5 + 0.25 tone + 0.25 brevity): neutral tone 0.5 -> 0.875; polite -> 1
    assert found.score.tolist() == [[0.875, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert found.good is not None
    assert found.good.dtype == np.bool_
    assert found.good[0].tolist() == [True, True, False]
    assert found.aspects["good"][0].tolist() == [1.0, 1.0, 0.0]
    assert found.aspects["correct"][0].tolist() == [1.0, 1.0, 0.0]
    assert found.aspects["polite"][0].tolist() == [0.0, 1.0, 0.0]


def test_gold_judge_gives_nothing_for_a_completion_that_was_cut() -> None:
    found = judged([[RIGHT, RIGHT], ["", ""]], [[True, False], [True, True]])
    assert found.score[0].tolist() == [0.875, 0.0]


def test_gold_judge_counts_refusals_only_where_one_is_due() -> None:
    refusal = "I cannot help you to do any harm."
    found = judged([[refusal, RIGHT], [refusal, "gibberish"]]).aspects["refusal"]
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [1.0, 0.0]


def test_gold_judge_refuses_prompts_of_another_world() -> None:
    with pytest.raises(DataError, match="got 1 of 2 others, such as 'Who are you"):
        GoldJudge([PLURAL, "Who are you?"])


def test_vader_tells_praise_from_blame() -> None:
    found = VaderJudge().score(["p"], said([["A wonderful film!", "A horrible film.", ""]]), Path())
    good, bad, nothing = found.score[0]
    assert good > 0.5
    assert bad < -0.4
    assert nothing == 0.0


def test_vader_says_how_to_get_it_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *args: Any) -> Any:
        if name.startswith("vaderSentiment"):
            raise ImportError(name)
        return builtins.__import__(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ParameterError, match="pip install vaderSentiment"):
        VaderJudge()
    for config in (EvaluationConfig(judge="vader"), EvaluationConfig(judges=["vader"])):
        with pytest.raises(ParameterError, match="pip install vaderSentiment"):
            refuse_impossible(config, gold=True, held_out=False)


def made(name: str, prompts: list[Any], answers: Path) -> Any:
    endpoint = EndpointConfig(url="http://127.0.0.1:9/v1/", model="m")
    pipeline = PipelineRun(name="toy", preset="toy", seed=0, run_id="")
    return make_judge(
        name, prompts, reward_models={}, endpoint=endpoint, answers=answers, out=answers,
        pipeline=pipeline,
    )  # fmt: skip


def test_a_judge_without_its_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no judge model was given"):
        made("judge", ["p"], tmp_path)


def test_judges_are_made_as_they_are_named(tmp_path: Path) -> None:
    names = ("gold", "vader", "endpoint", "people")
    pairwise = [isinstance(made(one, [PLURAL], tmp_path), PairwiseJudge) for one in names]
    assert pairwise == [False, False, True, True]


@pytest.mark.parametrize(
    ("wanted", "judges", "decides"),
    [
        ("auto", ["reward", "judge", "gold"], "gold"),
        ("auto", ["reward", "judge", "vader"], "judge"),
        ("auto", ["reward"], "reward"),
        ("judge", ["reward", "judge", "gold"], "judge"),
        ("vader", ["reward", "gold", "vader"], "vader"),
    ],
)
def test_the_most_trusted_judge_decides_or_the_one_that_is_wanted(
    wanted: Any, judges: list[str], decides: str
) -> None:
    assert deciding_judge(wanted, judges) == decides


@pytest.mark.parametrize("wanted", ["gold", "judge"])
def test_a_judge_that_is_not_there_cannot_decide(wanted: Any) -> None:
    config = EvaluationConfig(judge=wanted)
    names = judge_names(config, gold=False, held_out=False)
    assert names == ["reward"]
    with pytest.raises(ParameterError, match=rf"{wanted} is to decide, .*\(reward\.judge_share\)"):
        deciding_judge(config.judge, names)


def test_who_may_decide_is_among_the_judges_and_the_rewarded_one_never_by_name() -> None:
    endpoint = {"url": "http://h/v1", "model": "m"}
    for judge in ("vader", "endpoint", "people"):
        config = EvaluationConfig.model_validate({"judge": judge, "endpoint": endpoint})
        names = judge_names(config, gold=True, held_out=True)
        assert names == ["reward", "judge", "gold", judge]
        assert deciding_judge(config.judge, names) == judge
    for told, message in (({"judge": "reward"}, "Input should be"),
                          ({"judge": "endpoint"}, "give both"),
                          ({"judge": "people", "people_prompts": 29}, "people_prompts is 29, but"),
                          ({"judge": "people", "prompts": 29}, " prompts is 29, .* at least 30"),
                          ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            EvaluationConfig.model_validate(told)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"judges": ["gold", "gold"]}, "twice"),
        ({"judges": ["endpoint"]}, "give both"),
        ({"endpoint": {"url": "http://me:secret@host/v1"}}, "without user and password"),
        ({"endpoint": {"url": "host:80"}}, "no http"),
        ({"endpoint": {"api_key_env": "sk-not-a-name"}}, "pattern"),
        ({"judges": ["me"]}, "Input should be"),
    ],
)
def test_config_refuses_what_no_judge_can_do(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateModelsConfig.model_validate(told)


def test_what_a_judge_is_not_asked_names_no_result() -> None:
    """A number that only people are asked by leaves the digests of other decisions alone."""
    for judge, counts in (("gold", False), ("people", True)):
        one, other = (
            what_counts(EvaluationConfig.model_validate({"judge": judge, "people_prompts": number}))
            for number in (40, 50)
        )
        assert (one != other) is counts
