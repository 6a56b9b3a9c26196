"""The two stages of feedback by people: what they are asked, and what their labels become."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models.reward.disagreement
from models.errors import DataError, ParameterError
from models.language.config import SamplingConfig
from models.language.generation import SampledText
from models.reward.config import FeedbackConfig, RewardStageConfig
from models.rows import read_rows, write_rows
from tasks.labelling.items import Item, Labels, read_items
from tasks.labelling.rounds import LastRound
from tasks.results.manifests import find_manifest
from tasks.results.store import StageRef, Store
from tasks.run.spec import report_text
from tasks.settings import load_settings
from tasks.stages.feedback import collect_feedback
from tasks.stages.feedback_samples import sample_for_people
from tasks.stages.labels import learn_from_labels
from tasks.stages.reward import train_reward_model
from tests.tasks.labelling.raters import rate, rated
from tests.tasks.stages.test_feedback import PIPELINE, PROMPTS, Sampler, prepared, sampler
from tests.tasks.stages.test_judge import make_model, publish

__all__ = ["sampler"]


def folder_of(ref: StageRef) -> Path:
    return Store(load_settings().store).folder(ref.stage, ref.digest)


def sample(data: StageRef, **fields: Any) -> StageRef:
    config = FeedbackConfig(annotator="people", **fields)
    return sample_for_people.fn(config, SamplingConfig(), pipeline=PIPELINE, data=data, sft=data)


def labels(*ratings: list[int | None], rater: str = "ann") -> Labels:
    """Ratings of three completions of a prompt each."""
    made = [Item.of(f"P{at}", ["a", "b", "c"]) for at in range(len(ratings))]
    return Labels(
        rows=tuple(
            item.to_row() | {"ratings": one, "rater": rater, "comments": ["", "", ""]}
            for item, one in zip(made, ratings, strict=True)
            if item is not None
        )
    )


def learn(data: StageRef, given: Labels, *, ties: bool = True, **fields: Any) -> StageRef:
    config = FeedbackConfig(annotator="people", **fields)
    return learn_from_labels.fn(
        config, given, ties=ties, pipeline=PIPELINE, data=data, samples=data
    )


def test_each_prompt_is_asked_once_with_as_many_completions_as_wanted(sampler: Sampler) -> None:
    ref = sample(prepared(PROMPTS), prompts=2, completions=5)
    assert len(sampler.prompts) == 3 * 5  # half as many again as the 2 wanted
    items = read_items(folder_of(ref))
    assert len(items) == 2
    for item in items:
        numbers = {int(text.split()[1]) for text in item.completions}
        assert {sampler.prompts[number] for number in numbers} == {item.prompt}
        assert len(numbers) == 5
    assert ref.metrics == {
        "feedback_samples/items": 2.0,
        "feedback_samples/completions": 10.0,
        "feedback_samples/dropped": 0.0,
    }


def test_people_are_asked_about_other_prompts_in_the_next_round_or_the_disputed_ones(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"prompt {number}" for number in range(9)]
    data = prepared(prompts)
    config = FeedbackConfig(annotator="people", prompts=2, completions=3)

    def ask(last: LastRound) -> tuple[StageRef, list[str]]:
        ref = sample_for_people.fn(
            config, SamplingConfig(), pipeline=PIPELINE, data=data, sft=data, last=last
        )
        return ref, [str(item.prompt) for item in read_items(folder_of(ref))]

    def measure(*, prompts: list[str], completions: list[Any], **_: object) -> list[float]:
        assert all(len(one) == 3 for one in completions)
        return [float(prompt[-1]) for prompt in prompts]

    first, before = ask(LastRound())
    _, after = ask(LastRound(earlier=first))
    assert not set(before) & set(after)
    monkeypatch.setattr(models.reward.disagreement, "measure_disagreement", measure)
    _, disputed = ask(LastRound(earlier=first, rivals=(data, data)))
    assert disputed == ["prompt 8", "prompt 7"]  # of all nine


def test_cut_and_equal_completions_are_left_out(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["same", "same", "other", "cut"] + ["same"] * 4 + ["x", "cut", "cut", "cut"]

    def complete(**_: object) -> list[SampledText]:
        return [SampledText(text=text, finished=text != "cut") for text in given]

    monkeypatch.setattr("models.language.generation.complete", complete)
    (item,) = read_items(folder_of(sample(prepared(PROMPTS), prompts=3)))
    assert sorted(item.completions) == ["other", "same"]
    given[:] = ["same"] * 12
    with pytest.raises(DataError, match="none of 3 prompts got two different completions"):
        sample(prepared(PROMPTS), prompts=2, completions=4)


def test_labels_become_pairs_beside_given_ones_at_the_stated_share(sampler: Sampler) -> None:
    ref = learn(prepared(PROMPTS), labels([7, 1, 4], [2, 2, None]), annotated_share=0.5)
    rows = read_rows(folder_of(ref) / "preferences_train.jsonl")
    pairs = [row for row in rows if not row["prompt"].startswith("given")]
    assert sorted((row["prompt"], row["margin"], row["tie"]) for row in pairs) == [
        ("P0", 0.5, False),
        ("P0", 0.5, False),
        ("P0", 1.0, False),
        ("P1", 0.0, True),
    ]
    assert len(rows) == 8
    assert ref.metrics["feedback/pairs_unrated"] == 2
    assert read_rows(folder_of(ref) / "labels.jsonl")[1]["ratings"] == [2, 2, None]
    report = json.loads((folder_of(ref) / "feedback.json").read_text())
    assert report["annotator"] == {"annotator": "people", "raters": ["ann"], "labels": 2}


def test_edited_rating_gives_another_result_and_an_equal_one_the_same(sampler: Sampler) -> None:
    data = prepared(PROMPTS)
    first = learn(data, labels([7, 1, 4]))
    assert learn(data, labels([7, 1, 4])).reused
    edited = learn(data, labels([7, 1, 5]))
    assert edited.digest != first.digest
    manifest = find_manifest(Store(load_settings().store).root, edited.digest)
    assert manifest is not None
    assert manifest.inputs["labels"] == labels([7, 1, 5]).digest


def test_labels_without_a_pair_are_refused(sampler: Sampler) -> None:
    with pytest.raises(DataError, match="1 labels of people give no pair"):
        learn(prepared(PROMPTS), labels([3, 3, None]), ties=False)


def test_fields_for_people_do_not_count_for_the_simulated_annotator(sampler: Sampler) -> None:
    data = prepared(PROMPTS)

    def collect(**fields: Any) -> StageRef:
        config = FeedbackConfig(annotator="simulated", preferences=10, **fields)
        sampling = SamplingConfig()
        return collect_feedback.fn(
            config, sampling, shuffle=False, pipeline=PIPELINE, data=data, sft=data
        )

    first = collect()
    assert collect(prompts=7, completions=9, answered_share=0.5).digest == first.digest
    manifest = find_manifest(Store(load_settings().store).root, first.digest)
    assert manifest is not None
    assert manifest.parameters["feedback"] == {
        "annotator": "simulated", "preferences": 10, "annotated_share": 0.6, "shuffle": False,
    }  # fmt: skip


# --- raters ---------------------------------------------------------------------------------------


def test_agreement_of_raters_is_measured_and_the_adversary_named(
    sampler: Sampler, caplog: pytest.LogCaptureFixture
) -> None:
    ref = learn(prepared(PROMPTS), rated({"ann": 0.1, "bob": 0.1, "eve": 0.9}, 120, seed=0))
    assert ref.metrics["feedback/agreement"] == pytest.approx((0.82 + 0.18 * 2) / 3, abs=0.1)
    assert ref.metrics["feedback/kappa"] < 0
    assert "rater eve ranks" in caplog.text
    text = report_text(ref)
    assert "**eve is far off the others**" in text
    assert "`feedback.without_raters=eve`" in text
    assert "| ann | 80 | 160 | 0 |  |" in text
    assert "| ann and bob | 40 | 40 | 0." in text
    assert "| one completion is better | 240 |" in text


def test_labels_of_raters_can_be_left_out(sampler: Sampler) -> None:
    data, given = prepared(PROMPTS), rated({"ann": 0.1, "eve": 0.9}, 30, seed=0)
    ref = learn(data, given, without_raters=" EVE ")
    assert ref.digest not in (learn(data, given).digest, learn(data, given.without({"eve"})).digest)
    assert {row["rater"] for row in read_rows(folder_of(ref) / "labels.jsonl")} == {"ann"}
    assert ref.metrics["feedback/pairs_decided"] == 30
    assert "feedback/agreement" not in ref.metrics
    text = report_text(ref)
    assert "| eve | 30 | 60 | 0 | left out |" in text
    assert "No item was rated by two people" in text
    with pytest.raises(ParameterError, match=r"names eva, of whom there are no .* of ann, eve"):
        learn(data, given, without_raters="ann,eva")


def test_report_says_which_labels_nobody_signed_or_was_asked_for(sampler: Sampler) -> None:
    (row,) = labels([7, 1, None], rater="unknown").rows
    text = report_text(learn(prepared(PROMPTS), Labels(rows=({**row, "asked": ["ann"]},))))
    assert "Labels of `unknown` are unsigned" in text
    assert "| unknown | 1 | 2 | 1 |  |" in text


def test_reward_model_ranks_better_without_the_adversary(home: Path) -> None:
    """The real stages, tiny: 12 names are better than 12 others; 90 pairs, two labels of each."""
    random = np.random.default_rng(0)
    names = random.permutation([one + other for one in ("ba", "do", "ki", "lu", "mo")
                                for other in ("ra", "te", "ni", "fo", "su")])  # fmt: skip
    good, bad = names[:12].tolist(), names[12:24].tolist()
    pairs = [(f"name {at}", *(str(random.choice(side)) for side in (good, bad)))
             for at in range(90)]  # fmt: skip
    heldout = [
        {"prompt": f"held out {at}", "chosen": better, "rejected": worse}
        for at, (better, worse) in enumerate(itertools.product(good, bad))
    ]

    def make_data(out: Path) -> None:
        write_rows(out / "preferences_train.jsonl", heldout[:1])
        write_rows(out / "preferences_heldout.jsonl", heldout)
        write_rows(out / "prompts_train.jsonl", [{"prompt": one[0]} for one in pairs[:4]])

    data = publish("prepare", make_data)
    sft = publish("sft", lambda out: make_model(out, seed=0))
    given = rate(pairs, {"ann": 0.1, "bob": 0.2, "eve": 0.9}, seed=0)
    config = RewardStageConfig(batch_size=16, learning_rate=1e-2, epochs=2.0, moment_samples=16)

    def accuracy(without: str) -> float:
        labelled = learn(data, given, annotated_share=1.0, without_raters=without)
        sampling = SamplingConfig(max_completion_tokens=2)
        trained = train_reward_model.fn(
            config, sampling, pipeline=PIPELINE, data=data, preferences=labelled, sft=sft
        )
        return trained.metrics["reward/accuracy"]

    assert accuracy(without="eve") > accuracy(without="") + 0.05
