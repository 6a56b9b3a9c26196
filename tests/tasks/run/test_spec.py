"""A stage's run says which data and which models made it, by role."""

from pathlib import Path

import pytest

from tasks.catalogue import CATALOGUE, Entry
from tasks.results.store import StageRef
from tasks.run import spec as spec_module
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import Page, Result, StageSpec, live_page, stage_tags

PIPELINE = PipelineRun(name="quickstart-1", preset="quickstart", seed=7, run_id="parent")
SFT = StageRef(stage="sft", digest="a" * 64, run_id="run-sft")
REWARD = StageRef(stage="reward", digest="b" * 64, run_id="run-reward", reused=True)


@pytest.fixture
def tags() -> dict[str, str]:
    spec = StageSpec(
        name="ppo",
        module="tasks.stages.ppo",
        parameters={},
        inputs={"actor": SFT, "reference": SFT, "reward_model": REWARD},
        external={"files": "f" * 64},
    )
    return stage_tags(spec, "d" * 64, PIPELINE, page=lambda run_id: f"#/runs/{run_id}")


def test_stage_tags_name_the_stage_and_its_pipeline(tags: dict[str, str]) -> None:
    assert tags["mlflow.parentRunId"] == "parent"
    assert tags["quartet.kind"] == "stage"
    assert tags["quartet.stage"] == "ppo"
    assert tags["quartet.digest"] == "d" * 64
    assert tags["quartet.preset"] == "quickstart"
    assert tags["quartet.seed"] == "7"


def test_stage_tags_name_digest_and_run_of_each_role(tags: dict[str, str]) -> None:
    assert tags["input.actor"] == tags["input.reference"] == f"sft/{'a' * 64}"
    assert tags["input.actor.run_id"] == tags["input.reference.run_id"] == "run-sft"
    assert tags["input.reward_model"] == f"reward/{'b' * 64}"
    assert tags["input.reward_model.run_id"] == "run-reward"
    assert tags["input.files"] == "f" * 64
    assert "input.files.run_id" not in tags


def test_stage_tags_link_the_runs_that_made_the_inputs(tags: dict[str, str]) -> None:
    note = tags["mlflow.note.content"]
    assert "| actor | [sft](#/runs/run-sft) | `aaaaaaaaaaaa` |" in note
    assert "| reward_model | [reward](#/runs/run-reward) | `bbbbbbbbbbbb` |" in note
    assert f"| files | outside | `{'f' * 64}` |" in note


def test_stage_tags_have_no_empty_table_when_nothing_comes_in() -> None:
    spec = StageSpec(name="prepare", module="tasks.stages.prepare", parameters={})
    tags = stage_tags(spec, "d" * 64, PIPELINE, page=str)
    assert "|" not in tags["mlflow.note.content"]
    assert not [name for name in tags if name.startswith("input.")]


def test_page_of_a_stage_that_trains_is_shown_on_the_card_of_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, ...]] = []

    class Card:
        """Stands in for Prefect's."""

        def __init__(self, key: str, kind: str) -> None:
            self.key = key

        def show(self, data: str, description: str) -> None:
            shown.append((self.key, data, description))

    def view(result: Result, plots: Path) -> Page:
        (plots / "curve.png").write_bytes(b"drawn")
        text = f"{result.folder.name} of {result.parameters['steps']}"
        return Page(title="a_title", markdown=text, pictures=[plots / "curve.png"])

    monkeypatch.setattr(spec_module, "Card", Card)
    spec = StageSpec(name="toy", module="", parameters={"steps": 9}, view=view)
    assert live_page(spec, tmp_path) is None
    monkeypatch.setitem(CATALOGUE, "toy", Entry(title="Toy", live=True))  # type: ignore[arg-type]
    show = live_page(spec, tmp_path)
    assert show is not None
    show()
    picture = "![curve](data:image/png;base64,ZHJhd24=)"  # of b"drawn"
    assert shown == [("toy-report", f"{tmp_path.name} of 9\n{picture}", "a_title")]
