"""Lineage: one answer from the store's manifests and from MLflow's tags, on a real small chain."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.image import imread

from models.errors import ModelError, StoreError
from tasks.registry.lineage import ancestry, trace
from tasks.registry.records import Joined, MlflowReader, Reader, Record, StoreReader
from tasks.registry.registration import register
from tasks.reports.lineage import date, draw_lineage, numbers, short, sources, title
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun, open_pipeline
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.tracking.client import Tracker

FILES = "f" * 64
ORDER = [
    "outside", "prepare", "tokenizer", "pretrain", "sft", "feedback", "reward", "judge", "ppo",
    "evaluate",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A whole chain of stages, two policies with an evaluation each."""

    refs: Mapping[str, StageRef]

    def digest(self, stage: str) -> str:
        return self.refs[stage].digest


def stage(
    pipeline: PipelineRun,
    name: str,
    metrics: Mapping[str, float],
    *,
    size: int = 1,
    external: Mapping[str, str] | None = None,
    **inputs: StageRef,
) -> StageRef:
    """Publish a stage as the pipeline's do."""

    def learn(work: Workspace) -> Mapping[str, float]:
        work.log({"curve/loss": 1.0}, 1)
        (work.out / "model").mkdir()
        (work.out / "model" / "config.json").write_text(name)
        return metrics

    spec = StageSpec(
        name=name,
        module="models.randomness",
        parameters={name: {"size": size}},
        inputs=inputs,
        external=external or {},
    )
    return run_stage(spec, pipeline, learn)


@pytest.fixture
def chain(home: Path) -> Chain:
    with open_pipeline(name="pipe", preset="toy", seed=3, parameters={"seed": 3}) as one:
        data = stage(one, "prepare", {"data/corpus_rows": 5.0}, external={"files": FILES})
        words = stage(one, "tokenizer", {"tokenizer/vocab_size": 99.0}, corpus=data)
        base = stage(one, "pretrain", {"pretrain/bits_per_byte": 0.5}, corpus=data, tokenizer=words)
        sft = stage(one, "sft", {"sft/rows": 7.0, "other/x": 1.0}, base=base, demonstrations=data)
        pairs = stage(one, "feedback", {"feedback/preferences": 4.0}, sft=sft, prompts=data)
        reward = stage(one, "reward", {"reward/accuracy": 0.8}, sft=sft, preferences=pairs)
        judge = stage(one, "judge", {"judge/accuracy": 0.7}, sft=sft, preferences=pairs)
        refs = {
            "prepare": data,
            "tokenizer": words,
            "pretrain": base,
            "sft": sft,
            "feedback": pairs,
        }
        for size, name in ((1, "ppo"), (2, "other ppo")):
            made = {"actor": sft, "reference": sft, "reward_model": reward, "critic": reward}
            score = {"ppo/objective/score": float(size)}
            policy = stage(one, "ppo", score, size=size, prompts=data, **made)
            judged = stage(
                one, "evaluate", {"final/win_rate": 0.6}, policy=policy, reference=sft, judge=judge
            )
            refs |= {name: policy, name.replace("ppo", "evaluate"): judged}
    return Chain(refs={**refs, "reward": reward, "judge": judge})


def in_store() -> Reader:
    return StoreReader(Store(load_settings().store))


def in_mlflow() -> Reader:
    return MlflowReader(Tracker(load_settings()))


class Listed:
    """A reader of a few records."""

    def __init__(self, *records: Record) -> None:
        self._records = {one.digest: one for one in records}

    def find(self, digest: str) -> Record | None:
        return self._records.get(digest)

    def named(self, stage: str, beginning: str) -> set[str]:
        return {one for one in self._records if one.startswith(beginning)}

    def judging(self, digest: str) -> set[str]:
        return {*self._records} - {digest}


