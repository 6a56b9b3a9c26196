"""Feedback: pairs of the model's own completions, compared and mixed at the stated share."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models.language.generation
import models.reward.disagreement
from models.errors import DataError, ParameterError
from models.evaluation.config import EndpointConfig
from models.evaluation.samples import Pair, Preferences
from models.language.config import SamplingConfig
from models.language.generation import SampledText
from models.reward.config import FeedbackConfig
from models.rows import last_text, read_rows, write_rows
from tasks.labelling.rounds import LastRound
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.settings import load_settings
from tasks.stages.feedback import annotate, collect_feedback
from tasks.world.families import known_prompts
from tests.tasks.judging.endpoint_server import Server

MESSAGES = [{"role": "user", "content": "Hello?"}]


class LongerIsBetter:
    """Prefers the longer completion, abstains between equally long ones."""

    def __init__(self) -> None:
        self.asked: list[Pair] = []

    def compare(self, pairs: Sequence[Pair]) -> Preferences:
        self.asked += pairs
        return Preferences(preference=np.array([self._one(pair) for pair in pairs]))

    def describe(self) -> dict[str, Any]:
        return {"annotator": "test"}

    def _one(self, pair: Pair) -> float:
        first, second = (len(last_text(text)) for text in (pair.first, pair.second))
        return math.nan if first == second else float(first > second)


def test_annotate_keeps_decided_pairs_and_counts_the_others() -> None:
    annotator = LongerIsBetter()
    pairs = [("a", "bb"), ("same", "same"), ("cc", "dd"), ("eee", "f")]
    decided, outcomes, _ = annotate(["p0", "p1", "p2", "p3"], pairs, annotator, 10)
    assert decided == [
        {"prompt": "p0", "chosen": "bb", "rejected": "a"},
        {"prompt": "p3", "chosen": "eee", "rejected": "f"},
    ]
    assert outcomes == Counter(equal=1, abstained=1, decided=2)
    assert len(annotator.asked) == 3  # equal completions are not worth anybody's time


def test_annotate_stops_at_the_number_wanted() -> None:
    pairs = [("a", "bb")] * 5
    decided, outcomes, _ = annotate([f"p{i}" for i in range(5)], pairs, LongerIsBetter(), 2)
    assert [one["prompt"] for one in decided] == ["p0", "p1"]
    assert outcomes["decided"] == 2


def test_annotate_leaves_out_pairs_that_were_cut_at_the_limit() -> None:
    annotator = LongerIsBetter()
    decided, outcomes, _ = annotate(["p0", "p1"], [None, ("a", "bb")], annotator, 10)
    assert [one["prompt"] for one in decided] == ["p1"]
    assert outcomes == Counter(unfinished=1, decided=1)
    assert len(annotator.asked) == 1


def test_annotate_gives_completions_the_form_of_their_prompt() -> None:
    decided, _, _ = annotate([MESSAGES], [("yes", "no")], LongerIsBetter(), 1)
    assert decided == [
        {
            "prompt": MESSAGES,
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "no"}],
        }
    ]


# --- the stage, with made-up completions --------------------------------------------------------

PROMPTS = ["What is the plural of box?", "Please greet Emma for me.", "Tell me what a foal is."]
PIPELINE = PipelineRun(name="pipe", preset="toy", seed=0, run_id="")


class Sampler:
    """Stands in for sampling: numbered completions, and a note of what was asked."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []
        self.seeds: list[int] = []

    def __call__(self, *, prompts: Sequence[Any], seed: int, **_: object) -> list[SampledText]:
        self.prompts = list(prompts)
        self.seeds.append(seed)
        return [
            SampledText(text=f"completion {index}", finished=True) for index in range(len(prompts))
        ]


@pytest.fixture
def sampler(home: Path, monkeypatch: pytest.MonkeyPatch) -> Sampler:
    sampler = Sampler()
    monkeypatch.setattr(models.language.generation, "complete", sampler)
    return sampler


def prepared(prompts: list[Any], given: int = 8, **columns: Any) -> StageRef:
    """Publish training prompts and ready-made preferences, perhaps with more columns."""

    def learn(work: Any) -> dict[str, float]:
        write_rows(work.out / "prompts_train.jsonl", [{"prompt": prompt} for prompt in prompts])
        write_rows(
            work.out / "preferences_train.jsonl",
            [
                {"prompt": f"given {i}", "chosen": "good", "rejected": "bad", **columns}
                for i in range(given)
            ],
        )
        return {}

    return run_stage(
        StageSpec(
            name="prepare", module="models.rows", parameters={"of": [prompts, given, columns]}
        ),
        PIPELINE,
        learn,
    )


