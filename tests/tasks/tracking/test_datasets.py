"""Datasets of a stage as MLflow's inputs: which, what columns, under which digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.types import Schema

from models.rows import write_rows
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.datasets import describe_columns, stage_datasets

PROMPT = [{"role": "user", "content": "Hé?"}]
FILES: dict[str, list[dict[str, Any]]] = {
    "corpus_train": [{"text": "a"}, {"text": "b\u2028c"}, {"text": "d"}],
    "corpus_heldout": [{"text": "e"}],
    "preferences_train": [],
    "preferences_heldout": [
        {"prompt": PROMPT, "chosen": PROMPT, "rejected": PROMPT, "margin": 1.0}
    ],
    "prompts_train": [{"prompt": "P"}],
    "prompts_heldout": [{"prompt": "Q"}, {"prompt": "R"}],
}


def write(work: Workspace) -> Mapping[str, float]:
    for name, rows in FILES.items():
        write_rows(work.out / f"{name}.jsonl", rows)
    return {}


def spec(name: str, **inputs: StageRef) -> StageSpec:
    return StageSpec(name=name, module="models.randomness", parameters={}, inputs=inputs)


@pytest.fixture
def pipeline(home: Path) -> PipelineRun:
    run_id = Tracker(load_settings()).start_run("pipe", parameters={}, tags={})
    return PipelineRun(name="pipe", preset="toy", seed=0, run_id=run_id)


@pytest.fixture
def data(pipeline: PipelineRun) -> StageRef:
    return run_stage(spec("prepare"), pipeline, write)


def shown(run_id: str) -> dict[str, Any]:
    run = Tracker(load_settings()).client.get_run(run_id)
    return {one.dataset.name: one for one in run.inputs.dataset_inputs}


def test_stage_run_shows_its_datasets_with_schema_digest_and_context(
    pipeline: PipelineRun, data: StageRef
) -> None:
    ref = run_stage(spec("pretrain", corpus=data), pipeline, lambda _: {})
    found = shown(ref.run_id)
    assert sorted(found) == ["corpus_heldout", "corpus_train"]
    file = Store(load_settings().store).folder("prepare", data.digest) / "corpus_train.jsonl"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    train = found["corpus_train"].dataset
    assert train.digest == sha256[:12]
    assert json.loads(train.source)["uri"] == f"prepare/{data.digest}/corpus_train.jsonl"
    assert json.loads(train.source)["sha256"] == sha256
    assert json.loads(train.profile) == {"num_rows": 3, "bytes": file.stat().st_size}
    schema = Schema.from_json(json.dumps(json.loads(train.schema)["mlflow_colspec"]))
    assert schema.input_names() == ["text"]
    contexts = {name: [(t.key, t.value) for t in one.tags] for name, one in found.items()}
    assert contexts == {
        "corpus_train": [("mlflow.data.context", "train")],
        "corpus_heldout": [("mlflow.data.context", "heldout")],
    }


def test_reused_stage_shows_the_same_datasets(pipeline: PipelineRun, data: StageRef) -> None:
    first = run_stage(spec("pretrain", corpus=data), pipeline, lambda _: {})
    tracker = Tracker(load_settings())
    tags = {"quartet.kind": "pipeline"}
    later = tracker.start_run("later", parameters={}, tags=tags)
    other = pipeline.model_copy(update={"run_id": later})
    run_stage(spec("pretrain", corpus=data), other, lambda _: {})
    (again,) = tracker.find_tagged({"quartet.made_by": first.run_id})
    assert sorted(shown(again)) == sorted(shown(first.run_id))


def test_datasets_logged_twice_stand_once(pipeline: PipelineRun, data: StageRef) -> None:
    tracker, store = Tracker(load_settings()), Store(load_settings().store)
    records = stage_datasets("ppo", {"prompts": data}, store)
    assert records is not None
    for _ in range(2):
        tracker.log_datasets(pipeline.run_id, records)
    assert sorted(shown(pipeline.run_id)) == ["prompts_heldout", "prompts_train"]


def test_stage_datasets_are_those_that_the_stage_reads(data: StageRef, home: Path) -> None:
    store = Store(load_settings().store)

    def names(stage: str, **inputs: StageRef) -> dict[str, str]:
        records = stage_datasets(stage, inputs, store)
        assert records is not None
        return {record.name: record.context for record in records}

    assert names("evaluate", prompts=data) == {"prompts_heldout": "heldout"}
    assert names("tokenizer", corpus=data) == {"corpus_train": "train"}
    # an empty file is no dataset, and models are none
    assert names("reward", preferences=data, heldout=data, sft=data) == {
        "preferences_heldout": "heldout"
    }


def test_stage_datasets_wait_for_an_input_that_is_not_here(home: Path) -> None:
    elsewhere = StageRef(stage="prepare", digest="e" * 64)
    assert stage_datasets("sft", {"demonstrations": elsewhere}, Store(home / "store")) is None


def test_stage_gets_its_datasets_at_the_end_where_they_were_not_here_at_its_start(
    pipeline: PipelineRun, data: StageRef
) -> None:
    store = Store(load_settings().store)
    folder, aside = store.folder("prepare", data.digest), store.root / "aside"
    opened: list[dict[str, Any]] = []

    def learn(work: Workspace) -> Mapping[str, float]:
        tracker = Tracker(load_settings())
        opened.append(shown(tracker.find_tagged({"quartet.stage": "pretrain"})[0]))
        return {}

    folder.rename(aside)  # the stage fetches it from MLflow, after its run was opened
    ref = run_stage(spec("pretrain", corpus=data), pipeline, learn)
    assert opened == [{}]
    assert sorted(shown(ref.run_id)) == ["corpus_heldout", "corpus_train"]


def test_describe_columns_speaks_mlflows_language() -> None:
    row = {"text": "a", "n": 1, "x": 0.5, "yes": True, "none": None, "empty": [], "said": PROMPT}
    columns = describe_columns(row)
    schema = Schema.from_json(json.dumps(columns))
    assert [str(column.type) for column in schema.inputs][:5] == [
        "DataType.string",
        "DataType.long",
        "DataType.double",
        "DataType.boolean",
        "DataType.string",
    ]
    assert schema.inputs[6].to_dict()["items"]["properties"].keys() == {"role", "content"}