def test_store_and_mlflow_give_the_same_lineage(chain: Chain) -> None:
    digest = chain.digest("ppo")
    from_store, from_mlflow = trace(in_store(), digest), trace(in_mlflow(), digest)
    assert from_store == from_mlflow
    assert [one.run_id for one in from_store] == [one.run_id for one in from_mlflow]
    shown = [one.stage or one.state for one in from_store]
    assert shown == ORDER or shown == [*ORDER[:6], "judge", "reward", *ORDER[8:]]


def test_lineage_holds_digests_roles_metrics_runs_and_dates(chain: Chain) -> None:
    records = {one.stage or one.state: one for one in trace(in_mlflow(), chain.digest("ppo"))}
    policy = records["ppo"]
    assert policy.asked
    assert not records["sft"].asked
    assert policy.digest == chain.digest("ppo")
    assert policy.run_id == chain.refs["ppo"].run_id
    assert policy.made is not None
    assert policy.metrics == {"ppo/objective/score": 1.0}
    assert policy.inputs == {
        "actor": chain.digest("sft"),
        "critic": chain.digest("reward"),
        "prompts": chain.digest("prepare"),
        "reference": chain.digest("sft"),
        "reward_model": chain.digest("reward"),
    }
    assert records["sft"].metrics == {"sft/rows": 7.0}  # other/x is no key metric
    assert records["outside"].digest == FILES


def test_lineage_shows_the_evaluations_of_what_was_asked_only(chain: Chain) -> None:
    for name, wanted in (("ppo", "evaluate"), ("other ppo", "other evaluate")):
        records = trace(in_store(), chain.digest(name))
        judged = [one.digest for one in records if one.stage == "evaluate"]
        assert judged == [chain.digest(wanted)]
        assert chain.digest(name) in {one.digest for one in records}
        assert len([one for one in records if one.stage == "ppo"]) == 1
    assert {one.stage for one in trace(in_store(), chain.digest("sft"))} == {
        "", "prepare", "tokenizer", "pretrain", "sft"
    }  # fmt: skip


def test_lineage_lists_each_after_what_it_was_made_from(chain: Chain) -> None:
    records = trace(in_store(), chain.digest("ppo"))
    place = {one.digest: row for row, one in enumerate(records)}
    for one in records:
        assert all(place[digest] < place[one.digest] for digest in one.inputs.values())


def test_lineage_comes_from_mlflow_alone_when_the_store_is_cleaned(chain: Chain) -> None:
    before = ancestry(load_settings(), f"ppo/{chain.digest('ppo')[:10]}")
    shutil.rmtree(load_settings().store)
    assert ancestry(load_settings(), f"ppo/{chain.digest('ppo')[:10]}") == before


