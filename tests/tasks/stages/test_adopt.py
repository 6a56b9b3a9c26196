"""A model from elsewhere is named by its content, wherever it lies, or by its hub commit."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import models.adoption.adopt
from models.errors import ModelError
from tasks.catalogue import Role
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.stages import adopt as adoption
from tasks.stages.adopt import adopt
from tasks.tracking.client import Tracker

PIPELINE = PipelineRun(name="pipe", preset="toy", seed=0, run_id="")
COMMIT = "c0ffee" * 6


class Hub:
    """Stands in for the hub's client."""

    asked: list[tuple[str, str | None]]
    error: Exception | None = None
    files: tuple[str, ...] = ("config.json", "model.safetensors", "tokenizer.json")

    def __init__(self) -> None:
        self.asked = []

    def model_info(self, source: str, revision: str | None = None) -> Any:
        self.asked.append((source, revision))
        if self.error is not None:
            raise self.error
        siblings = [SimpleNamespace(rfilename=name) for name in self.files]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(adoption, "HfApi", lambda: hub)
    return hub


@pytest.fixture
def adopted(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What adoption was asked to take in."""
    calls: list[tuple[str, str | None]] = []

    def take(source: str, revision: str | None, out: Path) -> dict[str, float]:
        calls.append((source, revision))
        out.mkdir()
        (out / "config.json").write_text("{}")
        return {"adopt/parameters": 1.0}

    monkeypatch.setattr(models.adoption.adopt, "adopt_model", take)
    return calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\x00")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def take(source: object, role: Role = "base") -> StageRef:
    return adopt.fn(str(source), role=role, pipeline=PIPELINE)


def test_adopt_takes_a_folder_once_wherever_it_lies(
    adopted: list[tuple[str, str | None]], folder: Path, hub: Hub
) -> None:
    first = take(folder)
    elsewhere = folder.with_name("elsewhere")
    shutil.copytree(folder, elsewhere)
    again = take(elsewhere)
    assert adopted == [(str(folder), None)]
    assert again.reused
    assert again.digest == first.digest
    assert hub.asked == []


def test_adopt_names_a_model_by_its_adapter_too(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[Path] = []

    def take_both(source: str, revision: str | None, out: Path, *, adapter: Path) -> Any:
        merged.append(adapter)
        out.mkdir()
        (out / "config.json").write_text("{}")
        return {"adopt/parameters": 1.0}

    monkeypatch.setattr(models.adoption.adopt, "adopt_model", take_both)
    adapter = folder.with_name("adapter")
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    digests = set()
    for content in (b"\x00", b"\x01", b"\x01"):
        (adapter / "adapter_model.safetensors").write_bytes(content)
        ref = adopt.fn(str(folder), role="base", pipeline=PIPELINE, adapter=str(adapter))
        digests.add(ref.digest)
    assert merged == [adapter, adapter]
    assert len(digests) == 2


def test_adopt_takes_a_folder_again_when_a_file_changed(
    adopted: list[tuple[str, str | None]], folder: Path
) -> None:
    first = take(folder)
    (folder / "model.safetensors").write_bytes(b"\x01")
    assert take(folder).digest != first.digest
    assert len(adopted) == 2


def test_adopt_takes_a_folder_again_when_weights_in_a_folder_inside_changed(
    adopted: list[tuple[str, str | None]], folder: Path
) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "parts").mkdir()
    (folder / "parts" / "one.safetensors").write_bytes(b"\x00")
    index = {"weight_map": {"a": "parts/one.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    first = take(folder)
    (folder / "parts" / "other.safetensors").write_bytes(b"\x00")  # which nothing reads
    assert take(folder).digest == first.digest
    (folder / "parts" / "one.safetensors").write_bytes(b"\x01")
    assert take(folder).digest != first.digest


@pytest.mark.parametrize("name", ["../mine-too.safetensors", "{outside}/mine-too.safetensors"])
def test_adopt_reads_nothing_outside_the_folder(
    adopted: list[tuple[str, str | None]], folder: Path, name: str
) -> None:
    (folder.parent / "mine-too.safetensors").write_bytes(b"\x00")
    index = {"weight_map": {"a": name.format(outside=folder.parent)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="inside the folder was wanted"):
        take(folder)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder.parent / "mine-too.safetensors")
    with pytest.raises(ModelError, match="lies outside the folder"):
        take(folder)
    assert adopted == []


def test_adopt_finds_a_folder_below_the_users(
    adopted: list[tuple[str, str | None]], folder: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    take("~/mine")
    assert adopted == [(str(folder), None)]
    assert hub.asked == []


def test_adopt_names_a_hub_model_by_its_commit(
    adopted: list[tuple[str, str | None]], hub: Hub
) -> None:
    first = take("owner/model")
    pinned = take("owner/model@v2")
    assert hub.asked == [("owner/model", None), ("owner/model", "v2")]
    assert adopted == [("owner/model", COMMIT)]  # the commit of that moment is what is loaded
    assert pinned.digest == first.digest  # both names stand for the same commit
    assert take("owner/other").digest != first.digest


def test_adopt_run_says_which_model_it_took(
    adopted: list[tuple[str, str | None]], hub: Hub
) -> None:
    from tasks.settings import load_settings

    ref = take("owner/model")
    tags = Tracker(load_settings()).tags(ref.run_id)
    assert tags["input.model"] == f"owner/model@{COMMIT}"


@pytest.mark.parametrize(
    "error", [OSError("offline"), ValueError("bad id"), RuntimeError("httpx says no")]
)
def test_adopt_says_what_to_give_when_there_is_no_such_model(
    adopted: list[tuple[str, str | None]], hub: Hub, error: Exception
) -> None:
    hub.error = error
    with pytest.raises(ModelError, match=r"neither a folder here nor a model") as raised:
        take("no/where")
    assert "'no/where'" in str(raised.value)
    assert str(error) in str(raised.value)
    assert adopted == []


def test_adopt_makes_a_stage_of_each_role(
    adopted: list[tuple[str, str | None]], folder: Path
) -> None:
    assert [take(folder, role).stage for role in ("base", "sft", "policy")] == [
        "base",
        "sft",
        "policy",
    ]
    assert len(adopted) == 3


def test_adopt_refuses_a_folder_that_lacks_files(
    adopted: list[tuple[str, str | None]], folder: Path
) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"mine has no model\.safetensors but pickled weights \(pytorch_model"
    ):
        take(folder, "sft")
    assert adopted == []


def test_adopt_refuses_a_hub_model_that_lacks_files_before_downloading(
    adopted: list[tuple[str, str | None]], hub: Hub
) -> None:
    hub.files = ("README.md", "model.gguf")
    with pytest.raises(
        ModelError, match=r"owner/model holds weights quantised for llama\.cpp \(model\.gguf\)"
    ):
        take("owner/model")
    hub.files = ("README.md", "adapter_config.json", "adapter_model.safetensors")
    with pytest.raises(ModelError, match="owner/model holds a LoRA adapter"):
        take("owner/model")
    hub.files = ("README.md",)
    with pytest.raises(
        ModelError, match=r"no config.json, no safetensors weights, no tokenizer; got README"
    ):
        take("owner/model")
    assert adopted == []