def collect(
    data: StageRef, *, preferences: int = 10, shuffle: bool = False
) -> tuple[StageRef, Path]:
    config = FeedbackConfig(annotator="simulated", preferences=preferences, annotated_share=0.6)
    ref = collect_feedback.fn(
        config, SamplingConfig(), shuffle=shuffle, pipeline=PIPELINE, data=data, sft=data
    )
    return ref, Store(load_settings().store).folder(ref.stage, ref.digest)


def test_feedback_mixes_annotated_and_given_pairs_at_the_stated_share(sampler: Sampler) -> None:
    ref, folder = collect(prepared(PROMPTS))
    rows = read_rows(folder / "preferences_train.jsonl")
    given = [row for row in rows if row["prompt"].startswith("given")]
    annotated = [row for row in rows if row["prompt"] in PROMPTS]
    assert (len(annotated), len(given), len(rows)) == (6, 4, 10)  # 0.6 of 10
    assert ref.metrics["feedback/annotated_share"] == 0.6
    assert ref.metrics["feedback/pairs_decided"] == 6
    assert rows[:6] != annotated  # mixed, not one after the other
    report = json.loads((folder / "feedback.json").read_text())
    assert report["wanted"] == {"annotated": 6, "given": 4}
    assert report["annotator"]["annotator"] == "simulated"


@pytest.mark.parametrize("columns", [{}, {"margin": 0.5}, {"margin": 0.5, "tie": True}])
def test_feedback_gives_annotated_pairs_the_columns_of_the_given_ones(
    sampler: Sampler, columns: dict[str, Any]
) -> None:
    _, folder = collect(prepared(PROMPTS, **columns))
    rows = read_rows(folder / "preferences_train.jsonl")
    for row in rows:
        given = row["prompt"].startswith("given")
        wanted = columns if given else {name: type(one)() for name, one in columns.items()}
        assert {name: row[name] for name in row.keys() - {"prompt", "chosen", "rejected"}} == wanted


def test_feedback_samples_two_completions_of_each_prompt_and_reuses_prompts(
    sampler: Sampler,
) -> None:
    collect(prepared(PROMPTS))
    pairs = list(zip(sampler.prompts[::2], sampler.prompts[1::2], strict=True))
    assert all(first == second for first, second in pairs)
    assert len(pairs) == 9  # half as many again as the 6 wanted
    assert Counter(first for first, _ in pairs) == dict.fromkeys(PROMPTS, 3)


def test_feedback_pairs_two_completions_of_the_same_prompt(sampler: Sampler) -> None:
    _, folder = collect(prepared(PROMPTS))
    for row in read_rows(folder / "preferences_train.jsonl"):
        if row["prompt"] in PROMPTS:
            numbers = sorted(int(row[side].split()[1]) for side in ("chosen", "rejected"))
            assert numbers[0] % 2 == 0
            assert numbers[1] == numbers[0] + 1
            assert sampler.prompts[numbers[0]] == row["prompt"]


def test_feedback_labels_by_lot_when_shuffled(sampler: Sampler) -> None:
    data = prepared(PROMPTS)
    honest, _ = collect(data, preferences=100)
    control, folder = collect(data, preferences=100, shuffle=True)
    assert honest.digest != control.digest
    report = json.loads((folder / "feedback.json").read_text())
    assert report["annotator"]["shuffle"] is True


# --- rounds ------------------------------------------------------------------------------------


def another_round(data: StageRef, last: LastRound, preferences: int = 10) -> tuple[StageRef, Path]:
    config = FeedbackConfig(annotator="simulated", preferences=preferences, annotated_share=0.6)
    ref = collect_feedback.fn(
        config, SamplingConfig(), shuffle=False, pipeline=PIPELINE, data=data, sft=data, last=last
    )
    return ref, Store(load_settings().store).folder(ref.stage, ref.digest)


def test_feedback_of_a_later_round_adds_to_the_earlier_ones_in_the_same_mix(
    sampler: Sampler,
) -> None:
    data = prepared(PROMPTS)
    first, before = collect(data)
    second, after = another_round(data, LastRound(earlier=first))
    rows, all_rows = (read_rows(one / "preferences_train.jsonl") for one in (before, after))
    assert len(all_rows) == 10 + 6 + 4  # the 8 given pairs are all used now
    assert all(row in all_rows for row in rows)
    given = [row["prompt"] for row in all_rows if row["prompt"].startswith("given")]
    assert sorted(given) == [f"given {number}" for number in range(8)]
    assert (second.metrics["feedback/annotated"], second.metrics["feedback/given"]) == (12, 8)
    assert sampler.seeds[0] != sampler.seeds[1]
    third, _ = another_round(data, LastRound(earlier=second))
    assert third.metrics["feedback/annotated"] == 18
    assert third.metrics["feedback/given"] == 8  # there are no more
    assert len(set(sampler.seeds)) == 3


