"""Comparing runs, on a real local MLflow with runs, curves and evaluations logged as stages do."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import ParameterError, StoreError
from models.evaluation.result import read_samples
from models.rows import write_rows
from tasks.comparison.compare import compare_runs
from tasks.comparison.finding import find_runs
from tasks.comparison.runs import gather, to_samples
from tasks.results.curves import append_history
from tasks.results.store import Manifest, Store, list_files, write_manifest
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.metrics import Point
from tests.models.evaluation.by_hand import compared_samples, decided, evaluation, gold

Samples = Sequence[Mapping[str, Any]]


@pytest.fixture
def tracker(home: Path) -> Tracker:
    return Tracker(load_settings())


@pytest.fixture
def store(home: Path) -> Store:
    return Store(load_settings().store)


def start_pipeline(tracker: Tracker, name: str, **parameters: str) -> str:
    return tracker.start_run(
        name, parameters=parameters, tags={"quartet.kind": "pipeline", "git.commit": "c0ffee"}
    )


def start_stage(tracker: Tracker, parent: str, stage: str, digest: str, **tags: str) -> str:
    common = {
        "mlflow.parentRunId": parent,
        "quartet.kind": "stage",
        "quartet.stage": stage,
        "quartet.digest": digest,
    }
    return tracker.start_run(f"run/{stage}", parameters={}, tags=common | tags)


def publish(store: Store, stage: str, digest: str, files: Mapping[str, str]) -> Path:
    folder = store.writing(stage, digest)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    manifest = Manifest(
        stage=stage, digest=digest, seed=0, parameters={}, inputs={}, libraries={}, code="",
        run_id="", seconds=1.0, metrics={}, files=list_files(folder),
    )  # fmt: skip
    write_manifest(folder, manifest)
    store.publish(folder, stage, digest)
    return store.folder(stage, digest)


def samples(scores: Sequence[float], text: str = "fine") -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"prompt {index}",
            "sft": "well",
            "ppo": text,
            "sft_score": 0.0,
            "ppo_score": score,
            "sft_gold": 0.5,
            "ppo_gold": score,
        }
        for index, score in enumerate(scores)
    ]


def evaluated(
    tracker: Tracker,
    store: Store,
    name: str,
    rows: Samples,
    *,
    gain: tuple[float, float, float],
    accepted: bool = True,
    old: bool = False,
    **parameters: str,
) -> str:
    """A whole run with an evaluation, whose PPO curves only MLflow has."""
    run_id = start_pipeline(tracker, name, **parameters)
    ppo = start_stage(tracker, run_id, "ppo", f"ppo-{run_id}")
    curve = {"ppo/objective/score": 0.5, "ppo/objective/kl_to_reference": 1.0}
    tracker.log_points(
        ppo,
        [
            Point(name=metric, value=value * step, step=step, time_ms=1)
            for metric, value in curve.items()
            for step in (1, 2, 3)
        ],
    )
    inputs = {"input.reward_model": "reward/r", "input.reference": "sft/s"}
    digest = f"evaluate-{run_id}"
    child = start_stage(tracker, run_id, "evaluate", digest, **inputs)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    verdict = json.dumps({"accepted": accepted, "reasons": ["It is <b>so</b>."]})
    publish(store, "evaluate", digest, {"samples.jsonl": lines, "verdict.json": verdict})
    ends = dict(zip(("gold_gain", "gold_gain_low", "gold_gain_high"), gain, strict=True))
    final = {"accepted": float(accepted), "gold_ppo": 0.5 + gain[0], "gold_sft": 0.5}
    final |= {"score_ppo": 1.0, "kl_to_reference": 2.0, **ends}
    shown = run_id if old else child
    tracker.log(shown, metrics={f"final/{key}": value for key, value in final.items()})
    tracker.log(run_id, metrics={"final/accepted": float(accepted), "final/gain": gain[0]})
    tracker.finish(run_id, "FINISHED")
    return run_id


# --- names --------------------------------------------------------------------------------------


def test_runs_are_found_by_name_by_id_and_by_its_beginning(tracker: Tracker) -> None:
    ids = [start_pipeline(tracker, f"run-{index}") for index in range(3)]
    found = find_runs(tracker, ["run-2", ids[0], ids[1][:6]])
    assert [run.info.run_id for run in found] == [ids[2], ids[0], ids[1]]


def test_unknown_run_is_refused_with_the_name_that_is_near(tracker: Tracker) -> None:
    for name in ("quickstart-20260101-000000", "tiny-20260202-111111"):
        start_pipeline(tracker, name)
    with pytest.raises(ParameterError, match=r"near are quickstart-20260101-000000 \("):
        find_runs(tracker, ["quickstart-20260101-000001", "tiny-20260202-111111"])
    with pytest.raises(ParameterError, match="no pipeline run is called"):
        find_runs(tracker, ["tiny-20260202-111111", "abc"])  # too short for an id


def test_name_of_two_runs_is_refused_with_both_ids(tracker: Tracker) -> None:
    ids = [start_pipeline(tracker, "twice") for _ in range(2)]
    with pytest.raises(ParameterError, match=r"several runs are called .*: give the id") as caught:
        find_runs(tracker, ["twice", "twice"])
    assert all(run_id[:8] in str(caught.value) for run_id in ids)


def test_one_run_and_the_same_run_twice_are_refused(tracker: Tracker) -> None:
    run_id = start_pipeline(tracker, "alone")
    with pytest.raises(ParameterError, match="got 1 run to compare, wanted 2 to 7"):
        find_runs(tracker, ["alone"])
    with pytest.raises(ParameterError, match="named twice"):
        find_runs(tracker, ["alone", run_id])


def test_stage_runs_cannot_be_compared(tracker: Tracker) -> None:
    parent = start_pipeline(tracker, "parent")
    child = start_stage(tracker, parent, "ppo", "d1")
    with pytest.raises(ParameterError, match="no pipeline run is called"):
        find_runs(tracker, [parent, child])


def test_verdict_is_read_from_the_evaluation_and_from_an_older_pipelines_run(
    tracker: Tracker, store: Store
) -> None:
    for old in (False, True):
        gain = (0.1, 0.05, 0.15)
        name = f"old {old}"
        run_id = evaluated(tracker, store, name, samples([1.0]), gain=gain, old=old)
        record = gather(tracker, store, tracker.client.get_run(run_id))
        assert record.verdict == "accepted"
        assert (record.final["gold_ppo"], record.final["gold_gain_low"]) == (0.6, 0.05)


# --- records ------------------------------------------------------------------------------------


def test_run_that_failed_is_taken_as_far_as_it_got(tracker: Tracker, store: Store) -> None:
    run_id = start_pipeline(tracker, "broken", lr="0.1")
    child = start_stage(tracker, run_id, "sft", "d1")
    tracker.log_points(
        child, [Point(name="sft/loss", value=2.0 / step, step=step, time_ms=1) for step in (2, 1)]
    )
    tracker.finish(run_id, "FAILED")
    record = gather(tracker, store, tracker.client.get_run(run_id))
    assert record.curves == {"sft/loss": [(1, 2.0), (2, 1.0)]}
    assert (record.verdict, record.stages, record.computed) == ("", {"sft": "d1"}, 1)
    assert record.parameters == {"lr": "0.1"}
    assert [*record.notes] == [
        "its status is failed",
        "it was not evaluated (its last stage is sft): compared as far as it got",
    ]


def test_reused_stage_has_the_curves_of_the_run_that_made_it(
    tracker: Tracker, store: Store
) -> None:
    maker = start_stage(tracker, start_pipeline(tracker, "first"), "sft", "d1")
    tracker.log_points(maker, [Point(name="sft/loss", value=3.0, step=7, time_ms=1)])
    second = start_pipeline(tracker, "second")
    tags = {"quartet.reused": "true", "quartet.made_by": maker}
    start_stage(tracker, second, "sft", "d1", **tags)
    record = gather(tracker, store, tracker.client.get_run(second))
    assert record.curves == {"sft/loss": [(7, 3.0)]}
    assert record.computed == 0


def test_curves_in_the_store_go_before_those_in_mlflow(tracker: Tracker, store: Store) -> None:
    run_id = start_pipeline(tracker, "first")
    child = start_stage(tracker, run_id, "sft", "d1")
    tracker.log_points(child, [Point(name="sft/loss", value=3.0, step=7, time_ms=1)])
    folder = publish(store, "sft", "d1", {})
    append_history(folder, {"sft/loss": 1.5, "sft/other": 9.0}, 8)
    record = gather(tracker, store, tracker.client.get_run(run_id))
    assert record.curves == {"sft/loss": [(8, 1.5)]}


def test_evaluation_that_only_mlflow_has_is_fetched(tracker: Tracker, store: Store) -> None:
    run_id = evaluated(tracker, store, "one", samples([1.0, 0.0]), gain=(0.1, 0.05, 0.15))
    digest = f"evaluate-{run_id}"
    folder = store.folder("evaluate", digest)
    keeper = tracker.start_run("keeper", parameters={}, tags={"quartet.published": digest})
    tracker.log_folder(keeper, folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    record = gather(tracker, store, tracker.client.get_run(run_id))
    assert [sample.ppo.scores["gold"] for sample in record.samples] == [1.0, 0.0]
    assert record.reasons == ["It is <b>so</b>."]
    assert record.judges == {"gold": "gold", "score": "reward/r"}
    assert record.sft == "sft/s"


def test_evaluation_that_decided_nothing_is_told_with_its_reason(
    tracker: Tracker, store: Store, tmp_path: Path
) -> None:
    """A record of today's layout, of two prompts."""
    both = compared_samples(gold(), gold())
    decided(*both, "gold").write(tmp_path)
    write_rows(tmp_path / "samples.jsonl", evaluation(*both).rows())
    files = {one.name: one.read_text() for one in tmp_path.glob("*.json*")}
    ids = []
    for name in ("one", "two"):
        ids.append(start_pipeline(tracker, name))
        start_stage(tracker, ids[-1], "evaluate", name)
        publish(store, "evaluate", name, files)
        tracker.log(ids[-1], tags={"quartet.verdict": "not enough prompts"})
        tracker.log(ids[-1], metrics={"final/accepted": 0.0, "final/gold_ppo": 1.0})
        tracker.finish(ids[-1], "FINISHED")
    record = gather(tracker, store, tracker.client.get_run(ids[0]))
    assert record.verdict == "not enough prompts"
    assert record.reasons[0] == "Measured on 2 held-out prompts, fewer than the 30 needed."
    assert [one.ppo.scores for one in record.samples] == [
        {"score": 1.0, "gold": 1.0}, {"score": 3.0, "gold": 1.0},
    ]  # fmt: skip
    result = compare_runs.fn(ids, tmp_path / "report")
    assert result.sentence == "No winner: no evaluated run was accepted."
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "A was not accepted:" in page
    assert record.reasons[0] in page


