"""Published benchmarks: names of metrics, the missing extra, and the harness itself."""

import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, ParameterError
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.settings import load_settings
from tasks.stages import lm_eval as module
from tasks.stages.lm_eval import lm_eval_benchmark, lm_eval_metrics, lm_eval_version
from tasks.tracking.recording import page_folder

PIPELINE = PipelineRun(name="pipe", preset="toy", seed=0, run_id="")
MODEL = StageRef(stage="sft", digest="0" * 64)

installed = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(
    not installed, reason="the optional extra lm-eval is not installed"
)


def test_lm_eval_metrics_have_standard_names() -> None:
    results = {
        "arc_easy": {
            "alias": "arc_easy",
            "acc,none": 0.25,
            "acc_stderr,none": 0.05,
            "exact_match,strict-match": 1,
            "ppl,none": float("inf"),
            "bleu_stderr,none": "N/A",
            "sample_len": 4,
        },
        "mmlu:law & order": {"acc,none": 0.5},
    }
    assert lm_eval_metrics(results, "sft") == {
        "lm_eval/sft/arc_easy/acc": 0.25,
        "lm_eval/sft/arc_easy/acc_stderr": 0.05,
        "lm_eval/sft/arc_easy/exact_match.strict-match": 1.0,
        "lm_eval/sft/mmlu_law___order/acc": 0.5,
    }


def test_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "version", version)
    with pytest.raises(ParameterError, match=r"pip install 'quartet-rlhf\[lm-eval\]'"):
        lm_eval_benchmark.fn(["arc_easy"], label="a", model=MODEL, pipeline=PIPELINE)


@pytest.fixture
def any_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lm_eval_version", lambda: "0.4.13")


def test_no_benchmark_is_refused(any_version: None) -> None:
    with pytest.raises(ParameterError, match="no benchmark was named"):
        lm_eval_benchmark.fn([], label="a", model=MODEL, pipeline=PIPELINE)


def test_folder_of_definitions_must_exist(any_version: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        lm_eval_benchmark.fn(
            ["toy"], label="a", model=MODEL, pipeline=PIPELINE, folder=tmp_path / "none"
        )


# --- the harness itself -------------------------------------------------------------------------

ROWS = [
    {"question": "the cat sat on the", "choices": ["mat", "old green hill"], "label": 0},
    {"question": "a dog ran", "choices": ["home over", "day", "你好"], "label": 1},
    {"question": "two and two is", "choices": ["five", "the cat"], "label": 1},
    {"question": "what is the", "choices": ["sum", "mat and slept", "hill"], "label": 2},
]
DEFINITION = """\
task: quartet_toy
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_bytes
metadata:
  version: 1.0
"""


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of the harness's own kind whose data is a local file; the hub stays out of it."""
    folder = tmp_path / "definitions"
    folder.mkdir()
    data = folder / "toy.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (folder / "toy.yaml").write_text(DEFINITION.format(data=data), encoding="utf-8")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def model(home: Path) -> StageRef:
    """A published model folder, untrained but with large weights: answers are far from equal."""

    def learn(work: Any) -> dict[str, float]:
        import torch

        from models.families.config import ArchitectureConfig
        from models.families.networks import build_model
        from models.language.config import TokenizerConfig
        from models.language.folders import load_tokenizer, save_model
        from models.language.tokenizer import train_tokenizer
        from models.rows import write_rows

        texts = [{"text": f"{row['question']} {' '.join(row['choices'])}"} for row in ROWS] * 5
        write_rows(work.checkpoints / "corpus.jsonl", texts)
        train_tokenizer(
            corpus=work.checkpoints / "corpus.jsonl",
            config=TokenizerConfig(vocab_size=320),
            context=64,
            out=work.checkpoints / "tokenizer",
        )
        tokenizer = load_tokenizer(work.checkpoints / "tokenizer")
        sizes = ArchitectureConfig(layers=2, width=32, heads=2, context=64)
        network = build_model(sizes, tokenizer, seed=1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(6 if parameter.dim() > 1 else 1)
        save_model(network, tokenizer, work.out / "model")
        return {}

    spec = StageSpec(name="sft", module="models.rows", parameters={})
    return run_stage(spec, PIPELINE, learn)


@needs_harness
def test_harness_measures_what_our_own_multiple_choice_measures(
    model: StageRef, definitions: Path
) -> None:
    from models.benchmarks.config import MultipleChoiceConfig
    from models.benchmarks.multiple_choice import answer_questions
    from models.benchmarks.questions import read_questions
    from models.language.folders import load_causal_model, load_tokenizer

    ref = lm_eval_benchmark.fn(
        ["quartet_toy"], label="sft", model=model, pipeline=PIPELINE, folder=definitions
    )
    store = Store(load_settings().store)
    folder = store.folder("sft", model.digest) / "model"
    own = answer_questions(
        load_causal_model(folder),
        load_tokenizer(folder),
        read_questions(definitions / "toy.jsonl"),
        MultipleChoiceConfig(),
        seed=0,
    ).metrics()
    assert ref.metrics["lm_eval/sft/quartet_toy/acc"] == own["accuracy"]
    assert ref.metrics["lm_eval/sft/quartet_toy/acc_bytes"] == own["accuracy_norm"]
    report = page_folder(load_settings().root, "lm-eval", ref.digest) / "report.md"
    assert "| quartet_toy | 0 | 4 | acc |" in report.read_text()
    again = lm_eval_benchmark.fn(
        ["quartet_toy"], label="sft", model=model, pipeline=PIPELINE, folder=definitions
    )
    assert again.reused


@needs_harness
def test_harness_refuses_tasks_that_it_does_not_know(model: StageRef, definitions: Path) -> None:
    assert lm_eval_version().startswith("0.4")
    with pytest.raises(ParameterError, match="knows no task no_such_task"):
        lm_eval_benchmark.fn(
            ["no_such_task"], label="sft", model=model, pipeline=PIPELINE, folder=definitions
        )
