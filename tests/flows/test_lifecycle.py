"""How a flow ends: in its state, in its report, in the list of runs; and what an approval asks."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import State, flow

from flows import lifecycle
from flows.lifecycle import (
    Approval,
    Cancellation,
    Conclusion,
    ask_before_ppo,
    cancellable,
    concluding,
)
from flows.preferences import LearnedPreferences
from flows.promotion import _conclude
from models.errors import DataError
from tasks.promotion.promotion import Promotion
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun


def ended(state: State[Any], api: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The flow run and its cards by key."""
    run_id = str(state.state_details.flow_run_id)
    asked = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
    cards = httpx.post(f"{api}/artifacts/filter", json=asked, timeout=10).json()
    run = httpx.get(f"{api}/flow_runs/{run_id}", timeout=10).json()
    return run, {one["key"]: one for one in cards}


@pytest.mark.usefixtures("home")
def test_flow_that_fails_says_the_cause_and_the_remedy_first(prefect_server: str) -> None:
    @flow
    @cancellable
    def fails() -> None:
        raise DataError("rows.jsonl holds no rows; give some")

    run, cards = ended(fails(return_state=True), prefect_server)
    assert run["state"]["name"] == "Failed"
    assert cards["report"]["description"] == "failed: rows.jsonl holds no rows; give some"
    assert "progress" not in cards
    assert run["tags"] == []


@pytest.mark.usefixtures("home")
def test_flow_that_a_person_ended_is_cancelled_in_their_words(prefect_server: str) -> None:
    @flow
    @cancellable
    def ends() -> None:
        raise Cancellation("Ann ended the run before PPO: no note")

    run, cards = ended(ends(return_state=True), prefect_server)
    assert run["state"]["name"] == "Cancelled"
    assert run["state"]["message"] == cards["report"]["description"]
    assert cards["report"]["description"] == "Ann ended the run before PPO: no note"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("rejected", "name"), [(False, "Completed"), (True, "Rejected")])
def test_flow_ends_with_what_it_came_to_and_gives_its_result(
    prefect_server: str, rejected: bool, name: str
) -> None:
    @flow
    @cancellable
    @concluding(lambda number: Conclusion(headline=f"came to {number}", rejected=rejected))
    def counts() -> int:
        return 3

    state = counts(return_state=True)
    run, cards = ended(state, prefect_server)
    assert state.result() == 3
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", name)
    assert run["state"]["message"] == cards["report"]["description"] == "came to 3"
    assert run["tags"] == ["verdict: came to 3"]
    assert set(cards) == {"report"}


@pytest.mark.parametrize(
    ("result", "gates", "headline", "rejected"),
    [
        ("promoted", Conclusion(headline="accepted, gold", rejected=False),
         "promoted: accepted, gold", False),
        ("rejected", Conclusion(headline="rejected, gold", rejected=True), "rejected, gold", True),
        ("rejected", Conclusion(headline="accepted, gold", rejected=False),
         "rejected: Ann refused it", True),
        ("unchanged", None, "unchanged: Ann refused it", False),
    ],
)  # fmt: skip
def test_promotion_ends_with_the_gates_or_with_a_persons_answer(
    monkeypatch: pytest.MonkeyPatch, result: Any, gates: Any, headline: str, rejected: bool
) -> None:
    monkeypatch.setattr("flows.promotion.conclude_decision", lambda _: gates)
    promotion = Promotion(
        result=result, name="toy", champion="1", previous="", reasons=["Ann refused it"],
        evidence="e" * 64 if gates else "",
    )  # fmt: skip
    assert _conclude(promotion) == Conclusion(headline=headline, rejected=rejected)


@pytest.mark.parametrize("weak", [False, True])
def test_question_before_ppo_shows_the_finding_and_five_numbers(
    home: Path, monkeypatch: pytest.MonkeyPatch, weak: bool
) -> None:
    asked: list[str] = []

    def answer(*, wait_for_input: Any, timeout: int, key: str) -> Approval:
        asked.append(wait_for_input._description)
        return Approval(approve=not weak, your_name="Ann")

    monkeypatch.setattr(lifecycle, "suspend_flow_run", answer)
    monkeypatch.setattr(lifecycle, "record_approval", lambda *_, **__: None)
    folder = home / "store" / "reward-quality" / ("b" * 64)
    folder.mkdir(parents=True)
    weaknesses = ["It is no better than length."] if weak else []
    (folder / "results.json").write_text(json.dumps({"weaknesses": weaknesses}))
    names = ("accuracy", "accuracy_low", "accuracy_high", "longer_wins_accuracy", "loss")
    quality = {"over_longer_wins": 0.4, "ece": 0.05, "gold_best_of_n_gain": 0.1, "pairs": 300.0}
    learned = LearnedPreferences(
        preferences=StageRef(stage="prepare", digest="c" * 64, metrics={}),
        reward=StageRef(
            stage="reward", digest="a" * 64, metrics={f"reward/{one}": 0.5 for one in names}
        ),
        quality=StageRef(
            stage="reward-quality",
            digest="b" * 64,
            metrics={f"reward_quality/{name}": value for name, value in quality.items()},
        ),
        judge=None,
        stages=[],
    )
    pipeline = PipelineRun(name="p", preset="quickstart", seed=0, run_id="")
    if weak:
        with pytest.raises(Cancellation, match="Ann ended the run before PPO: no note"):
            ask_before_ppo(learned, pipeline)
        assert "**Too weak for PPO.** It is no better than length." in asked[0]
    else:
        ask_before_ppo(learned, pipeline)
        assert "**Strong enough for PPO:**" in asked[0]
    rows = [line for line in asked[0].splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 5
    assert rows[0] == "| held-out pair accuracy [95%] | 0.500 [0.500, 0.500] |"


def test_fields_of_an_approval_are_called_as_the_form_calls_them() -> None:
    """Prefect's messages name the field, the form shows its title."""
    for name, field in Approval.model_fields.items():
        assert name.replace("_", " ") == str(field.title).lower()