def test_damaged_evaluation_is_an_error(tracker: Tracker, store: Store) -> None:
    run_id = evaluated(tracker, store, "one", samples([1.0, 0.0]), gain=(0.1, 0.05, 0.15))
    (store.folder("evaluate", f"evaluate-{run_id}") / "samples.jsonl").write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        gather(tracker, store, tracker.client.get_run(run_id))


def test_samples_that_are_nowhere_leave_a_note(tracker: Tracker, store: Store) -> None:
    run_id = start_pipeline(tracker, "one")
    start_stage(tracker, run_id, "evaluate", "gone")
    tracker.log(run_id, metrics={"final/accepted": 0.0})
    tracker.finish(run_id, "FINISHED")
    record = gather(tracker, store, tracker.client.get_run(run_id))
    assert record.verdict == "rejected"
    assert [*record.notes] == ["its samples are neither in the store nor in MLflow: no win rates"]


def test_every_stage_without_weights_is_named(tracker: Tracker, store: Store) -> None:
    run_id = start_pipeline(tracker, "one")
    removed = {"quartet.weights_removed": "2026-11-30"}
    for stage in ("sft", "reward", "ppo"):
        start_stage(tracker, run_id, stage, f"d-{stage}", **removed)
    record = gather(tracker, store, tracker.client.get_run(run_id))
    assert record.notes[0] == "weights removed on 2026-11-30 (sft, reward, ppo)"


