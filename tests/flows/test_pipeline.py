"""The whole pipeline end to end, tiny but real: stages, lineage, reuse, own data, same bits."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from flows.cli.report import result_json
from flows.parameters import load_preset
from flows.pipeline import PipelineResult
from models.errors import DataError
from models.rows import read_rows, write_rows
from tasks.catalogue import entry
from tasks.comparison.finding import find_runs
from tasks.comparison.runs import gather
from tasks.registry.origins import open_origin
from tasks.results.code import EXEMPT, reached_definitions
from tasks.results.store import StageRef, Store, verify
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.recording import page_folder

WORLD_STAGES = [
    "prepare", "tokenizer", "pretrain", "sft", "feedback", "reward", "reward-quality", "ppo",
    "evaluate",
]  # fmt: skip

LEARNING = (
    "tasks.data.build.build_datasets",
    "models.language.tokenizer.train_tokenizer",
    "models.training.pretraining.pretrain",
    "models.training.sft.finetune",
    "models.language.generation.complete",
    "models.reward.training.train_reward_model",
    "models.ppo.run.train_ppo",
    "models.evaluation.evaluation.evaluate",
)


def by_name(result: PipelineResult) -> dict[str, StageRef]:
    return {ref.stage: ref for ref in result.stages}


def digests(result: PipelineResult) -> dict[str, str]:
    return {ref.stage: ref.digest for ref in result.stages}


def mlflow(home: Any) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{home.path / 'mlflow.db'}")


def children(home: Any, result: PipelineResult) -> dict[str, Run]:
    client = mlflow(home)
    parent = client.get_run(result.mlflow_run_id)
    runs = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{result.mlflow_run_id}'"
    )
    return {run.data.tags["quartet.stage"]: run for run in runs}


def weights(home: Any, result: PipelineResult) -> dict[str, str]:
    """sha256 of every safetensors file that a run published."""
    return {
        f"{ref.stage}/{path.relative_to(home.folder(ref))}": hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for ref in result.stages
        for path in sorted(home.folder(ref).rglob("*.safetensors"))
    }


def artifacts(home: Any, run_id: str, folder: str) -> set[str]:
    return {Path(file.path).name for file in mlflow(home).list_artifacts(run_id, folder)}


# --- one run ------------------------------------------------------------------------------------


def test_pipeline_publishes_every_stage_whole(first_run: PipelineResult, first_home: Any) -> None:
    assert sorted(by_name(first_run)) == sorted(WORLD_STAGES)
    assert len(first_run.stages) == len(WORLD_STAGES)
    for ref in first_run.stages:
        manifest = verify(first_home.folder(ref), ref.stage, ref.digest)
        assert (manifest.stage, manifest.digest) == (ref.stage, ref.digest)
        assert manifest.metrics == ref.metrics
        assert not ref.reused
    assert not list((first_home.path / "store").glob("*/*.partial"))
    assert not list((first_home.path / "store").glob("*/*.writing"))


def test_pipeline_runs_stages_in_the_order_in_which_data_flows(first_run: PipelineResult) -> None:
    assert [ref.stage for ref in first_run.stages] == WORLD_STAGES


def test_pipeline_publishes_complete_model_folders(
    first_run: PipelineResult, first_home: Any
) -> None:
    stages = by_name(first_run)
    for stage, name in (
        ("pretrain", "model"),
        ("sft", "model"),
        ("reward", "model"),
        ("ppo", "model"),
        ("ppo", "critic"),
    ):
        folder = first_home.folder(stages[stage]) / name
        names = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names, stage
        assert "chat_template.jinja" in names, stage
    for stage in ("pretrain", "sft", "ppo"):
        assert (first_home.folder(stages[stage]) / "model" / "generation_config.json").is_file()


def test_pipeline_encodes_each_file_once(first_run: PipelineResult, first_home: Any) -> None:
    """The tokenizer's own measure and pretraining read the same tokens, for example."""
    files = (first_home.path / "cache" / "tokens").glob("*/*")
    kinds = Counter(path.name.partition("-")[0] for path in files)
    # Those of rows may also be of other runs in this home.
    rows = {"demonstrations_train", "preferences_train", "prompts_train"}
    assert kinds.keys() == {"corpus_heldout", "corpus_train"} | rows
    assert kinds["corpus_heldout"] == kinds["corpus_train"] == 1


