"""A stage's run says which data and which models made it, by role."""

import pytest

from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec, stage_tags

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
