"""The stages of n-grams and of translation: real tiny trainings, a real local MLflow."""

from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from models.families.config import ArchitectureConfig
from models.language.config import TokenizerConfig
from models.rows import read_json, read_rows, write_rows
from models.translation.config import TranslationConfig
from models.yardsticks.config import NgramConfig
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.settings import load_settings
from tasks.stages.foundations.ngram import measure_ngram
from tasks.stages.foundations.translate import translate
from tasks.stages.tokenizer import train_tokenizer
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder

WORDS = {"one": "un", "two": "deux", "three": "trois", "cats": "chats", "dogs": "chiens"}
NAMES = list(WORDS)


def sentence(number: int, length: int) -> list[str]:
    return [NAMES[(number * 3 + at * (1 + number % 4)) % 5] for at in range(length)]


@pytest.fixture
def pipeline(home: Path) -> PipelineRun:
    tracker = Tracker(load_settings())
    run_id = tracker.start_run("pipe", parameters={}, tags={"quartet.kind": "pipeline"})
    return PipelineRun(name="pipe", preset="toy", seed=0, run_id=run_id)


@pytest.fixture
def data(pipeline: PipelineRun) -> StageRef:
    """Numbers and animals, word for word."""

    def learn(work: Any) -> dict[str, float]:
        pairs = [sentence(number, 1 + number % 18) for number in range(36)]
        rows = [
            {"source": " ".join(one), "target": " ".join(WORDS[word] for word in one)}
            for one in pairs
        ]
        for part, some in (("train", rows), ("heldout", rows[::2])):
            write_rows(work.out / f"translation_{part}.jsonl", some)
            texts = [{"text": row["source"], "source": "toy"} for row in some]
            write_rows(work.out / f"corpus_{part}.jsonl", texts)
        return {}

    spec = StageSpec(name="foundations-data", module="models.rows", parameters={})
    return run_stage(spec, pipeline, learn)


@pytest.fixture
def tokenizer(pipeline: PipelineRun, data: StageRef) -> StageRef:
    return train_tokenizer.fn(
        TokenizerConfig(vocab_size=300), context=128, pipeline=pipeline, data=data
    )


def folder(ref: StageRef) -> Path:
    return Store(load_settings().store).folder(ref.stage, ref.digest)


def test_ngram_stage_publishes_its_loss(
    pipeline: PipelineRun, data: StageRef, tokenizer: StageRef
) -> None:
    losses = []
    for order in (1, 2):
        ref = measure_ngram.fn(
            NgramConfig(order=order), pipeline=pipeline, data=data, tokenizer=tokenizer
        )
        heldout = read_rows(folder(data) / "corpus_heldout.jsonl")
        tokens = 18 + sum(len(row["text"].encode()) for row in heldout)  # at most: an EOS each
        assert 0 < ref.metrics["ngram/bits_per_byte"] < 8 * tokens
        losses.append(ref.metrics["ngram/heldout_loss"])
        assert read_json(folder(ref) / "results.json")["ngram/heldout_loss"] == losses[-1]
    assert losses[1] < losses[0]


def test_translate_stage_publishes_model_samples_scores_and_page(
    pipeline: PipelineRun, data: StageRef, tokenizer: StageRef
) -> None:
    config = TranslationConfig(steps=8, batch_size=12, alignments=2, checkpoint_steps=10)
    sizes = ArchitectureConfig(family="rnnsearch", layers=1, width=32, heads=2, context=128)
    given: dict[str, Any] = {"pipeline": pipeline, "data": data, "tokenizer": tokenizer}
    ref = translate.fn(config, sizes, **given)
    out = folder(ref)
    rows = read_rows(out / "samples.jsonl")
    heldout = read_rows(folder(data) / "translation_heldout.jsonl")
    assert [(row["source"], row["target"]) for row in rows] == [
        (row["source"], row["target"]) for row in heldout
    ]
    made, wanted = ([row[side] for row in rows] for side in ("translation", "target"))
    assert ref.metrics["translate/bleu"] == pytest.approx(
        sacrebleu.corpus_bleu(made, [wanted]).score
    )
    for name in ("bleu_low", "bleu_short", "bleu_middle_high", "bleu_long", "rougeL", "tokens"):
        assert f"translate/{name}" in ref.metrics
    results = read_json(out / "results.json")
    assert results["bleu"]["all"]["mean"] == ref.metrics["translate/bleu"]
    assert results["rows"] == {"all": 18, "short": 10, "middle": 6, "long": 2}
    aligned = read_rows(out / "alignments.jsonl")
    assert len(aligned) == 2
    for row, one in zip(rows, aligned, strict=False):
        assert one["source"][:-1] == row["source"].split()
        assert [len(one["weights"]), len(one["weights"][0])] == [
            len(one["target"]), len(one["source"])
        ]  # fmt: skip
        assert all(sum(line) == pytest.approx(1, abs=1e-3) for line in one["weights"])
    page = page_folder(load_settings().root, "translate", ref.digest)
    report = (page / "report.md").read_text()
    assert "| BLEU, > 15 words | 2 |" in report
    assert (page / "plots" / "alignment.png").stat().st_size > 1000
    again = translate.fn(config, sizes, **given)
    assert again.reused
    tuned = translate.fn(config, sizes, base=ref, **given)
    assert not tuned.reused
    assert tuned.metrics["translate/heldout_loss"] < ref.metrics["translate/heldout_loss"]