def test_pipeline_manifests_name_inputs_by_digest(
    first_run: PipelineResult, first_home: Any
) -> None:
    made = digests(first_run)
    ppo = by_name(first_run)["ppo"]
    manifest = verify(first_home.folder(ppo), ppo.stage, ppo.digest)
    assert manifest.inputs == {
        "actor": made["sft"],
        "reference": made["sft"],
        "critic": made["reward"],
        "reward_model": made["reward"],
        "prompts": made["prepare"],
    }
    assert str(first_home.path) not in json.dumps(manifest.model_dump())


def test_pipeline_result_says_what_happened(first_run: PipelineResult) -> None:
    plain = result_json(first_run)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["pipeline_run_id"]
    assert plain["mlflow_run_id"]
    assert plain["final"]["final/prompts"] == 30
    assert plain["verdict"]["accepted"] is bool(plain["final"]["final/accepted"])
    assert plain["verdict"]["reasons"]
    assert first_run.verdict == "rejected"
    assert not first_run.accepted
    assert len({stage["mlflow_run_id"] for stage in plain["stages"]}) == len(WORLD_STAGES)
    assert {"prompt", "sft", "ppo"} <= set(first_run.samples[0])


def test_pipeline_stages_have_the_metrics_that_the_table_shows(first_run: PipelineResult) -> None:
    for ref in first_run.stages:
        names = [one.metric for one in entry(ref.stage).key_metrics]
        if ref.stage == "pretrain":
            names = names[:1]  # the others are of families that restore texts
        assert not [name for name in names if name not in ref.metrics], ref.stage


def test_pipeline_records_one_parent_with_a_child_a_stage(
    first_run: PipelineResult, first_home: Any
) -> None:
    found = children(first_home, first_run)
    assert sorted(found) == sorted(WORLD_STAGES)
    parent = mlflow(first_home).get_run(first_run.mlflow_run_id)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == first_run.name
    for ref in first_run.stages:
        run = found[ref.stage]
        assert run.info.run_id == ref.run_id
        assert run.info.run_name == f"{first_run.name}/{ref.stage}"
        assert run.info.status == "FINISHED"


def test_pipeline_records_parameters_on_parent_and_children(
    first_run: PipelineResult, first_home: Any
) -> None:
    parent = mlflow(first_home).get_run(first_run.mlflow_run_id)
    found = children(first_home, first_run)
    given = str(load_preset("quickstart").ppo.kl_coef)
    assert parent.data.params["ppo.kl_coef"] == found["ppo"].data.params["ppo.kl_coef"] == given
    assert parent.data.params["pretrain.steps"] == "20"
    assert found["pretrain"].data.params["pretrain.steps"] == "20"
    assert found["sft"].data.params["seed"] == parent.data.params["seed"] == "0"
    for stage, run in found.items():
        for name, value in run.data.params.items():
            if not name.endswith((".shuffle", ".gold")):  # these follow from the data's source
                assert parent.data.params[name] == value, f"{stage}: {name}"
        others = {"ppo.kl_coef", "pretrain.steps"} - {f"{stage}.kl_coef", f"{stage}.steps"}
        assert not others & set(run.data.params), stage  # only its own slice


def test_pipeline_records_final_metrics_on_the_parent_and_curves_on_children(
    first_run: PipelineResult, first_home: Any
) -> None:
    client = mlflow(first_home)
    parent = client.get_run(first_run.mlflow_run_id)
    final = {name: value for name, value in parent.data.metrics.items() if name.startswith("final")}
    few = {"accepted", "kl", "length_ratio"}
    few |= {f"{gain}{end}" for gain in ("gain", "controlled_gain") for end in ("", "_low", "_high")}
    cost = {"seconds", "tokens", "flops"}
    assert final.keys() == {f"final/{name}" for name in few | cost}
    assert final["final/gain"] == pytest.approx(first_run.final["final/gold_gain"], abs=5e-5)
    assert final["final/seconds"] > 0
    shown = children(first_home, first_run)["evaluate"].data.metrics
    assert {name: shown[name] for name in first_run.final} == pytest.approx(first_run.final)
    assert parent.data.tags["quartet.verdict"] == "rejected"
    assert "Verdict" in parent.data.tags["mlflow.note.content"]
    stages = by_name(first_run)
    scores = client.get_metric_history(stages["ppo"].run_id, "ppo/objective/score")
    assert [point.step for point in scores] == [1, 2, 3, 4]
    for stage in ("pretrain", "sft", "reward"):
        losses = client.get_metric_history(stages[stage].run_id, f"{stage}/loss")
        assert len(losses) > 3, stage


