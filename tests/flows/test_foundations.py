"""Families of models, tiny but real: what is compared, and that it resumes."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from flows.foundations import FoundationsForm, foundations
from flows.planning.plan import plan_of
from models.errors import ParameterError
from models.rows import read_json
from tasks.run.exchange import published_folder
from tasks.run.planning import PlannedStage
from tasks.run.spec import report_text
from tasks.stages.foundations.config import FoundationsParameters

SMALL = (
    "model.layers=1",
    "model.width=32",
    "model.heads=2",
    "model.context=128",
    "translator.layers=1",
    "translator.width=32",
    "translator.heads=2",
    "tokenizer.vocab_size=1000",
    "pretrain.steps=6",
    "pretrain.batch_size=4",
    "pretrain.block_tokens=64",
    "pairs=8",
    "documents=8",
    "data.captions=400",
    "data.task_rows=100",
    "data.heldout_rows=100",
    "translate.steps=6",
    "translate.batch_size=8",
    "translate.decoding.beams=1",
    "understand.epochs=0.5",
    "prompts.questions=20",
)
"""Every model in a second or so; what is learned does not matter."""


def test_form_as_filled_in_means_the_defaults() -> None:
    assert FoundationsForm.of().to_parameters() == FoundationsParameters()


def test_further_settings_overrule_the_form() -> None:
    form = FoundationsForm.of(["pretrain.steps=7", "model.width=64"])
    parameters = form.model_copy(update={"noise": False, "seed": 3}).to_parameters()
    assert (parameters.pretrain.steps, parameters.model.width) == (7, 64)
    assert (parameters.noise, parameters.seed) == (False, 3)
    assert FoundationsForm.of(["model.shape=micro"]).to_parameters().model.width == 192
    assert parameters.pretrain.batch_size == FoundationsParameters().pretrain.batch_size


def test_unknown_and_unfit_settings_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"unknown field 'model\.wide'"):
        FoundationsForm.of(["model.wide=64"]).to_parameters()
    with pytest.raises(ParameterError, match=r"model\.shape gpt2 is of one family"):
        FoundationsForm.of(["model.shape=gpt2"]).to_parameters()
    with pytest.raises(ParameterError, match=r"set data\.sentence_pairs=DIR"):
        FoundationsForm.of(["data.source=files", "data.translation=x"]).to_parameters()


def planned(**fields: Any) -> list[PlannedStage]:
    form = FoundationsForm.of(SMALL).model_copy(update=fields)
    return list(plan_of(foundations, form).stages)


def of(stages: Sequence[PlannedStage], name: str) -> list[PlannedStage]:
    return [one for one in stages if one.spec.name == name]


def inputs(stage: PlannedStage, role: str) -> str:
    return stage.spec.inputs[role].digest


@pytest.mark.usefixtures("home")
def test_all_parts_are_planned_from_the_same_base_models() -> None:
    stages = planned()
    bases = {
        str(one.spec.parameters["model"]["family"]): one.digest
        for one in of(stages, "pretrain")[:8]
    }
    assert list(bases) == [
        "feedforward", "rnn", "lstm", "gpt2", "llama", "mixtral", "bert", "bart",
    ]  # fmt: skip
    tuned = of(stages, "understand")
    assert len(tuned) == 4 * 3 * 2 + 3 + 5  # from both weights, GPT's auxiliary loss, noises
    used = [one for one in tuned if inputs(one, "base") in bases.values()]
    assert {inputs(one, "base") for one in used} == {bases[n] for n in ("gpt2", "bert", "bart")}
    random = [one for one in used if one.spec.parameters["understand"]["initial"] == "random"]
    assert len(random) == 12
    noises = of(stages, "pretrain")[-5:]
    shares = [one.spec.parameters["pretrain"]["denoising"] for one in noises]
    assert [sum(v > 0 for k, v in one.items() if k != "span_tokens") for one in shares] == [1] * 5
    plain, pieces = of(stages, "tokenizer")
    bert = next(one for one in of(stages, "pretrain") if one.digest == bases["bert"])
    assert inputs(bert, "tokenizer") == pieces.digest
    assert plain.spec.parameters["tokenizer"]["kind"] == "byte_bpe"
    assert pieces.spec.parameters["tokenizer"]["kind"] == "wordpiece"
    report = stages[-1]
    assert report.spec.name == "foundations"
    made = {one.digest for one in stages[:-1]} - {plain.digest, pieces.digest, stages[0].digest}
    assert {ref.digest for ref in report.spec.inputs.values()} == made


@pytest.mark.usefixtures("home")
def test_parts_can_be_left_out() -> None:
    parts = ("translation", "noise", "in_context", "selection")
    stages = planned(tasks=[], **dict.fromkeys(parts, False))
    assert [one.spec.name for one in stages] == [
        "foundations-data", "tokenizer", "tokenizer", "ngram", *["pretrain"] * 8, "foundations",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_every_part_is_run_and_reported_and_then_reused() -> None:
    form = FoundationsForm.of(SMALL).model_copy(update={"tasks": ["choice"]})
    done = foundations(form)
    rows = read_json(published_folder(done.stages[-1]) / "results.json")["models"]
    assert {row["part"] for row in rows} == {
        "language", "selection", "understanding", "in_context", "translation", "noise",
    }  # fmt: skip
    numbers = {row["role"]: row["metrics"] for row in rows}
    assert all(math.isfinite(numbers[name]["pretrain/bits_per_byte"]) for name in ("lstm", "llama"))
    assert math.isfinite(numbers["ngram"]["ngram/bits_per_byte"])
    page = report_text(done.stages[-1])
    assert "### Translation" in page
    assert "Attention cures long sentences" in page
    again = foundations(form)
    assert all(stage.reused for stage in again.stages)
    assert again.stages[-1].digest == done.stages[-1].digest
