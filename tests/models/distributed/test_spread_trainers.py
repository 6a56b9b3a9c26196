"""Pretraining, SFT and reward modelling of models that are spread over two processes.

By FSDP2 (full) and by tensor parallelism; and whose checkpoints load into any other layout.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.distributed.team import current_team
from models.errors import ParameterError
from tests.models.distributed.learning import (
    SPREAD,
    STOPPED,
    Learned,
    assert_begun_with_the_checkpoint,
    assert_same_learning,
    distance,
    learn,
    published,
)
from tests.models.distributed.processes import in_team

pytestmark = pytest.mark.slow


def spread(given: Mapping[str, Any], folder: Path, layout: str) -> dict[str, Any]:
    """What two processes do with each stage, and with SFT from a stop on, their own and one's."""
    found: dict[str, Any] = {
        stage: learn(stage, given[stage], folder / f"{stage}.{layout}") for stage in SPREAD
    }
    stopped = folder / f"sft.{layout}.stopped"
    learn("sft", given["sft"], stopped, signalled=0)
    if current_team().leads:
        shutil.copytree(stopped, folder / f"sft.{layout}.resumed")
        shutil.copytree(stopped, folder / f"sft.{layout}.resumed.1")
    current_team().wait()
    found["resumed"] = learn("sft", given["sft"], folder / f"sft.{layout}.resumed")
    found["from one"] = learn("sft", given["sft"], folder / f"sft.one.{layout}")
    config = given["sft"]["config"].model_copy(update={"precision": "bfloat16"})
    with pytest.raises(ParameterError, match="masters of whole weights"):
        learn("sft", {**given["sft"], "config": config}, folder / f"sft.{layout}.masters")
    for stage in ("masked", "denoising"):
        with pytest.raises(ParameterError, match="not spread over processes"):
            learn(stage, given[stage], folder / f"{stage}.{layout}")
    return found


@pytest.fixture(scope="module")
def alone(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    learn("sft", given["sft"], folder / "sft.one", signalled=0)
    for layout in ("full", "tensor"):
        shutil.copytree(folder / "sft.one", folder / f"sft.one.{layout}")
    return {stage: learn(stage, given[stage], folder / f"{stage}.1") for stage in SPREAD}


@pytest.fixture(scope="module", params=[pytest.param("full", marks=pytest.mark.campaign), "tensor"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def members(
    layout: str, given: dict[str, Any], folder: Path, alone: dict[str, Any]
) -> list[dict[str, Any]]:
    how: dict[str, Any] = {"sharding": "full"} if layout == "full" else {"tensor_parallel": 2}
    return in_team(2, spread, given, folder, layout, scratch=folder, **how)


def test_spread_models_learn_what_whole_ones_do(
    layout: str, alone: dict[str, Any], members: list[dict[str, Any]], folder: Path
) -> None:
    for stage in SPREAD:
        first, second = members[0][stage], members[1][stage]
        assert second.logged == first.logged
        assert_same_learning(alone[stage], first)
        assert distance(folder / f"{stage}.1", folder / f"{stage}.{layout}") < 1e-4
        whole, spread_out = (published(folder / f"{stage}.{end}") for end in ("1", layout))
        assert whole.keys() == spread_out.keys()
        assert whole["config.json"] == spread_out["config.json"]


def test_spread_models_resume_in_any_layout(
    layout: str,
    given: dict[str, Any],
    alone: dict[str, Any],
    members: list[dict[str, Any]],
    folder: Path,
) -> None:
    stopped = folder / f"sft.{layout}.stopped"
    assert published(folder / f"sft.{layout}.resumed") == published(folder / f"sft.{layout}")
    in_one = learn("sft", given["sft"], folder / f"sft.{layout}.resumed.1")
    assert isinstance(in_one, Learned)
    assert_begun_with_the_checkpoint(in_one, stopped)
    assert_begun_with_the_checkpoint(members[1]["from one"], folder / "sft.one")
    for end in (f"sft.{layout}.resumed.1", f"sft.one.{layout}"):
        assert distance(folder / "sft.1", folder / end) < 1e-4
    saved = load_file(stopped / "checkpoints" / f"checkpoint-{STOPPED}" / "model.safetensors")
    assert all(one.dtype == torch.float32 for one in saved.values())