def test_pipeline_registers_a_policy_whose_card_has_the_verdict(
    first_run: PipelineResult, first_home: Any
) -> None:
    digest = by_name(first_run)["ppo"].digest
    wanted = f"name = 'quickstart-policy' and tags.`quartet.digest` = '{digest}'"
    (version,) = mlflow(first_home).search_model_versions(wanted)
    assert version.description.startswith(version.tags["verdict"])
    assert version.tags["verdict"].startswith(first_run.verdict)
    assert version.tags["verdict.evaluation"] == first_run.stages[-1].digest
    assert not first_run.accepted
    assert "challenger" not in mlflow(first_home).get_registered_model(version.name).aliases
    assert f"its SFT model: **{first_run.verdict}**" in version.description
    assert first_run.reasons[0].split(" is ")[0] in version.description


def test_pipeline_tags_lineage_by_role(first_run: PipelineResult, first_home: Any) -> None:
    made, found = by_name(first_run), children(first_home, first_run)
    roles = {
        "tokenizer": {"corpus": "prepare"},
        "pretrain": {"corpus": "prepare", "tokenizer": "tokenizer"},
        "sft": {"base": "pretrain", "demonstrations": "prepare"},
        "feedback": {"sft": "sft", "prompts": "prepare"},
        "reward": {"sft": "sft", "preferences": "feedback", "heldout": "prepare"},
        "reward-quality": {"sft": "sft", "reward_model": "reward", "heldout": "prepare"},
        "ppo": {
            "actor": "sft",
            "reference": "sft",
            "critic": "reward",
            "reward_model": "reward",
            "prompts": "prepare",
        },
        "evaluate": {
            "policy": "ppo",
            "reference": "sft",
            "reward_model": "reward",
            "prompts": "prepare",
            "base": "pretrain",
        },
    }
    for stage, inputs in roles.items():
        tags = found[stage].data.tags
        given = {name for name in tags if name.startswith("input.") and "run_id" not in name}
        assert given == {f"input.{role}" for role in inputs}
        for role, source in inputs.items():
            assert tags[f"input.{role}"] == f"{source}/{made[source].digest}"
            assert tags[f"input.{role}.run_id"] == made[source].run_id
    assert found["prepare"].data.tags["input.files"]