@pytest.mark.parametrize("old", [False, True])
def test_first_completions_of_both_models_stand_side_by_side(tmp_path: Path, old: bool) -> None:
    """In rows of one completion, and in the rows of both models that older evaluations wrote."""
    both = [
        {"prompt": "p", "sft": "a", "ppo": text, "sft_gold": 0.5, "ppo_gold": 1.0,
         "ppo_judge_score": 3.0, "ppo_kl_to_reference": 3.0}
        for text in ("b", "c")
    ]  # fmt: skip
    single: list[dict[str, Any]] = [
        {"model": model, "prompt": "p", "sample": sample, "completion": row[model],
         "scores": scores}
        for model, scores in (("sft", {"gold": 0.5}), ("ppo", {"gold": 1.0, "judge": 3.0}))
        for row in both
        for sample in (0, 1)
    ]  # fmt: skip
    third = {"model": "other", "prompt": "p", "sample": 0, "completion": "d", "scores": {}}
    write_rows(tmp_path / "samples.jsonl", both if old else [third, *single])
    found = to_samples(read_samples(tmp_path))
    assert [(one.turn, one.sft.text, one.ppo.text) for one in found] == [
        (0, "a", "b"),
        (1, "a", "c"),
    ]
    assert [one.ppo.scores for one in found] == [{"gold": 1.0, "judge_score": 3.0}] * 2


