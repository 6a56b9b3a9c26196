"""Pretraining, SFT and reward modelling in a team: the same learning as in one process.

Batches of 5 rows, the last one of a single row, so that no number of members divides them and some
member has none; elements of one and of several pairs, with ties and margins.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoints import is_intact, latest
from models.distributed.team import current_team
from models.errors import DivergedError
from models.language.config import LoRAConfig
from models.training.adapters import WEIGHTS
from models.training.config import SpikeConfig
from models.training.packed_trainers import PackedSFTTrainer
from models.training.pretraining import BlockTrainer
from tests.models.distributed.learning import (
    STAGES,
    STOPPED,
    Learned,
    assert_begun_with_the_checkpoint,
    assert_same_learning,
    distance,
    learn,
    published,
)
from tests.models.distributed.processes import in_team


def diverge(given: Mapping[str, Any], folder: Path) -> str:
    """Run SFT, whose loss is no number in step STOPPED on the last rank; say what was raised."""
    original = PackedSFTTrainer.compute_loss

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        team = current_team()
        strikes = self.state.global_step + 1 == STOPPED and team.rank == team.size - 1
        return loss * float("nan") if strikes else loss

    PackedSFTTrainer.compute_loss = broken
    try:
        learn("sft", given, folder)
    except DivergedError as error:
        return str(error)
    finally:
        PackedSFTTrainer.compute_loss = original
    return "nothing"


def recover(given: Mapping[str, Any], folder: Path) -> Learned | str:
    """Run pretraining, whose loss is no number in step STOPPED on the last rank, and recover."""
    original = BlockTrainer.compute_loss

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        team = current_team()
        strikes = self.state.global_step + 1 == STOPPED and team.rank == team.size - 1
        return loss * float("nan") if strikes else loss

    config = given["config"].model_copy(update={"spikes": SpikeConfig(recover=True)})
    BlockTrainer.compute_loss = broken  # type: ignore[method-assign]
    try:
        return learn("pretrain", {**given, "config": config}, folder)
    finally:
        BlockTrainer.compute_loss = original  # type: ignore[method-assign]


def with_adapter(given: Mapping[str, Any]) -> dict[str, Any]:
    """SFT of an adapter, in several micro-batches a process."""
    changes = {"lora": LoRAConfig(rank=4), "tokens_per_microbatch": 24}
    return {**given["sft"], "config": given["sft"]["config"].model_copy(update=changes)}


def two_members(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a team of two does with each stage; with SFT up to a stop, too, and from there on."""
    found: dict[str, Any] = {stage: learn(stage, given[stage], folder / stage) for stage in STAGES}
    stopped = folder / "sft.stopped"
    found["stopped"] = learn("sft", given["sft"], stopped, signalled=1)
    if current_team().leads:
        for copy in ("1", "2", "3"):
            shutil.copytree(stopped, folder / f"sft.resumed.{copy}")
    current_team().wait()
    found["resumed"] = learn("sft", given["sft"], folder / "sft.resumed.2")
    found["lora"] = learn("sft", with_adapter(given), folder / "lora")
    found["recovered"] = recover(given["pretrain"], folder / "recovered")
    found["diverged"] = diverge(given["sft"], folder / "diverged")
    return found