def test_pipeline_logs_folders_plots_and_samples(
    first_run: PipelineResult, first_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = by_name(first_run)
    plots = {"losses.png", "score_kl.png", "scores.png", "lengths.png"}
    assert plots <= artifacts(first_home, first_run.mlflow_run_id, "plots")
    for ref in first_run.stages:
        assert "MANIFEST.json" in artifacts(first_home, ref.run_id, "published"), ref.stage
    for stage in ("ppo", "evaluate"):
        assert "samples.json" in artifacts(first_home, stages[stage].run_id, "")
    first_home.set(monkeypatch)
    tracker = Tracker(load_settings())  # points MLflow here, whose client searches there alone
    both = [first_run.mlflow_run_id, stages["evaluate"].run_id]
    table = tracker.client.load_table(tracker.experiment_id, "samples.json", both)
    assert list(table.columns)[:3] == ["prompt", "ppo", "sft"]
    assert list(table["ppo"]) == 2 * [row["ppo"] for row in first_run.samples]
    for name in plots:
        page = page_folder(first_home.path, "evaluate", stages["evaluate"].digest)
        head = (page / "plots" / name).read_bytes()[:8]
        assert head == b"\x89PNG\r\n\x1a\n"


def test_pipeline_shows_few_cards_the_report_with_the_verdict_first(
    first_run: PipelineResult, prefect_server: str
) -> None:
    asked = {"flow_runs": {"id": {"any_": [first_run.pipeline_run_id]}}}
    found = httpx.post(f"{prefect_server}/artifacts/filter", json=asked, timeout=10).json()
    cards = {one["key"]: one for one in found}
    assert len(found) == len(cards)
    of_run = {key for key, one in cards.items() if one["task_run_id"] is None}
    assert of_run == {"report"}  # Prefect shows it first
    pages = ("prepare", "pretrain", "reward", "reward-quality", "ppo")
    assert set(cards) - of_run == {f"{stage}-report" for stage in pages}
    assert all(one["description"] for one in found)
    report = cards["report"]["data"]
    assert cards["report"]["description"].startswith("rejected, gold ")
    parts = ("Verdict", "data:image/png", "| prepare |", "**Plan**")
    places = [report.index(one) for one in parts]
    assert places == sorted(places)


def test_pipeline_ends_in_a_state_that_says_the_verdict(
    first_run: PipelineResult, prefect_server: str
) -> None:
    address = f"{prefect_server}/flow_runs/{first_run.pipeline_run_id}"
    run = httpx.get(address, timeout=10).json()
    assert first_run.verdict == "rejected"
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Rejected")
    assert run["state"]["message"].startswith("rejected, gold ")
    assert run["tags"] == [f"verdict: {run['state']['message']}"]  # what the list of runs shows


def test_pipeline_keeps_held_out_rows_out_of_training(
    first_run: PipelineResult, first_home: Any
) -> None:
    folder = first_home.folder(by_name(first_run)["prepare"])
    for kind in ("demonstrations", "preferences", "prompts"):
        train = {json.dumps(row["prompt"]) for row in read_rows(folder / f"{kind}_train.jsonl")}
        held = {json.dumps(row["prompt"]) for row in read_rows(folder / f"{kind}_heldout.jsonl")}
        assert held
        assert not train & held


# --- runs after it ------------------------------------------------------------------------------


def test_pipeline_reuses_every_stage_and_learns_nothing_again(
    first_run: PipelineResult, first_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("learned again")

    for name in LEARNING:
        module, _, function = name.rpartition(".")
        monkeypatch.setattr(importlib.import_module(module), function, never)
    second = first_home.tiny()
    assert all(ref.reused for ref in second.stages)
    assert digests(second) == digests(first_run)
    assert second.final == first_run.final
    assert (second.accepted, second.reasons) == (first_run.accepted, first_run.reasons)
    made = by_name(first_run)
    for stage, run in children(first_home, second).items():
        assert run.data.tags["quartet.reused"] == "true"
        assert run.data.tags["quartet.made_by"] == made[stage].run_id
        assert run.info.status == "FINISHED"
    parent = mlflow(first_home).get_run(second.mlflow_run_id)
    first = mlflow(first_home).get_run(first_run.mlflow_run_id)
    assert parent.data.metrics["final/gain"] == first.data.metrics["final/gain"]
    assert parent.data.metrics["final/seconds"] == 0
    assert "losses.png" in artifacts(first_home, second.mlflow_run_id, "plots")


def test_pipeline_computes_only_ppo_and_evaluation_again_for_ppo_without_a_critic(
    first_run: PipelineResult, first_home: Any
) -> None:
    other = first_home.tiny("ppo.kl_coef=0.2", "ppo.advantages=rloo", "ppo.group_size=4")
    assert [ref.stage for ref in other.stages if not ref.reused] == ["ppo", "evaluate"]
    before, after = digests(first_run), digests(other)
    assert {stage for stage in before if before[stage] != after[stage]} == {"ppo", "evaluate"}
    ran, policy = children(first_home, other)["ppo"], by_name(other)["ppo"]
    assert ran.data.params["ppo.kl_coef"] == "0.2"
    assert "input.critic" not in ran.data.tags
    assert "input.reward_model" in ran.data.tags
    assert not (first_home.folder(policy) / "critic").exists()
    assert not any(name.startswith("ppo/value/") for name in policy.metrics)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("dpo", ["align=dpo", "dpo.batch_size=16"]),
        pytest.param("dpo", ["align=dpo", "reward.judge_share=0.4"], marks=pytest.mark.campaign),
        ("best-of-n", ["align=best_of_n", "best_of_n.samples_per_prompt=4"]),
        ("ppo", ["align=best_of_n_ppo", "best_of_n.samples_per_prompt=4"]),
    ],
)
def test_pipeline_aligns_otherwise_with_the_same_evaluation(
    first_run: PipelineResult, first_home: Any, stage: str, settings: list[str]
) -> None:
    other = first_home.tiny(*settings)
    new = [ref.stage for ref in other.stages if not ref.reused]
    assert new[-2:] == [stage, "evaluate"]
    assert len(new) == 2 or "judge" in new or "best-of-n" in new
    policy = by_name(other)[stage]
    if "align=best_of_n_ppo" in settings:
        assert other.stages[-3].stage == "best-of-n"
        tags = children(first_home, other)["ppo"].data.tags
        assert (
            tags["input.actor"] == tags["input.reference"] == f"best-of-n/{other.stages[-3].digest}"
        )
    if stage == "dpo":
        assert policy.metrics["dpo/pairs"] == by_name(other)["reward"].metrics["reward/pairs"]
    assert (first_home.folder(policy) / "model" / "model.safetensors").is_file()
    assert set(other.final) >= set(first_run.final)  # score_ppo is the policy's, whatever it is
    assert set(other.samples[0]) >= {name.replace("ppo", stage) for name in first_run.samples[0]}
    version = max(
        mlflow(first_home).search_model_versions("name = 'quickstart-policy'"),
        key=lambda one: int(one.version),
    )
    assert version.tags["quartet.digest"] == policy.digest
    assert version.tags["verdict"].startswith(other.verdict)
    with pytest.MonkeyPatch.context() as patch:
        first_home.set(patch)
        tracker, store = Tracker(load_settings()), Store(load_settings().store)
        (run,) = find_runs(tracker, [first_run.mlflow_run_id, other.mlflow_run_id])[1:]
        record = gather(tracker, store, run)
        reward = open_origin(policy, "reward_model")  # of DPO's, by its evaluation
    assert reward is not None
    assert reward.digest == by_name(other)["reward"].digest
    assert len(record.samples) == other.final["final/prompts"]
    assert any(name.startswith(f"{stage}/") for name in record.curves)