def test_feedback_asks_about_other_prompts_in_each_round_while_there_are_some(
    sampler: Sampler,
) -> None:
    prompts = list(known_prompts())[:8]
    data = prepared(prompts)
    ref, _ = collect(data, preferences=5)  # 3 annotated: 4 prompts are asked about
    asked = [set(sampler.prompts)]
    for _ in range(2):
        ref, _ = another_round(data, LastRound(earlier=ref), preferences=5)
        asked.append(set(sampler.prompts))
    assert [len(one) for one in asked] == [4, 4, 4]
    assert asked[0] | asked[1] == set(prompts)
    assert asked[2] == asked[0]  # round about, in the same order


def test_feedback_asks_about_what_two_reward_models_disagree_about_most(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = list(known_prompts())[:40]
    data = prepared(prompts)

    def measure(*, prompts: Sequence[Any], **_: object) -> list[float]:
        return [float(len(prompt)) for prompt in prompts]

    monkeypatch.setattr(models.reward.disagreement, "measure_disagreement", measure)
    first, _ = collect(data, preferences=5)
    second, after = another_round(data, LastRound(earlier=first, rivals=(data, data)), 5)
    assert len(sampler.prompts) == 2 * 16  # 4 wanted, four times as many looked at
    asked = [row["prompt"] for row in read_rows(after / "asked.jsonl") if row["round"] == 2]
    assert asked == sorted(sampler.prompts[::2], key=len, reverse=True)[:4]
    other, _ = another_round(data, LastRound(earlier=first), 5)
    assert second.digest != other.digest


def test_feedback_says_what_is_missing_without_prompts(sampler: Sampler) -> None:
    with pytest.raises(DataError, match=r"no training prompts .* feedback\.annotator=none"):
        collect(prepared([]))


# --- an annotator behind an API -----------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def asked(server: Server, data: StageRef, criteria: str) -> tuple[StageRef, Path]:
    endpoint = EndpointConfig(url=server.url, model="tiny", criteria=criteria)
    config = FeedbackConfig(
        annotator="endpoint", preferences=10, annotated_share=0.6, endpoint=endpoint
    )
    ref = collect_feedback.fn(
        config, SamplingConfig(), shuffle=False, pipeline=PIPELINE, data=data, sft=data
    )
    return ref, Store(load_settings().store).folder(ref.stage, ref.digest)


def test_endpoint_annotates_by_the_criteria_and_the_report_says_who(
    sampler: Sampler, server: Server
) -> None:
    server.answer = lambda pair: "A" if int(pair["A"].split()[1]) % 2 else "B"  # the second sample
    data = prepared(PROMPTS)
    ref, folder = asked(server, data, "The later, the better.")
    rows = [
        row for row in read_rows(folder / "preferences_train.jsonl") if row["prompt"] in PROMPTS
    ]
    assert len(rows) == 6
    assert all(int(row["chosen"].split()[1]) % 2 for row in rows)
    assert len(server.requests) == 18  # both orders of nine pairs
    assert "The later, the better." in server.requests[0]["messages"][0]["content"]
    report = json.loads((folder / "feedback.json").read_text())["annotator"]
    assert (report["annotator"], report["model"]) == ("endpoint", "tiny")
    assert report["follows_position"] == 0.0
    again, _ = asked(server, data, "The later, the better.")
    other, _ = asked(server, data, "The earlier, the better.")
    assert again.reused
    assert other.digest != ref.digest


def test_endpoint_that_ends_in_between_is_not_asked_twice(sampler: Sampler, server: Server) -> None:
    data = prepared(PROMPTS)
    server.statuses = [200] * 6 + [400]
    with pytest.raises(ParameterError, match="refuses the request"):
        asked(server, data, "Longer.")
    before = len(server.requests)
    server.statuses = []
    asked(server, data, "Longer.")
    answered = before - 1
    assert len(server.requests) - before <= 18 - answered + 4  # those that were in flight
    assert len(server.requests) - before >= 18 - answered - 4


def test_endpoint_without_a_model_and_with_random_labels_is_refused(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match=r"endpoint\.model is ''; give both"):
        FeedbackConfig(annotator="endpoint", endpoint=EndpointConfig(url="http://127.0.0.1:9/v1"))
    endpoint = EndpointConfig(url="http://127.0.0.1:9/v1", model="m")
    config = FeedbackConfig(annotator="endpoint", endpoint=endpoint)
    data = prepared(PROMPTS)
    with pytest.raises(ParameterError, match="random labels are a control"):
        collect_feedback.fn(
            config, SamplingConfig(), shuffle=True, pipeline=PIPELINE, data=data, sft=data
        )
