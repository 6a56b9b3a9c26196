"""One identity of tokenizers: equal ids pass, and each part that differs is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import ModelError
from models.language.folders import refuse_other_tokenizer, same_tokenizer


def change_template(folder: Path) -> None:
    with (folder / "chat_template.jinja").open("a") as file:
        file.write(" ")


def change_eos(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text())
    swapped = {"eos_token": told["pad_token"], "pad_token": told["eos_token"]}
    path.write_text(json.dumps(told | swapped))


def change_merges(folder: Path) -> None:
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    told["model"]["merges"] = told["model"]["merges"][:-1]
    path.write_text(json.dumps(told))


def change_padding(folder: Path) -> None:
    """How a batch is padded or cut changes no id of a text."""
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"truncation": None, "padding": None}, indent=1))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (change_template, "chat template"),
        (change_eos, "EOS"),
        (change_merges, "model"),
        (change_padding, ""),
    ],
)
def test_what_decides_ids_counts_and_is_named(
    tokenizer_folder: Path, tmp_path: Path, change: Callable[[Path], None], part: str
) -> None:
    other = Path(shutil.copytree(tokenizer_folder, tmp_path / "other"))
    assert same_tokenizer(tokenizer_folder, other)
    change(other)
    assert same_tokenizer(tokenizer_folder, other) is (not part)
    asked = (other, "judge", tokenizer_folder, "SFT model", "train both from one")
    if not part:
        refuse_other_tokenizer(*asked)
        return
    wanted = rf"judge .* another tokenizer than the SFT model \(other {part}\).*train both from one"
    with pytest.raises(ModelError, match=wanted):
        refuse_other_tokenizer(*asked)


def test_a_folder_without_a_tokenizer_is_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        same_tokenizer(tokenizer_folder, tmp_path)