def test_pipeline_gives_the_same_bits_for_the_same_seed(
    first_run: PipelineResult, first_home: Any, new_home: Callable[[], Any]
) -> None:
    home = new_home()
    again = home.tiny()
    assert not any(ref.reused for ref in again.stages)
    assert digests(again) == digests(first_run)
    expected = weights(first_home, first_run)
    assert len(expected) == 5  # pretrain, sft, reward, actor and critic
    assert weights(home, again) == expected
    assert again.final == first_run.final
    assert again.samples == first_run.samples


@pytest.mark.campaign
def test_pipeline_gives_other_weights_for_another_seed(
    first_run: PipelineResult, first_home: Any
) -> None:
    other = first_home.tiny("seed=1")
    assert not any(ref.reused for ref in other.stages)
    before, after = weights(first_home, first_run), weights(first_home, other)
    assert all(before[name] != after[name] for name in before)


def test_pipeline_starts_from_an_existing_base_model(
    first_run: PipelineResult, first_home: Any
) -> None:
    model = first_home.folder(by_name(first_run)["pretrain"]) / "model"
    result = first_home.tiny(f"base.source={model}", "ppo.iterations=1")
    stages = by_name(result)
    assert {"tokenizer", "pretrain"}.isdisjoint(stages)
    assert [ref.stage for ref in result.stages] == [
        "prepare", "base", "sft", "feedback", "reward", "reward-quality", "ppo", "evaluate"
    ]  # fmt: skip
    assert stages["prepare"].reused
    assert not stages["sft"].reused
    for name in (one.metric for one in entry("base").key_metrics):
        assert name in stages["base"].metrics
    tags = children(first_home, result)["sft"].data.tags
    assert tags["input.base"] == f"base/{stages['base'].digest}"
    # our own model lacks nothing, so that adoption leaves its weights alone
    adopted = first_home.folder(stages["base"]) / "model" / "model.safetensors"
    assert adopted.read_bytes() == (model / "model.safetensors").read_bytes()


def test_pipeline_reuses_without_importing_torch(
    first_run: PipelineResult, first_home: Any, prefect_server: str, tmp_path: Path
) -> None:
    """A second run is quick, because nothing of the learning is even loaded."""
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'trl', 'matplotlib'):\n"
        "            raise AssertionError(f'{name} was imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from flows.cli.app import main\n"
        "main()\n"
    )
    settings = [word for setting in first_home.TINY for word in ("--set", setting)]
    out = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "quickstart", *settings, "--result", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, **first_home.environment(), "PREFECT_API_URL": prefect_server},
    )
    assert done.returncode == 0, done.stderr
    plain = json.loads(out.read_text())
    assert all(stage["reused"] for stage in plain["stages"])
    assert [stage["digest"] for stage in plain["stages"]] == list(digests(first_run).values())
    assert "Verdict:" in done.stdout
    assert "SFT against PPO on 30 held-out prompts" in done.stdout


