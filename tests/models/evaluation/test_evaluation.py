"""Decisions on two small sets of samples, by each kind of judge, and their record on disk."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from models.evaluation.config import Bounds
from models.evaluation.evaluation import Decision, Evaluation, summarise
from models.evaluation.result import (
    EvaluationResult,
    read_outcome,
    read_result,
    read_samples,
    side_by_side,
)
from models.evaluation.samples import Scores
from models.evaluation.wording import reasons, sentence, verdict_word
from models.rows import write_rows
from models.statistics.intervals import Interval
from models.statistics.win_rates import WinRates
from tests.models.evaluation.by_hand import (
    BOOTSTRAP,
    NAN,
    PPO_IDS,
    SFT_IDS,
    Rows,
    compared,
    compared_samples,
    decided,
    evaluation,
    failed,
    gold,
    make,
)

UNTOLD = (
    "At equal length and ending the gain cannot be told",
    "At equal length and ending there is no gain either: the raw one is no number",
)
ZEROS, ONES = [[0.0] * 2] * 2, [[1.0] * 2] * 2


def said(result: EvaluationResult) -> list[str]:
    """The reasons but those that two prompts are too few."""
    assert result.decided is not None
    first, *others = reasons(result.decided[1], ("SFT", "PPO"))
    assert first == "Measured on 2 held-out prompts, fewer than the 30 needed."
    assert sum(one.startswith(UNTOLD) for one in others) == 1
    return [one for one in others if not one.startswith(UNTOLD)]


def sentences(result: EvaluationResult) -> str:
    return " ".join(said(result))


def test_the_gold_judge_decides_where_it_is_asked() -> None:
    # The reward model's interval reaches down to 0; the gold judge's does not.
    assert failed(compared()) == []
    assert failed(compared(min_matched_completions=5)) == ["matched_distinct_2_ratio"]


def test_two_prompts_are_too_few_whatever_they_show() -> None:
    assert compared().decided is not None
    model, verdict = compared().decided  # type: ignore[misc]
    assert (model, verdict.accepted, verdict_word(verdict)) == ("ppo", False, "not enough prompts")


def test_the_reward_model_decides_where_nobody_else_can() -> None:
    result = decided(*compared_samples())
    assert failed(result) == ["judged_gain", "distinct_2_ratio"]  # 0 not above 0; 0.5 below 0.8
    result = decided(make(SFT_IDS, ZEROS), make(PPO_IDS, ONES), min_distinct_2_ratio=0.5)
    assert failed(result) == []
    assert result.decided is not None
    assert (result.decided[1].independent, result.decided[1].overoptimised) == (False, None)


def second_opinion(sft: Rows, ppo: Rows, gold: Scores | None = None, by: str = "judge") -> Any:
    """Two prompts on which the maximised score rises by 2 and by 1, with a held-out one."""
    return decided(
        make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]], gold, sft),
        make(PPO_IDS, [[2.0, 3.0], [3.0, 6.0]], gold, ppo),
        by,
        min_distinct_2_ratio=0.5,
    )


def test_the_held_out_reward_model_decides() -> None:
    result = second_opinion([[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 3.0]])
    assert failed(result) == []
    assert (result.decided[1].independent, result.decided[1].overoptimised) == (False, False)
    # Prompts 0.5 - 0 and 2 - 1.
    comparison = result.comparisons["ppo"]
    assert comparison.gains["judge_score"] == Interval(mean=0.75, low=0.5, high=1.0)
    assert comparison.ratios["win_rate"] == 0.75  # two of four pairs won on each prompt, two tied


def test_a_rise_that_the_held_out_reward_model_does_not_see_is_over_optimisation() -> None:
    result = second_opinion(ONES, [[0.0, 0.0], [1.0, 0.0]])
    assert failed(result) == ["judged_gain", "overoptimisation"]
    assert said(result)[1] == (
        "The score by the reward model rose by +1.500 [+1.000, +2.000], "
        "the held-out reward model says -0.750 [-1.000, -0.500]: the reward model was "
        "over-optimised."
    )


def test_other_judges_than_the_one_that_decides_are_recorded() -> None:
    result = second_opinion(ZEROS, [[9.0] * 2] * 2, gold(), by="gold")
    assert result.decided[1].overoptimised  # gold did not move while the score rose
    assert result.comparisons["ppo"].gains["judge_score"].mean == 9.0
    assert list(result.win_rates) == ["reward", "judge", "gold"]


@pytest.mark.parametrize(("low", "passes"), [(0.55, True), (0.5, False), (0.45, False)])
def test_a_pairwise_judge_decides_by_its_win_rate(low: float, passes: bool) -> None:
    """Its gain is how often it prefers the model beyond one half."""
    sft, ppo = (make(ids, scores) for ids, scores in ((SFT_IDS, ZEROS), (PPO_IDS, ONES)))
    both = evaluation(sft, ppo)
    interval = Interval(mean=0.9 - low, low=0.8 - low, high=1 - low)  # of SFT over PPO
    pair = ("sft", "ppo")
    rates = WinRates(models=pair, intervals={pair: interval}, prompts={pair: 2})
    asked = dataclasses.replace(
        both, rates={**both.rates, "endpoint": rates}, facts={"endpoint": {"pairs": 2.0}}
    )
    bounds = Bounds(min_distinct_2_ratio=0.5)
    decision = Decision(baseline="sft", model="ppo", judge="endpoint", bounds=bounds, alarms={})
    result = summarise(asked, BOOTSTRAP, decision=decision)
    assert failed(result) == ([] if passes else ["judged_gain"])
    check = result.decided[1].checks[1]  # type: ignore[index]
    assert check.numbers == pytest.approx(
        {"mean": low + 0.1 - 0.5, "low": low - 0.5, "high": low + 0.2 - 0.5}
    )
    assert result.facts == {"endpoint": {"pairs": 2.0}}


def test_kl_and_alarms_reject() -> None:
    sft, ppo = make(SFT_IDS, ZEROS), make(PPO_IDS, ONES)
    # Half of the scores: a KL of 0.5.
    assert said(decided(sft, ppo, min_distinct_2_ratio=0.5, max_kl_to_reference=0.4)) == [
        "Mean KL to the reference is 0.50 nats per completion, more than the 0.4 wanted.",
    ]
    alarmed = decided(sft, ppo, min_distinct_2_ratio=0.5, alarms={"hacking": 3, "length": 0})
    assert said(alarmed) == ["Its training raised alarms: hacking in 3 iterations."]


def test_samples_that_are_all_the_same_reject() -> None:
    sft = make(SFT_IDS, ZEROS, gold(ZEROS))
    one = [[[1, 2, 0], [1, 2, 0]], [[3, 4, 0], [3, 4, 0]]]
    bounds = {"min_matched_completions": 4, "min_matched_distinct_2_ratio": 0.5}
    result = decided(sft, make(one, ONES, gold()), "gold", **bounds)
    assert failed(result) == ["good_pair_difference"]


@pytest.mark.filterwarnings("error")
def test_broken_scores_reject_and_are_named() -> None:
    result = second_opinion([[NAN, 0.0], [0.0, 0.0]], ONES)
    assert "sft's judge_score is nan" in sentences(result)
    for broken in (NAN, math.inf, -math.inf):
        sft = make(SFT_IDS, [[0.0, math.inf], [0.0, 0.0]])
        ppo = make(PPO_IDS, [[1.0, broken], [9.0, 9.0]])
        assert f"ppo's score is {broken}" in sentences(decided(sft, ppo))


@pytest.mark.filterwarnings("error")
def test_nothing_said_rejects_with_reasons() -> None:
    silent = make([[[], []], [[], []]], ZEROS, gold(ZEROS, [[False] * 2] * 2))
    assert failed(decided(silent, silent, "gold")) == [
        "judged_gain", "length_ratio", "good_pair_difference", "matched_distinct_2_ratio",
    ]  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_one_prompt_with_one_sample_rejects() -> None:
    result = decided(make([[[1, 2, 0]]], [[1.0]]), make([[[1, 3, 0]]], [[2.0]]))
    assert failed(result) == ["judged_gain"]
    assert reasons(result.decided[1], ("SFT", "PPO")) == [  # type: ignore[index]
        "Measured on 1 held-out prompts, fewer than the 30 needed.",
        "The gain by the reward model (+1.000) has no finite interval.",
        sentence(result.decided[1].checks[2], result.decided[1], ("SFT", "PPO")),  # type: ignore[index]
    ]


# --- the record ---------------------------------------------------------------------------------


def same(first: Any, second: Any) -> bool:
    """Equal, NaN being equal to NaN."""
    return repr(first) == repr(second)


@pytest.mark.parametrize("which", ["decided", "models only", "broken"])
def test_a_record_is_read_as_it_was_written(tmp_path: Path, which: str) -> None:
    result = compared()
    if which == "models only":
        both = evaluation(*compared_samples())
        further = {"sft": {"bleu": Interval(mean=1.5, low=NAN, high=NAN)}}
        result = summarise(both, BOOTSTRAP, further=further)
        result = dataclasses.replace(result, facts={"endpoint": {"pairs": 4.0}})
        assert result.decided is None
    elif which == "broken":
        result = second_opinion([[NAN, 0.0], [0.0, 0.0]], ONES)
    result.write(tmp_path)
    assert same(dataclasses.asdict(read_result(tmp_path)), dataclasses.asdict(result))
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)  # no NaN
    if result.decided is None:
        with pytest.raises(FileNotFoundError, match="holds no decision"):
            read_outcome(tmp_path)


def test_the_outcome_of_a_record_is_its_verdict_in_sentences(tmp_path: Path) -> None:
    result = second_opinion([[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 3.0]])
    result.write(tmp_path)
    outcome = read_outcome(tmp_path)
    assert (outcome.accepted, outcome.word) == (False, "not enough prompts")
    assert outcome.reasons[:1] == ["Measured on 2 held-out prompts, fewer than the 30 needed."]
    assert outcome.reasons[1].startswith(UNTOLD)
    assert len(outcome.reasons) == 2
    assert (outcome.judge, outcome.independent) == ("held-out reward model", False)
    # Gains 1, 0, 0, 2 of two samples each of two prompts; the checks know no KL.
    assert outcome.headline.startswith("not enough prompts, held-out score +")
    assert {"gain", "gain_low", "gain_high", "length_ratio"} <= outcome.numbers.keys()


def test_rows_are_one_a_completion_and_side_by_side_one_a_prompt(tmp_path: Path) -> None:
    sft, ppo = compared_samples(gold([[0.0, 0.5], [1.0, 0.5]]), gold())
    both: Evaluation = evaluation(sft, ppo)
    write_rows(tmp_path / "samples.jsonl", both.rows())
    rows = read_samples(tmp_path)
    assert len(rows) == 2 * 2 * 2
    assert rows[2] == {
        "model": "sft", "prompt": "prompt 1", "sample": 0, "completion": "5 6 7",
        "scores": {"reward": 2.0, "gold": 1.0}, "tokens": 3, "finished": False,
        "kl_to_reference": 1.0,
    }  # fmt: skip
    assert side_by_side(rows)[0] == {
        "prompt": "prompt 0",
        "sft": "1 2 0", "sft_score": 0.0, "sft_gold": 0.0, "sft_kl_to_reference": 0.0,
        "ppo": "1 2 0", "ppo_score": 1.0, "ppo_gold": 1.0, "ppo_kl_to_reference": 0.5,
    }  # fmt: skip


def test_conversations_that_end_alike_are_told_apart() -> None:
    def conversation(first: str) -> list[dict[str, str]]:
        texts = {"user": first, "assistant": "Shall I?"}
        said = [{"role": role, "content": text} for role, text in texts.items()]
        return [*said, {"role": "user", "content": "Yes please."}]

    both = evaluation(*compared_samples())
    both = dataclasses.replace(both, prompts=[conversation("one"), conversation("two")])
    names = [(row["prompt"], row["conversation"]) for row in both.rows()]
    assert len(set(names)) == 2
    assert {text for text, _ in names} == {"Yes please."}


OLD_ROW = {
    "prompt": "p", "sft": "a", "ppo": "b", "sft_score": 0.5, "ppo_score": 1.5,
    "sft_judge_score": -1.0, "ppo_judge_score": 2.0, "sft_gold": 0.25, "ppo_gold": 1.0,
    "ppo_kl_to_reference": 3.0,
}  # fmt: skip


def test_folders_of_an_older_layout_are_read(tmp_path: Path) -> None:
    told = {"accepted": True, "reasons": ["It gained."], "judge": "gold judge", "independent": True}
    (tmp_path / "verdict.json").write_text(json.dumps(told))
    write_rows(tmp_path / "samples.jsonl", [OLD_ROW, OLD_ROW | {"prompt": "q"}])
    outcome = read_outcome(tmp_path)
    assert (outcome.accepted, outcome.word, outcome.reasons) == (True, "accepted", ["It gained."])
    assert (outcome.judge, outcome.independent) == ("gold judge", True)
    rows = read_samples(tmp_path)
    assert [(row["prompt"], row["model"]) for row in rows] == [
        ("p", "sft"), ("p", "ppo"), ("q", "sft"), ("q", "ppo"),
    ]  # fmt: skip
    assert rows[1]["scores"] == {"reward": 1.5, "judge": 2.0, "gold": 1.0}
    assert side_by_side(rows) == [OLD_ROW, OLD_ROW | {"prompt": "q"}]
    # A promotion's rows, and a verdict of the time before judges had names.
    row = {"prompt": "p", "champion": "a", "challenger": "b", "challenger_score": 1.0}
    write_rows(tmp_path / "samples.jsonl", [row])
    (tmp_path / "verdict.json").write_text(json.dumps({"accepted": False, "reasons": []}))
    assert side_by_side(read_samples(tmp_path)) == [row]
    outcome = read_outcome(tmp_path)
    assert (outcome.word, outcome.judge, outcome.independent) == ("rejected", "", None)
