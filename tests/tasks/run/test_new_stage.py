"""A new stage is a config, a learning, a task and one row of the catalogue; the rest knows it."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field

from models.config import Config
from models.rows import write_rows
from tasks import catalogue
from tasks.catalogue import Card, Curve, Entry, KeyMetric
from tasks.comparison.finding import find_runs
from tasks.comparison.plots import plot_curves
from tasks.comparison.runs import gather
from tasks.registry.lineage import ancestry
from tasks.registry.registration import register
from tasks.registry.versions import find_version
from tasks.reports.lineage import numbers, title
from tasks.reports.training import plot_loss_curves
from tasks.results.curves import read_history
from tasks.results.store import StageRef, Store
from tasks.run import reporting
from tasks.run.exchange import open_published
from tasks.run.pipeline import PipelineRun, open_pipeline
from tasks.run.spec import Page, Result, StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.stages.resolve import find_model
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder

ROW = Entry(
    title="Distillation",
    key_metrics=(KeyMetric(metric="distil/agreement", label="agrees with its teacher"),),
    curves=(Curve(metric="distil/loss", title="Distillation: loss", y="nats per token"),),
    loss_unit="nats per token",
    role="sft",
    also=("base",),
    card=Card(text="A small model that learned from a large one.", tag="distillation"),
    datasets={"prompts": {"prompts_train": "train"}},
)


class DistilConfig(Config):
    """The new stage's parameters."""

    steps: int = Field(default=20, ge=1, title="Steps", description="Optimiser steps.")


def learn_to_distil(work: Workspace, config: DistilConfig) -> Mapping[str, float]:
    """In the place of `models/`: a loss that falls."""
    for step in range(1, config.steps + 1):
        work.log({"distil/loss": 2.0 / step}, step)
    (work.out / "model").mkdir()
    (work.out / "model" / "config.json").write_text("{}")
    return {"distil/agreement": 1.0 - 1.0 / config.steps}


def distil_page(result: Result, plots: Path) -> Page:
    """The new stage's view."""
    losses = {"distil": read_history(result.folder)}
    plot_loss_curves(losses, plots / "losses.png")
    text = f"agreement {result.metrics['distil/agreement']:.2f}"
    return Page(title="What it learned", markdown=text, pictures=[plots / "losses.png"])


@stage_task("distil")
def distil(
    config: DistilConfig, *, pipeline: PipelineRun, data: StageRef, teacher: StageRef
) -> StageRef:
    """Publish and register the distilled model."""
    spec = StageSpec(
        name="distil",
        module=__name__,
        parameters={"distil": config.model_dump(mode="json")},
        inputs={"teacher": teacher, "prompts": data},
        total_steps=config.steps,
        view=distil_page,
    )
    ref = run_stage(spec, pipeline, lambda work: learn_to_distil(work, config))
    register(ref, pipeline)
    return ref


def other(name: str, pipeline: PipelineRun, **inputs: StageRef) -> StageRef:
    """A stage that there is already, with what the new one reads of it."""

    def learn(work: Workspace) -> Mapping[str, float]:
        write_rows(work.out / "prompts_train.jsonl", [{"prompt": "P"}])
        return {}

    spec = StageSpec(name=name, module="models.rows", parameters={}, inputs=inputs)
    return run_stage(spec, pipeline, learn)


def run(name: str, steps: int) -> StageRef:
    """A pipeline with the new stage in it."""
    with open_pipeline(name=name, preset="toy", seed=0, parameters={"steps": steps}) as pipeline:
        data = other("prepare", pipeline)
        teacher = other("ppo", pipeline, prompts=data)
        config = DistilConfig(steps=steps)
        return distil.fn(config, pipeline=pipeline, data=data, teacher=teacher)


@pytest.fixture
def ref(home: Path, monkeypatch: pytest.MonkeyPatch) -> StageRef:
    """The result of a stage that has one row in the catalogue, and nothing else anywhere."""
    monkeypatch.setitem(catalogue.CATALOGUE, "distil", ROW)  # type: ignore[arg-type]
    return run("first", 20)


def runs_of(stage: str) -> list[Any]:
    return list(Tracker(load_settings()).runs(f"tags.`quartet.stage` = '{stage}'"))


def test_new_stage_is_named_in_the_terminal(ref: StageRef) -> None:
    assert catalogue.entry("distil").numbers(ref.metrics) == "agrees with its teacher 0.950"


def test_new_stage_has_its_page_and_its_number_on_its_own_run(ref: StageRef) -> None:
    shown = page_folder(load_settings().root, "distil", ref.digest)
    assert (shown / "report.md").read_text() == "agreement 0.95\n"
    assert (shown / "plots" / "losses.png").read_bytes().startswith(b"\x89PNG")
    (pipeline,) = Tracker(load_settings()).runs("tags.`quartet.kind` = 'pipeline'")
    assert pipeline.data.tags["output.distil"] == f"distil/{ref.digest}"
    (made,) = runs_of("distil")
    assert made.data.metrics["distil/agreement"] == 0.95
    (dataset,) = made.inputs.dataset_inputs
    assert dataset.dataset.name == "prompts_train"


def test_new_stage_is_told_of_while_it_runs_and_when_it_is_done(
    ref: StageRef, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[tuple[Any, ...]] = []
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(reporting, "emit", lambda *event: events.append(event))
    monkeypatch.setattr(reporting, "time", clock)
    reporting.announce_stage(ref, "pipe")
    ((_, _, payload),) = events
    assert payload["metrics"] == {"distil/agreement": 0.95}
    progress = reporting.Progress("distil", 20, lambda *_: None)
    with caplog.at_level(logging.INFO, reporting.__name__):
        for step in (1, 11):
            clock.now += 10.0
            progress.update({"distil/loss": 0.5, "distil/seconds": 3.0}, step)
    assert caplog.messages[-1] == ("distil: step 11 of 20, 1 steps/s, 9 s left: distil/loss 0.5")


def test_new_stage_is_found_by_name(ref: StageRef) -> None:
    pipeline = PipelineRun(name="later", preset="toy", seed=0, run_id="")
    for role in ("sft", "base"):
        for name in (f"distil/{ref.digest[:8]}", "models:/toy-sft@challenger"):
            assert find_model(name, role=role, pipeline=pipeline).digest == ref.digest
    assert open_published("distil", ref.digest[:8]).digest == ref.digest


def test_new_stage_has_a_card_and_a_place_in_the_lineage(ref: StageRef) -> None:
    tracker = Tracker(load_settings())
    version = find_version(tracker, "models:/toy-sft@challenger")
    card = tracker.client.get_model_version(version.name, version.version).description
    assert "A small model that learned from a large one." in card
    (asked,) = [one for one in ancestry(load_settings(), f"distil/{ref.digest}") if one.asked]
    assert (title(asked), numbers(asked)) == ("distil", ["agreement 0.95"])


def test_new_stage_is_compared_and_drawn(ref: StageRef, tmp_path: Path, drawn: list[Any]) -> None:
    run("second", 40)
    tracker, store = Tracker(load_settings()), Store(load_settings().store)
    records = [gather(tracker, store, one) for one in find_runs(tracker, ["first", "second"])]
    for record, steps in zip(records, (20, 40), strict=True):
        curve = record.curves["distil/loss"]
        assert len(curve) == steps
        assert math.isclose(curve[1][1], 1.0)
    assert plot_curves(records, ["A", "B"], ["distil"], tmp_path / "curves.png")
    assert [axes.get_title(loc="left") for axes in drawn[-1].axes] == ["Distillation: loss"]
