"""The stage of multiple choice: real tiny models, a real file, a real local MLflow."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.benchmarks.config import MultipleChoiceConfig
from models.errors import DataError, ParameterError
from models.randomness import derive_seed
from models.rows import read_rows, write_rows
from models.statistics.intervals import paired_bootstrap, wilson_interval
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.settings import load_settings
from tasks.stages.multiple_choice import multiple_choice
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder

TEXT = "the cat sat on a mat while two dogs ran over old green hills all day"
WORDS = TEXT.split()
ROWS = [
    {
        "question": f"{WORDS[index % 16]} {WORDS[(3 * index + 1) % 16]} is",
        "choices": [WORDS[(5 * index + step) % 16] for step in range(2 + index % 3)],
        "label": index % 2,
        "subject": f"part {index % 2}",
    }
    for index in range(24)
]
CONFIG = MultipleChoiceConfig(shots=1)


def publish(seed: int) -> StageRef:
    """An untrained model with large weights, as a stage."""

    def learn(work: Any) -> dict[str, float]:
        import torch

        from models.families.config import ArchitectureConfig
        from models.families.networks import build_model
        from models.language.config import TokenizerConfig
        from models.language.folders import load_tokenizer, save_model
        from models.language.tokenizer import train_tokenizer

        corpus = work.checkpoints / "corpus.jsonl"
        write_rows(corpus, [{"text": " ".join(WORDS)}] * 5)
        train_tokenizer(
            corpus=corpus,
            config=TokenizerConfig(vocab_size=300),
            context=64,
            out=work.checkpoints / "tokenizer",
        )
        tokenizer = load_tokenizer(work.checkpoints / "tokenizer")
        sizes = ArchitectureConfig(layers=1, width=32, heads=2, context=64)
        network = build_model(sizes, tokenizer, seed=seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(6 if parameter.dim() > 1 else 1)
        save_model(network, tokenizer, work.out / "model")
        return {}

    spec = StageSpec(name="sft", module="models.rows", parameters={"seed": seed})
    return run_stage(spec, PipelineRun(name="p", preset="toy", seed=0, run_id=""), learn)


@pytest.fixture
def pipeline(home: Path) -> PipelineRun:
    tracker = Tracker(load_settings())
    run_id = tracker.start_run("pipe", parameters={}, tags={"quartet.kind": "pipeline"})
    return PipelineRun(name="pipe", preset="toy", seed=0, run_id=run_id)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    write_rows(path, ROWS)
    return path


def test_stage_measures_models_side_by_side(pipeline: PipelineRun, questions: Path) -> None:
    models = {"first": publish(0), "second": publish(1)}
    ref = multiple_choice.fn(CONFIG, questions=questions, models=models, pipeline=pipeline)
    folder = Store(load_settings().store).folder("multiple-choice", ref.digest)
    answers = read_rows(folder / "answers.jsonl")
    assert len(answers) == 2 * 24
    right = {
        label: [
            row["chosen"] == ROWS[row["line"] - 1]["label"]
            for row in answers
            if row["model"] == label
        ]
        for label in models
    }
    assert right["first"] != right["second"]  # else the test could not tell the models apart
    for label, one in right.items():
        share = wilson_interval(sum(one), 24)
        for suffix, value in (("", share.mean), ("_low", share.low), ("_high", share.high)):
            assert ref.metrics[f"multiple_choice/{label}/accuracy{suffix}"] == value
        # Rows of 2, 3 and 4 choices in turn: (1/2 + 1/3 + 1/4) / 3.
        assert ref.metrics[f"multiple_choice/{label}/chance"] == pytest.approx(13 / 36)
    first, second = (np.array(one, dtype=float)[:, None] for one in right.values())
    gain = paired_bootstrap(first, second, 2000, derive_seed(0, "multiple-choice.bootstrap"))
    assert ref.metrics["multiple_choice/second/accuracy_gain"] == gain.mean
    assert ref.metrics["multiple_choice/second/accuracy_gain_high"] == gain.high
    assert "multiple_choice/first/accuracy_gain" not in ref.metrics
    files = {path.name for path in folder.iterdir()}
    assert files == {"MANIFEST.json", "answers.jsonl", "results.json"}  # numbers and rows only
    models = json.loads((folder / "results.json").read_text())["models"]
    assert set(models["first"]["subjects"]) == {"part 0", "part 1"}
    assert models["second"]["gains"]["accuracy"]["low"] == gain.low
    report = page_folder(load_settings().root, "multiple-choice", ref.digest) / "report.md"
    assert "questions.jsonl: 24 questions, 1 examples shown" in report.read_text()
    assert "guessing gives 0.361" in report.read_text()


def test_stage_is_reused_and_shown_on_the_parent(pipeline: PipelineRun, questions: Path) -> None:
    models = {"only": publish(0)}
    ref = multiple_choice.fn(CONFIG, questions=questions, models=models, pipeline=pipeline)
    elsewhere = questions.with_name("copy.jsonl")
    elsewhere.write_bytes(questions.read_bytes())
    again = multiple_choice.fn(CONFIG, questions=elsewhere, models=models, pipeline=pipeline)
    assert again.reused
    assert again.digest == ref.digest
    client = Tracker(load_settings()).client
    name = "multiple_choice/only/accuracy"
    # Once for the result that was computed, once for the one that was reused.
    logged = client.get_metric_history(pipeline.run_id, name)
    assert [one.value for one in logged] == [ref.metrics[name]] * 2
    other = MultipleChoiceConfig(shots=0)
    assert (
        multiple_choice.fn(other, questions=questions, models=models, pipeline=pipeline).digest
        != ref.digest
    )
    questions.write_text(questions.read_text() + json.dumps(ROWS[0]) + "\n")
    assert not multiple_choice.fn(
        CONFIG, questions=questions, models=models, pipeline=pipeline
    ).reused


def test_one_question_has_gains_without_intervals(pipeline: PipelineRun, tmp_path: Path) -> None:
    """What cannot be measured is left out: a manifest cannot hold it."""
    path = tmp_path / "one.jsonl"
    write_rows(path, ROWS[:1])
    models = {"one": publish(0), "two": publish(1)}
    config = MultipleChoiceConfig()
    ref = multiple_choice.fn(config, questions=path, models=models, pipeline=pipeline)
    assert "multiple_choice/two/accuracy_gain" in ref.metrics
    assert "multiple_choice/two/accuracy_gain_low" not in ref.metrics
    again = multiple_choice.fn(config, questions=path, models=models, pipeline=pipeline)
    assert again.metrics == ref.metrics  # read back from the store
    turned = dict(reversed(models.items()))
    other = multiple_choice.fn(config, questions=path, models=turned, pipeline=pipeline)
    assert "multiple_choice/one/accuracy_gain" in other.metrics  # less the first one's, now "two"


def test_stage_takes_examples_from_their_own_file(
    pipeline: PipelineRun, questions: Path, tmp_path: Path
) -> None:
    examples = tmp_path / "examples.jsonl"
    write_rows(examples, [{**row, "question": f"so {row['question']}"} for row in ROWS[:2]])
    models = {"only": publish(0)}
    ref = multiple_choice.fn(
        CONFIG, questions=questions, examples=examples, models=models, pipeline=pipeline
    )
    tags = Tracker(load_settings()).tags(ref.run_id)
    assert {"input.questions", "input.examples", "input.only"} <= set(tags)


def test_stage_reports_cloze(pipeline: PipelineRun, tmp_path: Path) -> None:
    path = tmp_path / "cloze.jsonl"
    write_rows(path, [{"context": "the cat sat on a", "completion": "mat while two"}] * 3)
    ref = multiple_choice.fn(
        MultipleChoiceConfig(), questions=path, models={"m": publish(0)}, pipeline=pipeline
    )
    assert ref.metrics["multiple_choice/m/rows"] == 3
    assert "multiple_choice/m/exact_match" in ref.metrics
    assert "multiple_choice/m/chance" not in ref.metrics


def test_stage_refuses_what_it_cannot_measure(home: Path, questions: Path) -> None:
    run = PipelineRun(name="p", preset="toy", seed=0, run_id="")
    model = StageRef(stage="sft", digest="0" * 64)
    with pytest.raises(ParameterError, match="no model was given"):
        multiple_choice.fn(CONFIG, questions=questions, models={}, pipeline=run)
    for label in ("a b", "questions", "", "a/b"):
        with pytest.raises(ParameterError, match="cannot name metrics"):
            multiple_choice.fn(CONFIG, questions=questions, models={label: model}, pipeline=run)
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read"):
        multiple_choice.fn(
            CONFIG, questions=questions.with_name("none.jsonl"), models={"m": model}, pipeline=run
        )
