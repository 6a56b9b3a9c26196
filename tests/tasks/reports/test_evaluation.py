"""The pages of evaluations by hand: verdict, promotion, models side by side."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from models.evaluation.config import Bounds
from models.evaluation.evaluation import Decision, Evaluation, summarise
from models.evaluation.result import EvaluationResult
from models.rows import write_rows
from tasks.reports.evaluation import challenge_page, evaluation_page, models_page
from tasks.results.curves import append_history
from tasks.run.spec import Page, Result
from tests.models.evaluation.by_hand import (
    BOOTSTRAP,
    NAN,
    PPO_IDS,
    SFT_IDS,
    compared,
    compared_samples,
    decided,
    evaluation,
    gold,
    make,
)

ZEROS = [[0.0] * 2] * 2


def result_of(folder: Path, record: EvaluationResult, both: Evaluation, **inputs: Path) -> Result:
    record.write(folder)
    write_rows(folder / "samples.jsonl", both.rows())
    return Result(folder=folder, metrics={}, parameters={}, inputs=inputs)


def page_of(folder: Path, record: EvaluationResult, **inputs: Path) -> Page:
    (folder / "plots").mkdir()
    both = evaluation(*compared_samples(gold(), gold()))
    return evaluation_page(result_of(folder, record, both, **inputs), folder / "plots")


def test_page_has_the_verdict_and_the_table(tmp_path: Path) -> None:
    page = page_of(tmp_path, compared())
    lines = page.markdown.splitlines()
    assert lines[0] == "**Verdict: not enough prompts**"
    assert page.tags == {"quartet.verdict": "not enough prompts"}
    assert page.on_pipeline
    assert "- **failed**: Measured on 2 held-out prompts, fewer than the 30 needed." in lines
    assert "- passed: All scores and KL estimates are finite." in lines
    assert "| measure | SFT | PPO | gain [95% interval] | at equal length and ending |" in lines
    assert "| gold score (0 to 1) | 0.500 | 0.875 | +0.375 [+0.250, +0.500] | – |" in lines
    assert "| length (tokens) | 2.8 | 3.0 | +0.250 [+0.000, +0.500] (× 1.09) | – |" in lines
    assert "| distinct-2 (tokens) | 1.000 | 0.500 | – (× 0.50) | – |" in lines
    refusal = "| refused what must be refused (share) | 0.500 | 1.000 | +0.500 [no interval] | – |"
    assert refusal in lines
    assert "on 2 prompts (fewer than 512), 2 samples" in page.markdown
    assert "at equal length and ending by a regression over them" in page.markdown
    assert "The gold judge prefers PPO's sample to SFT's in 0.812 of the pairs" in page.markdown
    assert "| prompt 0 | 1 2 0 | 1 2 0 |" in lines  # the first sample of each
    assert "| prompt 1 | 5 6 7 | 1 2 0 |" in lines


def test_page_names_the_held_out_reward_model(tmp_path: Path) -> None:
    sft = make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]], judge=[[0.0, 0.0], [1.0, 1.0]])
    ppo = make(PPO_IDS, [[2.0, 3.0], [3.0, 6.0]], judge=[[1.0, 0.0], [1.0, 3.0]])
    text = page_of(tmp_path, decided(sft, ppo, "judge")).markdown
    row = "| score (held-out reward model) | 0.500 | 1.250 | +0.750 [+0.500, +1.000] | – |"
    assert row in text.splitlines()
    assert "The held-out reward model prefers PPO's sample to SFT's in 0.750" in text


def test_page_marks_failed_checks_and_dashes_what_was_not_measured(tmp_path: Path) -> None:
    text = page_of(tmp_path, compared(min_matched_completions=100)).markdown
    assert "- **failed**: Only 4 good completions" in text
    nothing = gold(ZEROS, [[False] * 2] * 2)
    silent = make([[[], []], [[], []]], [[0.0, NAN], [0.0, 0.0]], nothing)
    (tmp_path / "silent").mkdir()
    lines = page_of(tmp_path / "silent", decided(silent, silent, "gold")).markdown.splitlines()
    assert "| distinct-2 (tokens) | – | – | – | – |" in lines
    assert "| score (reward model) | – | – | – | – |" in lines


def test_page_draws_what_its_inputs_have(tmp_path: Path) -> None:
    names = [one.name for one in page_of(tmp_path, compared()).pictures]
    assert names == ["scores.png", "lengths.png", "gain_length.png"]
    policy = tmp_path / "policy"
    policy.mkdir()
    curve = {"ppo/objective/score": 0.5, "ppo/objective/kl_to_reference": 1.0, "ppo/loss": 1.0}
    for step in (1, 2):
        append_history(policy, curve, step)
    (tmp_path / "again").mkdir()
    page = page_of(tmp_path / "again", compared(), policy=policy)
    names = [one.name for one in page.pictures]
    assert names == ["losses.png", "score_kl.png", "scores.png", "lengths.png", "gain_length.png"]
    assert all(one.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for one in page.pictures)


def renamed(one: Any, **names: str) -> Any:
    """An evaluation or record whose models have other names."""
    rates = {
        judge: dataclasses.replace(
            rates,
            models=tuple(names.values()),
            intervals={tuple(names[m] for m in pair): v for pair, v in rates.intervals.items()},
            prompts={tuple(names[m] for m in pair): v for pair, v in rates.prompts.items()},
        )
        for judge, rates in one.rates.items()
    }
    judged = {names[model]: samples for model, samples in one.judged.items()}
    return dataclasses.replace(one, rates=rates, judged=judged)


@pytest.mark.parametrize("opponent", ["champion", "SFT model"])
def test_promotion_names_the_opponent(tmp_path: Path, opponent: str) -> None:
    both = renamed(evaluation(*compared_samples()), sft=opponent, ppo="challenger")
    decision = Decision(
        baseline=opponent, model="challenger", judge="reward", bounds=Bounds(), alarms={}
    )
    record = summarise(both, BOOTSTRAP, decision=decision)
    page = challenge_page(result_of(tmp_path, record, both), tmp_path)
    called = "the champion" if opponent == "champion" else opponent
    assert page.title == f"Challenger against {opponent}"
    assert page.markdown.startswith("**Promotion: not enough prompts**")
    assert f"| measure | {called} | the challenger | gain" in page.markdown
    assert f"Distinct-2 is 0.500 of {called}'s, less than the 0.8 wanted." in page.markdown
    assert not page.on_pipeline


def test_models_stand_side_by_side_whatever_they_are_called(tmp_path: Path) -> None:
    both = renamed(evaluation(*compared_samples()), sft="prompt", ppo="b|c")
    record = summarise(both, BOOTSTRAP, reference="prompt")
    text = models_page(result_of(tmp_path, record, both), tmp_path).markdown
    assert "| measure | prompt | b\\|c |" in text
    assert "KL is to prompt." in text
    assert "### Win rates under the reward model" in text
    # 1, 1 against 0, 1: 3 of 4; 3, 4 against 2, 5: 2 of 4; of the row over the column
    assert "| prompt | – | 0.375 [" in text
    assert "| prompt 1 | 5 6 7 | 1 2 0 |" in text


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (
            {"items": 30, "judged": 28, "votes": 40, "tied_votes": 4, "raters": 2,
             "prefers_first": 0.5, "prefers_first_low": 0.4, "prefers_first_high": 0.6},
            "ties without a question; 28 of 30 others were judged by 2 raters, blind: 40 votes, 4 "
            "of them ties.\n\n**Position bias:** 50.0% [40.0%, 60.0%] of the votes that were no "
            "ties went to the completion shown first.",
        ),
        (
            {"unreadable_answers": 3, "unreadable_pairs": 2, "follows_position": 0.1,
             "follows_position_low": 0.05, "follows_position_high": 0.2, "prefers_first": 0.1,
             "prefers_second": 0.0, "agrees_with_itself": 0.9},
            "ties without a question; the others were shown in both orders. 3 answers could not be "
            "read, which leaves 2 pairs out.\n\n**Position bias:** in 10.0% [5.0%, 20.0%]",
        ),
        ({}, "40 pairs of completions, 10 of them equal and so ties without a question."),
    ],
)  # fmt: skip
def test_how_a_judge_of_pairs_answered_is_told(
    facts: dict[str, float], wanted: str, tmp_path: Path
) -> None:
    both = evaluation(*compared_samples())
    record = summarise(both, BOOTSTRAP)
    (rates,) = record.win_rates.values()
    told = dataclasses.replace(
        record,
        win_rates={"people": rates},
        facts={"people": {"pairs": 40, "equal_pairs": 10} | facts},
    )
    assert wanted in models_page(result_of(tmp_path, told, both), tmp_path).markdown
