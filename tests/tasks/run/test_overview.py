"""The report and the bar of a flow run: what they say while it runs, and how it ended."""

from collections.abc import Iterator

import pytest

from tasks.results.store import StageRef
from tasks.run import overview as module
from tasks.run.overview import Overview, duration, overview, shown_overview


class Shown:
    """Stands in for cards: what each of them shows."""

    def __init__(self) -> None:
        self.cards: dict[str, tuple[str | float, str]] = {}
        self.tags: list[str] = []

    def card(self, key: str, kind: str) -> "Shown.Card":
        return Shown.Card(self, key)

    class Card:
        """One of them."""

        def __init__(self, shown: "Shown", key: str) -> None:
            self._shown, self._key = shown, key

        def show(self, data: str | float, description: str) -> None:
            self._shown.cards[self._key] = (data, description)

        def remove(self) -> None:
            self._shown.cards.pop(self._key, None)

    @property
    def report(self) -> str:
        return str(self.cards["report"][0])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()
    monkeypatch.setattr(module, "Card", shown.card)
    monkeypatch.setattr(module, "_tag_run", shown.tags.append)
    return shown


@pytest.fixture
def page(shown: Shown) -> Iterator[Overview]:
    with shown_overview() as page:
        yield page


def ref(stage: str, *, reused: bool = False, **metrics: float) -> StageRef:
    return StageRef(stage=stage, digest="d" * 64, reused=reused, seconds=2.0, metrics=metrics)


def test_overview_is_there_at_once_and_shows_each_stage(shown: Shown, page: Overview) -> None:
    assert shown.cards["report"] == ("started", "started")
    page.belongs_to("a | run", "http://m/#/runs/1", "why\nnot")
    overview().link("prepare", "http://m/#/runs/2")
    overview().end_stage(ref("prepare", reused=True))
    overview().begin("sft")
    overview().link("sft", "http://m/#/runs/3", page="/artifacts/artifact/4")
    assert shown.cards["report"][1] == "running: stage 2"
    page.end_stage(ref("sft", **{"sft/heldout_perplexity": 3.456}))
    lines = shown.report.splitlines()
    assert lines[0].strip() == "Note: why not"
    assert lines[1] == r"Run in MLflow: [a \| run](http://m/#/runs/1)"
    assert lines[-2:] == [
        "| prepare | reused | 2.0 | [MLflow](http://m/#/runs/2) |  |",
        "| sft | new | 2.0 | [MLflow](http://m/#/runs/3), [report](/artifacts/artifact/4) | "
        "held-out perplexity 3.46 |",
    ]


def test_overview_ends_with_the_verdict_first_and_tags_the_run(
    shown: Shown, page: Overview
) -> None:
    page.begin("evaluate")
    page.add_text("evaluate", "The evaluation.")
    page.end_stage(ref("evaluate"))
    page.add_model("models:/toy-policy/1", "http://m/#/models/1")
    page.add_model("models:/toy-policy/1", "http://m/#/models/1")
    page.end("accepted, gold +0.1 [+0.0, +0.2]", tag=True, done=True)
    text, description = shown.cards["report"]
    assert description == r"accepted, gold +0.1 \[+0.0, +0.2\]"
    assert str(text).startswith(
        "Registered models: [models:/toy-policy/1](http://m/#/models/1)\n\nThe evaluation.\n\n| st"
    )
    assert "progress" not in shown.cards
    assert shown.tags == ["accepted, gold +0.1 [+0.0, +0.2]"]


def test_overview_of_a_run_that_fails_says_why_and_where(shown: Shown, page: Overview) -> None:
    page.begin("sft")
    page.move("sft", 0.4, "sft: step 4 of 10")
    page.end("failed: no rows; give some")
    assert shown.cards["report"][1] == "failed: no rows; give some"
    assert "| sft | not finished |" in shown.report
    assert shown.cards["progress"] == (40.0, "stage 1: sft: step 4 of 10")
    assert shown.tags == []


def test_overview_shows_the_plan_before_anything_runs_and_last_in_the_end(
    shown: Shown, page: Overview
) -> None:
    page.expect([("sft", 30.0)], "about 1 minute")
    assert shown.report == "**Plan**\n\nabout 1 minute"
    page.begin("sft")
    page.end_stage(ref("sft"))
    page.end("completed", done=True)
    assert shown.report.endswith("| sft | new | 2.0 |  |  |\n\n**Plan**\n\nabout 1 minute")


def test_bar_is_that_of_all_stages_by_the_seconds_they_take(shown: Shown, page: Overview) -> None:
    page.expect([("prepare", 0.0), ("sft", 30.0), ("ppo", 70.0)])
    page.move("sft", 0.5, "sft: step 5 of 10")
    # 15 of 100 s are done
    assert shown.cards["progress"] == (
        15.0, "stage 2 of 3: sft: step 5 of 10; about 85 s left in all"
    )  # fmt: skip
    page.move("sft", 0.5, "half", 20.0)  # slower than planned: 20 s and the 70 s of PPO
    assert shown.cards["progress"][1] == "stage 2 of 3: half; about 90 s left in all"
    page.move("ppo", 1.0, "ppo: done")
    assert shown.cards["progress"][0] == 100.0
    page.expect([("prepare", 0.0)])
    page.move("prepare", 0.5, "half")
    assert shown.cards["progress"] == (50.0, "stage 1 of 1: half")


def test_bar_without_known_lengths_counts_stages_and_gives_no_time(
    shown: Shown, page: Overview
) -> None:
    page.expect([("prepare", 0.0), ("sft", None), ("ppo", None)])
    page.move("ppo", 0.5, "ppo: step 5 of 10")
    # one and a half of two stages that are not reused
    assert shown.cards["progress"] == (75.0, "stage 3 of 3: ppo: step 5 of 10")


def test_stages_of_several_rounds_have_their_places_and_the_last_page_stays(
    shown: Shown, page: Overview
) -> None:
    page.expect([("sft", 10.0), ("ppo", 20.0), ("evaluate", 0.0), ("ppo", 20.0)])
    for number in (1, 2):
        page.begin("ppo")
        page.move("ppo", 0.5, "half")
        # 10 + 10 of 50 s in the first round, 10 + 20 + 10 in the second
        assert shown.cards["progress"][0] == (40.0 if number == 1 else 80.0)
        page.add_text("evaluate", f"Round {number}.")
        page.end_stage(ref("ppo"))
    assert "Round 2." in shown.report
    assert "Round 1." not in shown.report


def test_overview_outside_a_flow_run_is_silent(shown: Shown) -> None:
    overview().begin("sft")
    overview().end_stage(ref("sft"))
    overview().end("done", tag=True, done=True)
    assert shown.cards == {}
    assert shown.tags == []


def test_overview_is_forgotten_after_its_run(shown: Shown) -> None:
    with shown_overview() as page:
        assert overview() is page
    assert not overview().shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7 s"), (99, "99 s"), (150, "2 min"), (7200, "2.0 h")]
)
def test_duration_is_said_in_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
