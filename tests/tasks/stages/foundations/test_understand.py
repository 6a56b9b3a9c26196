"""The stages of understanding and of in-context learning: tiny models, a real store and MLflow."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.benchmarks.config import InContextConfig
from models.errors import ParameterError
from models.heads.config import HeadConfig
from models.rows import read_rows, write_rows
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.settings import load_settings
from tasks.stages.foundations.in_context import learn_by_prompts
from tasks.stages.foundations.understand import understand
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder

TEXT = "the cat sat on a mat while two dogs ran over old green hills all day"
WORDS = TEXT.split()
ENTAILMENT = [
    {"texts": [f"the {WORDS[n]}", f"a {WORDS[n + 1]} {'cat' if n % 2 else 'hill'}"], "label": n % 2}
    for n in range(12)
]
SIMILARITY = [{"texts": one["texts"], "label": 1.0 + 3 * one["label"]} for one in ENTAILMENT]
TASKS = {
    "entailment": {
        "kind": "classification", "labels": ["entailment", "neutral | other"],
        "prompt": "{0} so {1}?", "answers": [" yes", " no"],
    },
    "similarity": {"kind": "regression", "labels": []},
}  # fmt: skip


@pytest.fixture
def pipeline(home: Path) -> PipelineRun:
    run_id = Tracker(load_settings()).start_run(
        "pipe", parameters={}, tags={"quartet.kind": "pipeline"}
    )
    return PipelineRun(name="pipe", preset="toy", seed=0, run_id=run_id)


def publish(name: str, make: Any) -> StageRef:
    def learn(work: Any) -> dict[str, float]:
        make(work.out)
        return {}

    spec = StageSpec(name=name, module="models.rows", parameters={})
    return run_stage(spec, PipelineRun(name="p", preset="toy", seed=0, run_id=""), learn)


def make_data(out: Path) -> None:
    for side in ("train", "heldout"):
        write_rows(out / f"entailment_{side}.jsonl", ENTAILMENT)
        write_rows(out / f"similarity_{side}.jsonl", SIMILARITY)
    (out / "tasks.json").write_text(json.dumps(TASKS), encoding="utf-8")


def make_base(out: Path) -> None:
    from models.families.config import ArchitectureConfig
    from models.families.networks import build_model
    from models.language.config import TokenizerConfig
    from models.language.folders import load_tokenizer, save_model
    from models.language.tokenizer import train_tokenizer

    write_rows(out / "corpus.jsonl", [{"text": " ".join(WORDS)}] * 5)
    train_tokenizer(
        corpus=out / "corpus.jsonl", config=TokenizerConfig(vocab_size=300), context=64,
        out=out / "tokenizer",
    )  # fmt: skip
    tokenizer = load_tokenizer(out / "tokenizer")
    sizes = ArchitectureConfig(family="gpt2", layers=1, width=32, heads=2, context=64)
    save_model(build_model(sizes, tokenizer, seed=0), tokenizer, out / "model")


def test_understanding_and_prompts_are_published_with_their_pages(pipeline: PipelineRun) -> None:
    inputs: dict[str, Any] = {
        "pipeline": pipeline,
        "data": publish("foundations-data", make_data),
        "base": publish("pretrain", make_base),
    }
    config = HeadConfig(epochs=20.0, batch_size=4, learning_rate=1e-2, max_tokens=32)
    refs = {
        "learned": understand.fn(config, task="entailment", **inputs),
        "similarity": understand.fn(config, task="similarity", **inputs),
        "asked": learn_by_prompts.fn(InContextConfig(few=2), task="entailment", **inputs),
    }
    settings = load_settings()
    folders = {name: Store(settings.store).folder(r.stage, r.digest) for name, r in refs.items()}
    pages = {
        name: (page_folder(settings.root, r.stage, r.digest) / "report.md").read_text()
        for name, r in refs.items()
    }
    metrics = refs["learned"].metrics
    rows = read_rows(folders["learned"] / "predictions.jsonl")
    right = sum(row["prediction"] == row["label"] for row in rows) / 12
    assert metrics["understand/accuracy"] == right > metrics["understand/majority"] == 0.5
    assert (folders["learned"] / "model" / "model.safetensors").is_file()
    assert f"Accuracy {right:.3f} [" in pages["learned"]
    assert "| label \\ predicted | entailment | neutral \\| other |" in pages["learned"]
    assert "Pearson's correlation" in pages["similarity"]
    assert f"| none | {refs['asked'].metrics['in_context/accuracy_zero']:.3f} [" in pages["asked"]
    assert len(read_rows(folders["asked"] / "answers.jsonl")) == 3 * 12
    again = understand.fn(config, task="entailment", **inputs)
    assert again.reused
    assert again.digest == refs["learned"].digest
    with pytest.raises(ParameterError, match="no task 'parity'"):
        understand.fn(config, task="parity", **inputs)
