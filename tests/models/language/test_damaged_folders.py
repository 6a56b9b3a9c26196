"""Damaged and hostile model folders: refused in one line, no code run, nothing outside read."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from models.adoption.adopt import adopt_model
from models.errors import ModelError
from models.language.chat import Chat, ChatOptions
from models.language.folders import load_causal_model, load_tokenizer
from models.language.reading import foreign_errors
from models.language.screening import model_files
from tests.models.language.damaged_folders import DAMAGES, HARMLESS, INDEX, WEIGHTS, edit, shard


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(base_folder, tmp_path / "model")


@pytest.mark.parametrize("kind", DAMAGES)
def test_adoption_refuses_a_damaged_folder_in_one_line_and_runs_none_of_its_code(
    copy: Path, tmp_path: Path, kind: str
) -> None:
    DAMAGES[kind](copy)
    if kind in HARMLESS:
        adopt_model(str(copy), None, tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
            {path.name for path in (tmp_path / "out").iterdir()} & _PUBLISHED
        )
    else:
        with pytest.raises(ModelError) as raised:
            adopt_model(str(copy), None, tmp_path / "out")
        said = str(raised.value)
        assert said.isprintable()
        assert "; " in said  # and then what to do
        assert len(said.replace(str(copy), "")) < 700
    assert not (tmp_path / "TRAPPED").exists()


_PUBLISHED = {
    "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
    "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("weights_nan", r"model\.embed_tokens\.weight in .* holds NaN or infinity"),
        ("weights_infinite", r"layers\.0\..* holds NaN or infinity"),
        ("weights_integers", r"embed_tokens\.weight as I64"),
        ("config_billion_layers", "num_hidden_layers 1000000000"),
        ("config_no_layers", r"leaves 18 of its 20 weights unused, such as model\.layers\.0"),
        ("config_width_huge", r"describes \d+ parameters, its weights hold"),
        ("code_for_an_unknown_type", "is a 'trap' and asks to run Python code"),
        ("code_of_a_tokenizer", "is a 'TrapTokenizer' and asks to run Python code"),
        ("config_kernel_of_the_hub", "asks for the kernel 'nobody/kernel'"),
        ("config_a_link_outside", r"lies outside the folder, at .*above-config\.json"),
        ("index_names_a_file_above", r"names '\.\./above\.safetensors'"),
        ("adapter_beside_a_model", r"holds a LoRA adapter of \.\./above .* as base\.adapter"),
        ("adapter_alone", r"holds a LoRA adapter of no/where .* as base\.adapter"),
        ("config_quantised", "weights quantised by gptq to 4 bits.*take the original model"),
        ("config_bitsandbytes", "weights quantised by bitsandbytes to 8 bits"),
        ("weights_float8", "as F8_E4M3, which is quantised.*take the original model"),
        ("weights_gguf", r"quantised for llama\.cpp \(model-Q4_K_M\.gguf\)"),
        ("weights_pickled", r"pickled weights \(pytorch_model\.bin\).*save_pretrained"),
        ("weights_pointer", r"model\.safetensors as a Git LFS pointer .*git lfs pull"),
        ("tokenizer_of_a_gigabyte", r"tokenizer\.json of .* has 1073741824 bytes"),
    ],
)
def test_loading_names_what_is_wrong(copy: Path, kind: str, named: str) -> None:
    DAMAGES[kind](copy)
    load = load_tokenizer if "tokenizer" in kind else load_causal_model
    with pytest.raises(ModelError, match=named):
        load(copy)


def test_nobody_is_asked_whether_code_may_run_and_no_alarm_is_touched(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks on stdin, under an alarm of its own, where it is not told."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on stdin"))
    DAMAGES["code_for_an_unknown_type"](copy)
    signal.setitimer(signal.ITIMER_REAL, 1000.0)
    try:
        with pytest.raises(ModelError, match="runs no foreign code"):
            load_causal_model(copy)
        with pytest.raises(ModelError, match="runs no foreign code"):
            load_tokenizer(copy)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


@pytest.mark.parametrize(
    "kind", ["tokenizer_larger_than_the_embeddings", "tokenizer_ids_out_of_range"]
)
def test_chat_refuses_a_tokenizer_of_another_model(copy: Path, kind: str) -> None:
    DAMAGES[kind](copy)
    with pytest.raises(ModelError, match="a row for each token was wanted"):
        Chat(copy, ChatOptions())


def test_weights_in_several_files_are_read(copy: Path) -> None:
    whole = load_causal_model(copy).state_dict()
    shard(copy)
    parts = load_causal_model(copy).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_files_that_loading_reads_are_all_named(copy: Path) -> None:
    shard(copy)
    (copy / "parts").mkdir()
    first = "model-00001-of-00002.safetensors"
    (copy / first).rename(copy / "parts" / first)
    index = json.loads((copy / INDEX).read_text())
    for name, file in index["weight_map"].items():
        index["weight_map"][name] = f"parts/{file}" if file == first else file
    (copy / INDEX).write_text(json.dumps(index))
    (copy / "additional_chat_templates").mkdir()
    (copy / "additional_chat_templates" / "tools.jinja").write_text("x")
    (copy / "code.py").write_text("not read")
    assert model_files(copy) == [
        "additional_chat_templates/tools.jinja",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model-00002-of-00002.safetensors",
        INDEX,
        f"parts/{first}",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    load_causal_model(copy)


def test_links_of_a_hub_cache_lead_to_its_own_blobs_only(base_folder: Path, tmp_path: Path) -> None:
    """The hub's client stores files as blobs and links a snapshot's names to them."""
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for path in base_folder.iterdir():
        shutil.copy(path, repository / "blobs" / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert load_causal_model(snapshot).config.vocab_size == 320
    (repository / "elsewhere").mkdir()
    shutil.move(repository / "blobs" / WEIGHTS, repository / "elsewhere" / WEIGHTS)
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(f"../../elsewhere/{WEIGHTS}")
    with pytest.raises(ModelError, match="lies outside the folder"):
        load_causal_model(snapshot)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_loading_refuses_a_file_that_may_not_be_read(copy: Path) -> None:
    (copy / WEIGHTS).chmod(0)
    with pytest.raises(ModelError, match="Permission denied"):
        load_causal_model(copy)


def test_the_border_lets_through_what_no_library_raises() -> None:
    """Signals that end a run are no `Exception`, and Quartet's own errors stay as they are."""

    class TimeIsUp(BaseException):
        pass

    def raised(error: BaseException) -> Any:
        with foreign_errors("it", "do this"):
            raise error

    with pytest.raises(TimeIsUp):
        raised(TimeIsUp())
    with pytest.raises(ModelError, match=r"^of our own$"):
        raised(ModelError("of our own"))
    with pytest.raises(ModelError, match=r"^it cannot be read \(OSError: a \]0;b\); do this$"):
        raised(OSError("a\n\x1b]0;b"))


def test_a_pickle_beside_the_weights_is_never_read(copy: Path, tmp_path: Path) -> None:
    DAMAGES["weights_pickle_beside"](copy)
    before = load_causal_model(copy)
    assert not (tmp_path / "TRAPPED").exists()
    edit(copy, "config.json", num_hidden_layers=...)  # even where the rest does not fit
    with pytest.raises(ModelError):
        load_causal_model(copy)
    assert not (tmp_path / "TRAPPED").exists()
    assert before.config.vocab_size == 320
