"""What a result cost and what it ran on, and what a pipeline's own run says of its stages."""

import json
import platform
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.evaluation.result import Outcome
from tasks.results.store import Manifest
from tasks.settings import Settings, load_settings
from tasks.tracking import facts as run_facts
from tasks.tracking.client import Tracker
from tasks.tracking.facts import (
    code_tags,
    flops_per_token,
    hardware_tags,
    headlines,
    manifest_cost,
    show_output,
    show_totals,
    worker_tags,
)


def manifest(stage: str = "sft", **metrics: float) -> Manifest:
    return Manifest(
        stage=stage,
        digest="d" * 64,
        seed=0,
        parameters={},
        inputs={},
        libraries={},
        code="",
        run_id="maker",
        seconds=12.5,
        metrics={name.replace("__", "/"): value for name, value in metrics.items()},
        files={},
    )


def model(folder: Path, file: str = "model.safetensors", **shapes: tuple[int, ...]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name.replace("__", "."): np.zeros(shape, "f2") for name, shape in shapes.items()}
    save_file(tensors, folder / file, metadata={"format": "pt"})
    return folder


# --- operations ---------------------------------------------------------------------------------


def test_flops_count_six_a_weight_of_every_shard(tmp_path: Path) -> None:
    model(tmp_path, "model-1.safetensors", a__weight=(3, 4))
    model(tmp_path, "model-2.safetensors", b__weight=(5,), scale=())
    assert flops_per_token(tmp_path) == 6 * (3 * 4 + 5 + 1)


def test_flops_count_a_tied_embedding_once_for_it_is_the_output_layer(tmp_path: Path) -> None:
    tied = model(tmp_path, model__embed_tokens__weight=(10, 2), model__layers__0__w=(2, 2))
    assert flops_per_token(tied) == 6 * (20 + 4)


def test_flops_leave_out_an_embedding_that_is_only_looked_up(tmp_path: Path) -> None:
    shapes = {"model__embed_tokens__weight": (10, 2), "model__layers__0__w": (2, 2)}
    untied = model(tmp_path / "untied", lm_head__weight=(10, 2), **shapes)
    scorer = model(tmp_path / "scorer", score__weight=(1, 2), **shapes)
    assert flops_per_token(untied) == 6 * (20 + 4)
    assert flops_per_token(scorer) == 6 * (2 + 4)


def test_flops_leave_out_positions(tmp_path: Path) -> None:
    gpt = model(tmp_path, transformer__wte__weight=(10, 2), transformer__wpe__weight=(8, 2))
    assert flops_per_token(gpt) == 6 * 20


def test_flops_agree_with_the_parameters_of_a_real_model(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    llama = LlamaForCausalLM(config)
    llama.save_pretrained(tmp_path)
    assert flops_per_token(tmp_path) == 6 * sum(weight.numel() for weight in llama.parameters())


def test_flops_of_a_mixture_count_the_experts_that_compute_a_token(tmp_path: Path) -> None:
    shapes = {f"model__layers__0__experts__{number}__w1__weight": (3, 4) for number in range(8)}
    model(tmp_path, model__layers__0__gate__weight=(8, 4), **shapes)
    (tmp_path / "config.json").write_text('{"num_experts_per_tok": 2, "num_local_experts": 8}')
    assert flops_per_token(tmp_path) == 6 * (32 + 2 * 12)


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 9) + b"not json!"])
def test_flops_are_unknown_where_a_header_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert flops_per_token(tmp_path) == 0