# --- the whole ----------------------------------------------------------------------------------


def test_comparison_is_written_and_logged_as_a_run_that_names_the_others(
    tracker: Tracker, store: Store, tmp_path: Path
) -> None:
    script = "<script>alert(1)</script>"
    good = evaluated(
        tracker, store, "good", samples([1.0] * 8, script), gain=(0.4, 0.3, 0.5), coef="0.1"
    )
    bad = evaluated(
        tracker, store, "bad", samples([0.0] * 8), gain=(-0.1, -0.2, 0.1), accepted=False, coef="0"
    )
    broken = start_pipeline(tracker, script, coef="0.1")
    tracker.finish(broken, "KILLED")
    out = tmp_path / "report"
    result = compare_runs.fn(["good", bad, broken], out)

    assert (result.best, result.folder) == (good, out)
    assert result.sentence.startswith("A is best: it alone was accepted")
    drawn = {path.name for path in out.glob("*.png")}
    assert drawn == {"frontier.png", "win_rates.png", "spread.png", "ppo.png"}  # no other curves
    page = (out / "report.html").read_text(encoding="utf-8")
    assert script not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "It is &lt;b&gt;so&lt;/b&gt;." in page
    assert page.count("data:image/png;base64,") == len(drawn)
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded from elsewhere
    assert "C: it was not evaluated (it has no stage)" in page

    run = tracker.client.get_run(result.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", result.name)
    tags = run.data.tags
    assert tags["quartet.kind"] == "comparison"
    assert tags["quartet.compared"] == f"{good},{bad},{broken}"
    assert tags["quartet.best"] == good
    assert tracker.find_tagged({f"quartet.compared.{bad}": "bad"}) == [result.run_id]
    logged = {
        file.path.rpartition("/")[2]
        for file in tracker.client.list_artifacts(result.run_id, "comparison")
    }
    assert logged == drawn | {"report.html", "report.md"}


def test_comparison_of_runs_that_came_to_nothing_says_so(tracker: Tracker, tmp_path: Path) -> None:
    for name in ("one", "two"):
        tracker.finish(start_pipeline(tracker, name), "FAILED")
    result = compare_runs.fn(["one", "two"], tmp_path / "report")
    assert (result.best, result.sentence) == ("", "No winner: no run was evaluated.")
    assert not list(result.folder.glob("*.png"))
    assert "No parameter differs." in (result.folder / "report.html").read_text(encoding="utf-8")


def test_comparison_refuses_a_file_as_its_folder(tracker: Tracker, tmp_path: Path) -> None:
    for name in ("one", "two"):
        start_pipeline(tracker, name)
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="cannot be made"):
        compare_runs.fn(["one", "two"], tmp_path / "file")
