"""The stage prepare: published datasets, their page, and a corpus only where it is needed."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.rows import read_rows, write_rows
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.results.store import Store
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.stages import prepare as stage
from tasks.stages.prepare import prepare
from tasks.tracking.recording import page_folder

PIPELINE = PipelineRun(name="pipe", preset="toy", seed=0, run_id="")


@pytest.fixture
def config(home: Path, tmp_path: Path) -> DataConfig:
    """A folder of files without texts to pretrain on."""
    folder = tmp_path / "mine"
    folder.mkdir()
    prompts = [f"p{number}" for number in range(40)]
    write_rows(
        folder / "sft.jsonl", [{"prompt": one, "completion": f" c {one}"} for one in prompts]
    )
    write_rows(
        folder / "pairs_train.jsonl",
        [{"prompt": one, "chosen": "good", "rejected": "bad"} for one in prompts],
    )
    return DataConfig(source="folder", folder=str(folder), heldout_fraction=0.2)


def test_prepare_publishes_data_without_a_corpus_and_shows_it(config: DataConfig) -> None:
    ref = prepare.fn(config, pipeline=PIPELINE)
    folder = Store(load_settings().store).folder("prepare", ref.digest)
    assert read_rows(folder / "corpus_train.jsonl") == []
    assert read_rows(folder / "demonstrations_train.jsonl")
    assert not list(folder.glob("*.md"))
    quality = json.loads((folder / "quality.json").read_text())
    assert {one["name"]: one["read"] for one in quality["collections"]}["corpus"] == 0
    shown = page_folder(load_settings().root, "prepare", ref.digest) / "report.md"
    assert "| corpus | nothing | 0 | 0 | 0 | 0 |" in shown.read_text()


def test_prepare_refuses_data_without_a_corpus_where_one_is_needed(config: DataConfig) -> None:
    with pytest.raises(DataError, match="no file for pretrain;"):
        prepare.fn(config, pipeline=PIPELINE, corpus=True)
    assert not load_settings().store.exists()


def test_prepare_has_one_digest_whether_its_corpus_is_needed_or_not(config: DataConfig) -> None:
    write_rows(Path(config.folder) / "pretrain.jsonl", [{"text": f"t{n}"} for n in range(40)])
    needed = prepare.fn(config, pipeline=PIPELINE, corpus=True)
    assert prepare.fn(config, pipeline=PIPELINE).digest == needed.digest


def test_prepare_refuses_data_that_change_while_they_are_read(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_and_change(config: DataConfig, *given: Any) -> Any:
        with (Path(config.folder) / "sft.jsonl").open("a") as file:
            file.write("\n")
        return build_datasets(config, *given)

    monkeypatch.setattr(stage, "build_datasets", build_and_change)
    with pytest.raises(DataError, match="changed while they were read"):
        prepare.fn(config, pipeline=PIPELINE)


def test_prepare_has_one_digest_wherever_its_sources_lie(
    config: DataConfig, tmp_path: Path
) -> None:
    def named(folder: Path) -> DataConfig:
        return DataConfig(
            source="sources",
            preferences=str(folder / "pairs_train.jsonl"),
            demonstrations=f"{folder}/sft*",
            heldout_fraction=0.2,
        )

    first = prepare.fn(named(Path(config.folder)), pipeline=PIPELINE)
    Path(config.folder).rename(tmp_path / "moved")
    again = prepare.fn(named(tmp_path / "moved"), pipeline=PIPELINE)
    assert (again.digest, again.reused) == (first.digest, True)
    with (tmp_path / "moved" / "sft.jsonl").open("a") as file:
        file.write("\n")
    assert prepare.fn(named(tmp_path / "moved"), pipeline=PIPELINE).digest != first.digest


def test_prepare_logs_how_far_it_is(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage, "LOG_SECONDS", 0.0)
    with caplog.at_level("INFO"):
        prepare.fn(config, pipeline=PIPELINE)
    (line,) = [one for one in caplog.messages if one.startswith("prepare: 1 rows")]
    assert line.startswith("prepare: 1 rows, 0 MB, ")
    assert line.endswith("% (sft.jsonl)")