def test_flops_read_only_the_header(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [7], "data_offsets": [0, 28]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert flops_per_token(tmp_path) == 6 * 7  # the weights themselves are not there at all


# --- cost ---------------------------------------------------------------------------------------


def test_cost_is_six_weights_a_token(tmp_path: Path) -> None:
    model(tmp_path / "model", w=(5, 2))
    cost = manifest_cost(manifest(sft__tokens=100.0), tmp_path)
    assert cost == {
        "usage/seconds": 12.5,
        "usage/tokens": 100.0,
        "usage/flops": 6 * 10 * 100.0,
    }


def test_cost_of_ppo_counts_actor_and_critic(tmp_path: Path) -> None:
    model(tmp_path / "model", w=(5, 2))
    model(tmp_path / "critic", w=(3,))
    model(tmp_path / "ema", w=(5, 2))  # learns nothing
    cost = manifest_cost(manifest("ppo", ppo__tokens=2.0), tmp_path)
    assert cost["usage/flops"] == 6 * 13 * 2


def test_cost_claims_nothing_that_the_stage_does_not_say(tmp_path: Path) -> None:
    model(tmp_path / "model", w=(5, 2))
    assert manifest_cost(manifest(sft__rows=3.0), tmp_path) == {"usage/seconds": 12.5}
    nothing = manifest_cost(manifest(sft__tokens=3.0), tmp_path / "absent")
    assert nothing == {"usage/seconds": 12.5, "usage/tokens": 3.0}


# --- where it ran -------------------------------------------------------------------------------


def test_code_tags_name_versions_and_the_checkout() -> None:
    tags = code_tags()
    assert tags["version.torch"]
    assert tags["version.python"] == ".".join(platform.python_version_tuple()[:2])
    assert "git.commit" not in tags or len(tags["git.commit"]) == 40
    assert tags.get("git.dirty", "true") in ("true", "false")


def test_code_tags_name_no_checkout_that_the_code_is_only_installed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment lies in a checkout of somebody's own, which ignores it."""
    installed = tmp_path / "venv" / "facts.py"
    installed.parent.mkdir()
    shutil.copyfile(run_facts.__file__, installed)
    (tmp_path / ".gitignore").write_text("venv\n")
    person = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
    for words in (["init"], ["add", "."], [*person, "commit", "-m", "theirs"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr(run_facts, "__file__", str(installed))
    tags = code_tags.__wrapped__()
    assert tags["version.torch"]
    assert not any(name.startswith("git.") for name in tags)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one processor and two GPUs, as Linux describes them."""
    processor = tmp_path / "cpuinfo"
    processor.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t: x\n")
    for name, gpu in (("0000:01", "NVIDIA H200"), ("0000:02", "NVIDIA T4")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "information").write_text(f"Model: \t\t {gpu}\nIRQ: 1\n")
    monkeypatch.setattr(run_facts, "PROCESSOR_INFORMATION", processor)
    monkeypatch.setattr(run_facts, "GPU_INFORMATION", tmp_path)
    for name in ("_gpu_name", "_processor_name"):
        monkeypatch.setattr(run_facts, name, getattr(run_facts, name).__wrapped__)
    return tmp_path


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("device", "name"), [("auto", "NVIDIA H200"), ("cpu", "Some CPU @ 2 GHz")])
def test_hardware_tags_name_the_device_that_trains(device: Any, name: str) -> None:
    tags = hardware_tags(Settings(device=device))
    assert tags["hardware.device"] == name
    assert int(tags["hardware.cores"]) >= 1
    assert int(tags["hardware.memory_gib"]) >= 1


def test_hardware_tags_fall_back_where_the_system_says_nothing(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_facts, "GPU_INFORMATION", machine / "none")
    monkeypatch.setattr(run_facts, "PROCESSOR_INFORMATION", machine / "none")
    monkeypatch.setenv("PATH", str(machine))
    assert hardware_tags(Settings())["hardware.device"] in (
        platform.processor(),
        platform.machine(),
    )


def test_worker_tags_tell_the_threads_that_torch_has() -> None:
    import torch

    assert worker_tags(Settings())["hardware.torch_threads"] == str(torch.get_num_threads())


# --- the parent ---------------------------------------------------------------------------------


def test_headlines_are_of_a_decision_and_the_few_that_stand_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = manifest("evaluate", final__score_gain=1.0, final__gold_ppo=0.5)
    assert headlines(made, tmp_path) == made.metrics  # nothing was decided
    assert headlines(manifest("reward", reward__accuracy=0.75), tmp_path) == {}
    numbers = {"gain": 0.25, "gain_low": 0.125, "gain_high": 0.5, "kl": 2.0, "length_ratio": 1.5}
    shown = {f"final/{name}": value for name, value in numbers.items()}
    for accepted in (True, False):
        outcome = Outcome(accepted=accepted, word="", reasons=[], numbers=numbers)
        monkeypatch.setattr(run_facts, "read_outcome", lambda _, found=outcome: found)
        best = {"final/accepted_gain_low": 0.125} if accepted else {}
        expected = {"final/accepted": float(accepted)} | shown | best
        assert headlines(made, tmp_path) == expected


@pytest.fixture
def tracker(home: Path) -> Tracker:
    return Tracker(load_settings())


def test_show_output_names_the_result_on_the_parent_and_nothing_else(
    tracker: Tracker, tmp_path: Path
) -> None:
    parent = tracker.start_run("pipe", parameters={}, tags={})
    made = manifest("sft", sft__tokens=10.0, sft__heldout_perplexity=4.0)
    for run_id in ("child", "child", ""):  # told again after an outage; reused
        show_output(tracker, parent, made, tmp_path, run_id=run_id)
        run = tracker.client.get_run(parent)
        assert run.data.tags["output.sft"] == f"sft/{'d' * 64}"
        assert run.data.tags["output.sft.run_id"] == (run_id or "maker")
        assert run.data.metrics == {}


def test_show_totals_sums_what_was_computed_for_the_parent(tracker: Tracker) -> None:
    parent = tracker.start_run("pipe", parameters={}, tags={})
    show_totals(tracker, parent)
    assert tracker.metrics(parent) == {"final/seconds": 0.0}
    costs = {"usage/seconds": 2.5, "usage/tokens": 10.0, "usage/flops": 300.0}
    other = {"ppo/time/rollout_seconds": 7.0}
    for metrics, reused in ((costs, {}), ({"usage/seconds": 3.0} | other, {}), (costs, REUSED)):
        tags = {"mlflow.parentRunId": parent, **reused}
        tracker.log(tracker.start_run("stage", parameters={}, tags=tags), metrics=metrics)
    sums = {"final/seconds": 5.5, "final/tokens": 10.0, "final/flops": 300.0}
    for _ in range(2):
        show_totals(tracker, parent)
        assert tracker.metrics(parent) == sums


REUSED = {"quartet.reused": "true"}