def test_lineage_comes_from_the_store_alone_when_mlflow_is_away(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ancestry(load_settings(), chain.digest("ppo")[:10])
    monkeypatch.setenv("QUARTET_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody
    assert ancestry(load_settings(), chain.digest("ppo")[:10]) == before


def test_a_missing_ancestor_is_unknown_and_named_by_mlflows_tags(chain: Chain) -> None:
    shutil.rmtree(load_settings().store / "sft")
    gone = trace(in_store(), chain.digest("ppo"))
    unknown = [one for one in gone if one.state == "unknown"]
    assert [(one.stage, one.digest) for one in unknown] == [("", chain.digest("sft"))]
    tracker = Tracker(load_settings())
    tracker.client.delete_run(chain.refs["sft"].run_id)
    told = trace(in_mlflow(), chain.digest("ppo"))
    unknown = [one for one in told if one.state == "unknown"]
    assert [(one.stage, one.digest) for one in unknown] == [("sft", chain.digest("sft"))]
    both = trace(Joined(in_store(), in_mlflow()), chain.digest("ppo"))
    assert [one.stage for one in both if one.state == "unknown"] == ["sft"]
    assert "sft (unknown)" in [title(one) for one in both]


def test_a_registered_model_is_traced_even_when_its_stage_is_gone(chain: Chain) -> None:
    pipeline = PipelineRun(name="pipe", preset="toy", seed=3, run_id="")
    register(chain.refs["ppo"], pipeline)
    name = "models:/toy-policy/1"
    assert ancestry(load_settings(), name) == ancestry(load_settings(), chain.digest("ppo"))
    shutil.rmtree(load_settings().store / "ppo")
    Tracker(load_settings()).client.delete_run(chain.refs["ppo"].run_id)
    records = {one.stage: one for one in ancestry(load_settings(), name)}
    assert records["ppo"].asked
    assert records["ppo"].inputs["actor"] == chain.digest("sft")
    assert records["sft"].state == "published"


def test_ancestry_refuses_what_names_nothing_or_two(chain: Chain) -> None:
    for name in (
        "ppo/0123456789",
        "sft/" + chain.digest("ppo"),
        "",
        "nonsense",
        "~nobody",
        "a" * 300,
    ):
        with pytest.raises(StoreError, match="names 0 published stages"):
            ancestry(load_settings(), name)
    with pytest.raises(ModelError, match="toy-policy"):
        ancestry(load_settings(), "models:/toy-policy@champion")


def test_a_folder_of_the_store_is_traced(chain: Chain) -> None:
    folder = load_settings().store / "ppo" / chain.digest("ppo")
    for path in (folder, folder / "model"):
        asked = [one for one in ancestry(load_settings(), str(path)) if one.asked]
        assert [one.digest for one in asked] == [chain.digest("ppo")]


def test_models_of_the_hub_are_outside() -> None:
    base = Record(stage="base", digest="b" * 64, inputs={"model": "a/b@0123"})
    records = trace(Listed(base), base.digest)
    assert [(one.state, one.digest) for one in records] == [
        ("outside", "a/b@0123"),
        ("published", "b" * 64),
    ]


def test_a_record_is_put_into_words(chain: Chain) -> None:
    known = {one.digest: one for one in trace(in_store(), chain.digest("ppo"))}
    policy = known[chain.digest("ppo")]
    assert title(policy) == "ppo"
    assert short(policy.digest) == chain.digest("ppo")[:12]
    assert f"actor and reference: sft {chain.digest('sft')[:12]}" in sources(policy, known)
    assert "score 1" in numbers(policy)
    assert policy.made is not None
    assert date(policy).startswith(str(policy.made.year))


def test_a_metric_that_is_no_number_is_shown_as_it_is() -> None:
    found = {"final/win_rate": math.nan, "final/score_gain": math.inf, "final/accepted": 1.0}
    record = Record(stage="evaluate", digest="e" * 64, metrics=found)
    assert numbers(record) == ["win_rate nan", "score_gain inf", "accepted 1"]


def test_the_picture_grows_with_the_records_and_repeats(chain: Chain, tmp_path: Path) -> None:
    records = trace(in_store(), chain.digest("ppo"))
    for name in ("a.png", "b.png"):
        draw_lineage(records, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    draw_lineage(records[:3], tmp_path / "short.png")
    tall, low = imread(tmp_path / "a.png"), imread(tmp_path / "short.png")
    assert tall.shape[0] > low.shape[0]
    assert tall.min() < 0.5


def test_the_quality_of_a_reward_model_is_shown_with_it_alone() -> None:
    sft, reward, quality = (
        Record(stage="sft", digest="a" * 64),
        Record(stage="reward", digest="b" * 64, inputs={"sft": "a" * 64}),
        Record(
            stage="reward-quality",
            digest="c" * 64,
            inputs={"reward_model": "b" * 64, "sft": "a" * 64},
        ),
    )
    reader = Listed(sft, reward, quality)
    shown = [one.stage for one in trace(reader, reward.digest)]
    assert shown == ["sft", "reward", "reward-quality"]
    assert [one.stage for one in trace(reader, sft.digest)] == ["sft"]