def three_members(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a team of three does with each stage, and with what two have begun."""
    found = {stage: learn(stage, given[stage], folder / f"{stage}.3") for stage in STAGES}
    return found | {"resumed": learn("sft", given["sft"], folder / "sft.resumed.3")}


@pytest.fixture(scope="module")
def two(given: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    return in_team(2, two_members, given, folder, scratch=folder)


@pytest.fixture(scope="module")
def three(given: dict[str, Any], folder: Path, two: Any) -> list[dict[str, Any]]:
    return in_team(3, three_members, given, folder, scratch=folder)


@pytest.fixture(scope="module")
def alone(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {stage: learn(stage, given[stage], folder / f"{stage}.1") for stage in STAGES}


def test_all_members_go_back_and_skip_the_batch_that_is_broken_on_one(
    given: dict[str, Any], two: list[dict[str, Any]], folder: Path
) -> None:
    alone = recover(given["pretrain"], folder / "recovered.1")
    assert isinstance(alone, Learned)
    for member in (one["recovered"] for one in two):
        assert member.final == two[0]["recovered"].final
        assert member.final == pytest.approx(alone.final, rel=1e-4)
    assert alone.final["pretrain/skipped_batches"] == 1
    assert distance(folder / "recovered", folder / "recovered.1") < 1e-4


@pytest.mark.parametrize("stage", STAGES)
def test_two_members_learn_what_one_does(
    stage: str, alone: dict[str, Any], two: list[dict[str, Any]], folder: Path
) -> None:
    assert_same_learning(alone[stage], two[0][stage])
    assert two[1][stage].logged == two[0][stage].logged  # and so are the ranks' bits equal
    assert two[1][stage].final == two[0][stage].final
    assert distance(folder / f"{stage}.1", folder / stage) < 1e-4


def test_a_signal_to_one_member_stops_all_after_the_same_step(
    two: list[dict[str, Any]], folder: Path
) -> None:
    assert [one["stopped"] for one in two] == ["SystemExit", "SystemExit"]
    checkpoint = latest(folder / "sft.stopped" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{STOPPED}"
    assert published(folder / "sft.stopped") == {}


def test_two_members_resume_to_the_same_bytes(two: list[dict[str, Any]], folder: Path) -> None:
    resumed = two[0]["resumed"]
    assert published(folder / "sft.resumed.2") == published(folder / "sft")
    assert resumed.logged == [one for one in two[0]["sft"].logged if one[0] > STOPPED]
    assert resumed.final == two[0]["sft"].final


def test_one_process_resumes_what_two_have_begun(
    given: dict[str, Any], two: list[dict[str, Any]], folder: Path
) -> None:
    resumed = learn("sft", given["sft"], folder / "sft.resumed.1")
    assert isinstance(resumed, Learned)
    assert_begun_with_the_checkpoint(resumed, folder / "sft.stopped")
    assert distance(folder / "sft.resumed.1", folder / "sft") < 1e-4


@pytest.mark.campaign
def test_three_members_learn_what_one_does_and_resume_what_two_have_begun(
    alone: dict[str, Any], three: list[dict[str, Any]], folder: Path
) -> None:
    for stage in STAGES:
        assert_same_learning(alone[stage], three[0][stage])
        assert three[0][stage].logged == three[1][stage].logged == three[2][stage].logged
        # A young decoder hardly looks at its encoder, so gradients there are so small that AdamW
        # makes steps of what rounding leaves of three sums: 1.5e-4 of one matrix, others 8e-5.
        # One member's rows weighted 1% too much would give 5e-3.
        bound = 5e-4 if stage == "denoising" else 1e-4
        assert distance(folder / f"{stage}.1", folder / f"{stage}.3") < bound
    assert_begun_with_the_checkpoint(three[2]["resumed"], folder / "sft.stopped")
    assert distance(folder / "sft.resumed.3", folder / "sft") < 1e-4


def test_two_members_learn_an_adapter_in_micro_batches_as_one_does(
    given: dict[str, Any], two: list[dict[str, Any]], folder: Path
) -> None:
    alone = learn("sft", with_adapter(given), folder / "lora.1")
    assert isinstance(alone, Learned)
    assert_same_learning(alone, two[0]["lora"])
    assert two[1]["lora"].logged == two[0]["lora"].logged
    assert distance(folder / "lora.1", folder / "lora") < 1e-4
    adapters = [load_file(folder / run / "out_adapter" / WEIGHTS) for run in ("lora.1", "lora")]
    for name, weight in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], weight, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_on_one_member_ends_all_with_the_state_before(
    two: list[dict[str, Any]], folder: Path
) -> None:
    for one in two:
        assert f"the loss is nan and its gradient's norm nan at step {STOPPED}" in one["diverged"]
    checkpoints = folder / "diverged" / "checkpoints"
    assert is_intact(checkpoints / f"checkpoint-{STOPPED - 1}")
    assert not (checkpoints / f"checkpoint-{STOPPED}").exists()
