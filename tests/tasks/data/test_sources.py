"""Folders: which files are read, what names them, and what is said where some are missing."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.folders import folder_files
from tasks.data.sources import check_source, fingerprint, read_raw

NEEDED = {
    "pretrain.txt": "one\ntwo\n",
    "sft.csv": "prompt,completion\np,c\n",
    "pairs_train.jsonl": '{"prompt": "p", "chosen": "c", "rejected": "r"}\n',
}
FINGERPRINT = "e9844dde40fb96e7db7d8f98b81828666c1bec2c0febea94c740a11c7bc0a52b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    for name, text in NEEDED.items():
        (data / name).write_text(text)
    return data


def config(folder: Path) -> DataConfig:
    return DataConfig(source="folder", folder=str(folder))


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        folder_files(folder)
    with pytest.raises(DataError):
        fingerprint(config(folder))
    return str(caught.value)


def test_folder_reads_what_is_there_and_leaves_other_files_alone(folder: Path) -> None:
    (folder / "README.md").write_text("about")
    (folder / "sft_old.jsonl").write_text("broken")
    (folder / "prompts_test.txt").write_text("q\n")
    raw = read_raw(config(folder), seed=0)
    assert [(part.collection, part.heldout, part.label, [*part.rows]) for part in raw.parts] == [
        ("corpus", False, "pretrain.txt", [{"text": "one"}, {"text": "two"}]),
        ("demonstrations", False, "sft.csv", [{"prompt": "p", "completion": "c"}]),
        ("preferences", False, "pairs_train.jsonl", [json.loads(NEEDED["pairs_train.jsonl"])]),
        ("prompts", True, "prompts_test.txt", [{"text": "q"}]),
    ]
    assert raw.contrasts == []


def test_folder_refused_when_missing_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, got in (("absent", "got nothing there"), ("file", "got a file")):
        message = refused(tmp_path / name)
        for words in (f"data folder {tmp_path / name}", got, "wanted a directory", "data.folder"):
            assert words in message


def test_folder_refused_when_a_needed_file_is_missing(folder: Path) -> None:
    (folder / "sft.csv").rename(folder / "sft.xlsx")
    message = refused(folder)
    for words in (
        "no file for sft",
        "got pairs_train.jsonl, pretrain.txt, sft.xlsx",
        "wanted sft with an ending such as .jsonl, .json, .csv, .tsv, .txt or .parquet",
        "add or rename",
    ):
        assert words in message


def test_folder_needs_no_corpus_where_none_is_trained_on(folder: Path) -> None:
    with_corpus = fingerprint(config(folder))
    (folder / "pretrain.txt").unlink()
    assert list(folder_files(folder, corpus=False)) == ["sft", "pairs_train"]
    parts = read_raw(config(folder), seed=0).parts
    assert [part.collection for part in parts] == ["demonstrations", "preferences"]
    assert fingerprint(config(folder)) != with_corpus
    for words in ("no file for pretrain;", "base.source", "ppo.ptx_coef=0"):
        with pytest.raises(DataError, match=re.escape(words)):
            check_source(config(folder), corpus=True)


def test_hub_without_a_corpus_is_refused_where_one_is_trained_on() -> None:
    hub = DataConfig(source="sources", preferences="a/b")
    with pytest.raises(DataError, match=r"data\.corpus is empty"):
        check_source(hub, corpus=True)
    check_source(hub, corpus=False)
    check_source(hub.model_copy(update={"corpus": "a/texts"}), corpus=True)
    check_source(DataConfig(), corpus=True)


def test_fingerprint_of_a_folder_is_what_it_was(folder: Path) -> None:
    """The digest of prepared data with a corpus, as published folders have it."""
    assert fingerprint(config(folder)) == FINGERPRINT


def test_folder_refused_when_empty(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert "no file for pretrain, sft, pairs_train" in message
    assert "got an empty folder" in message


def test_folder_refused_when_a_stem_is_there_twice(folder: Path) -> None:
    (folder / "sft.jsonl").write_text("")
    message = refused(folder)
    for words in ("got 2 files for sft (sft.csv, sft.jsonl)", "wanted one", "remove or rename"):
        assert words in message


def test_fingerprint_follows_content_not_place(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(config(folder))
    shutil.copytree(folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("not read")
    assert fingerprint(config(tmp_path / "elsewhere")) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "pretrain.txt").write_text("one\ntwo!\n"),
        lambda folder: (folder / "prompts_train.txt").write_text("q\n"),
        lambda folder: (folder / "pretrain.txt").rename(folder / "pretrain.csv"),
    ],
)
def test_fingerprint_changes_with_bytes_and_names(
    folder: Path, change: Callable[[Path], object]
) -> None:
    before = fingerprint(config(folder))
    change(folder)
    assert fingerprint(config(folder)) != before


def test_fingerprint_of_the_world_is_constant() -> None:
    assert fingerprint(DataConfig()) == fingerprint(DataConfig(heldout_fraction=0.1))