def test_pipeline_marks_what_failed_and_keeps_what_was_finished(
    first_run: PipelineResult, first_home: Any
) -> None:
    with pytest.raises(DataError, match="too long for 16 tokens"):
        first_home.tiny("reward.max_tokens=16")
    client = mlflow(first_home)
    experiment = client.get_run(first_run.mlflow_run_id).info.experiment_id
    (stage,) = client.search_runs(
        [experiment], "attributes.status = 'FAILED' AND tags.`quartet.kind` = 'stage'"
    )
    assert stage.data.tags["quartet.stage"] == "reward"
    assert stage.data.params["reward.max_tokens"] == "16"
    parent = client.get_run(stage.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FAILED"
    for ref in first_run.stages:
        verify(first_home.folder(ref), ref.stage, ref.digest)


# --- own files ----------------------------------------------------------------------------------

COLOURS = ("red", "green", "blue", "white", "black", "brown", "grey", "pink", "gold", "teal")
THINGS = ("house", "boat", "tree", "stone", "shoe", "lamp", "door", "cup", "hat", "bird")


def write_folder(folder: Path, *, messages: bool) -> None:
    """Files as a user brings them: texts, demonstrations and pairs; strings or messages."""
    folder.mkdir()
    asked = [f"Which colour has the {thing} of {c}?" for thing in THINGS for c in COLOURS]
    good = [f"The {thing} is {c}, as you see." for thing in THINGS for c in COLOURS]
    bad = [f"No idea about any {thing}." for thing in THINGS for _ in COLOURS]

    def prompt(text: str) -> Any:
        return [{"role": "user", "content": text}] if messages else text

    def completion(text: str) -> Any:
        return [{"role": "assistant", "content": text}] if messages else text

    write_rows(
        folder / "pretrain.jsonl",
        [
            {"text": f"{q} {a} Number {i}."}
            for i in range(3)
            for q, a in zip(asked, good, strict=True)
        ],
    )
    rows = zip(asked, good, strict=True)
    write_rows(
        folder / "sft.jsonl",
        [{"messages": [*prompt(q), *completion(a)]} for q, a in rows]
        if messages
        else [{"prompt": q, "completion": f" {a}"} for q, a in rows],
    )
    pairs = zip(asked, good, bad, strict=True)
    write_rows(
        folder / "pairs_train.jsonl",
        [
            {"prompt": prompt(q), "chosen": completion(a), "rejected": completion(b)}
            for q, a, b in pairs
        ],
    )


@pytest.mark.parametrize(
    "messages", [False, pytest.param(True, marks=pytest.mark.campaign)], ids=["strings", "messages"]
)
@pytest.mark.usefixtures("prefect_server")
def test_pipeline_runs_on_a_folder_of_own_files(
    new_home: Callable[[], Any], tmp_path: Path, messages: bool
) -> None:
    write_folder(tmp_path / "mine", messages=messages)
    home = new_home()
    settings = [*home.SMALL, f"data.folder={tmp_path / 'mine'}", "data.heldout_fraction=0.4"]
    result = home.run("reviews", *settings)
    stages = by_name(result)
    assert "feedback" not in stages
    assert "final/gold_ppo" not in result.final  # nobody judges but the reward model
    assert result.final["final/score_ppo"] == pytest.approx(result.final["final/score_ppo"])
    prepared = home.folder(stages["prepare"])
    row = read_rows(prepared / "demonstrations_train.jsonl")[0]
    assert isinstance(row["prompt"], list) is messages
    quality = json.loads((prepared / "quality.json").read_text())
    assert quality["conversational"] is messages
    found = children(home, result)
    assert found["reward"].data.tags["input.preferences"] == f"prepare/{stages['prepare'].digest}"
    # the files count, not where they lie
    (tmp_path / "mine").rename(tmp_path / "moved")
    moved = home.run("reviews", *settings, f"data.folder={tmp_path / 'moved'}")
    assert all(ref.reused for ref in moved.stages)


@pytest.mark.usefixtures("first_run")
def test_pipeline_executes_nothing_that_its_digests_do_not_count(
    executed: dict[str, set[tuple[str, str]]],
) -> None:
    """A function that shapes a result and is no part of its digest would be reused when stale."""
    assert len(executed) >= 8
    for module, functions in executed.items():
        counted = reached_definitions(module)
        missed = {
            (owner, name)
            for owner, name in functions
            if not owner.startswith(EXEMPT) and hasattr(sys.modules[owner], name)
        } - counted
        assert not missed, module
