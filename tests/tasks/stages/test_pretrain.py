"""The pretrain stage by family: what is published, what is part of its identity, its page."""

from pathlib import Path
from typing import Any

import pytest

from models.families.config import ArchitectureConfig
from models.objectives.config import DenoisingConfig, MaskingConfig
from models.rows import read_rows, write_rows
from models.training.config import PretrainConfig
from tasks.results.manifests import read_manifest
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec, report_text
from tasks.run.stage import run_stage
from tasks.settings import load_settings
from tasks.stages.pretrain import pretrain
from tests.models.objectives.tiny import make_tokenizer

TEXTS = ["the cat sat on the mat", "a dog ran home. it was late", "two men play in the park"]
CONFIG = PretrainConfig(steps=2, batch_size=3, block_tokens=32, checkpoint_steps=2)
PIPELINE = PipelineRun(name="p", preset="toy", seed=0, run_id="")


@pytest.fixture
def inputs(home: Path) -> dict[str, StageRef]:
    def data(work: Any) -> dict[str, float]:
        for name in ("train", "heldout"):
            write_rows(work.out / f"corpus_{name}.jsonl", [{"text": text} for text in TEXTS])
        return {}

    def tokenizer(work: Any) -> dict[str, float]:
        make_tokenizer(TEXTS).save_pretrained(work.out / "tokenizer")
        return {}

    def publish(name: str, learn: Any) -> StageRef:
        spec = StageSpec(name=name, module="models.rows", parameters={})
        return run_stage(spec, PIPELINE, learn)

    return {"data": publish("prepare", data), "tokenizer": publish("tokenizer", tokenizer)}


@pytest.mark.parametrize(
    ("family", "read", "metric", "column"),
    [
        ("bert", "masking", "pretrain/masked_accuracy", "answers"),
        ("bart", "denoising", "pretrain/restored_accuracy", "restored"),
        ("transformer", "denoising", "pretrain/restored_accuracy", "restored"),
    ],
)
def test_families_that_restore_text_publish_a_model_with_samples_and_a_page(
    inputs: Any, family: Any, read: str, metric: str, column: str
) -> None:
    sizes = ArchitectureConfig(family=family, layers=1, width=32, heads=2, context=32)
    ref = pretrain.fn(CONFIG, sizes, pipeline=PIPELINE, **inputs)
    folder = Store(load_settings().store).folder("pretrain", ref.digest)
    assert metric in ref.metrics
    assert (folder / "model" / "model.safetensors").is_file()
    samples = read_rows(folder / "samples.jsonl")
    assert all(column in row for row in samples)
    groups = {"masking", "denoising"} & read_manifest(folder).parameters["pretrain"].keys()
    assert groups == {read}
    assert "| held out | model | baseline |" in report_text(ref)
    other = {
        "masking": CONFIG.model_copy(update={"denoising": DenoisingConfig(token_masking=0.1)}),
        "denoising": CONFIG.model_copy(update={"masking": MaskingConfig(whole_words=True)}),
    }[read]
    again = pretrain.fn(other, sizes, pipeline=PIPELINE, **inputs)
    assert again.reused  # what a family does not read is no part of its result
