"""Rows that a chat template refuses are counted and named, with the remedy, before any training."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.language.config import TokenizerConfig
from models.language.reading import read_tokenizer
from models.language.tokenizer import train_tokenizer
from models.rows import write_rows
from tasks.results.store import StageRef
from tasks.stages import templates
from tasks.stages.templates import check_rows, check_template
from tests.strict_template import ALTERNATING

PLAIN = ("user",)
WITH_SYSTEM = ("system", "user")
TWICE = ("user", "assistant", "assistant", "user")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model folder whose template wants turns that alternate."""
    out = tmp_path_factory.mktemp("strict")
    corpus = out / "corpus.jsonl"
    write_rows(corpus, [{"text": "a boat on the lake"}])
    train_tokenizer(
        corpus=corpus, config=TokenizerConfig(vocab_size=300), context=64, out=out / "model"
    )
    tokenizer = read_tokenizer(out / "model")
    tokenizer.chat_template = ALTERNATING
    tokenizer.save_pretrained(out / "model")
    return out


def prompts(*orders: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"prompt": [{"role": role, "content": f"text {at}"} for role in roles]}
        for at, roles in enumerate(orders, start=1)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of prepared datasets; what is not given is one plain prompt."""

    def make(**given: list[dict[str, Any]]) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "quality.json").write_text(json.dumps({"conversational": True}))
        for collection in ("demonstrations", "preferences", "prompts"):
            for side in ("train", "heldout"):
                name = f"{collection}_{side}"
                write_rows(folder / f"{name}.jsonl", given.get(name, prompts(PLAIN)))
        return folder

    return make


def test_data_that_the_template_takes_pass(strict: Path, data: Callable[..., Path]) -> None:
    check_rows(data(), strict, "the model")


def test_refused_rows_are_counted_by_kind_with_an_example_and_the_remedy(
    strict: Path, data: Callable[..., Path]
) -> None:
    folder = data(
        prompts_heldout=prompts(PLAIN, WITH_SYSTEM),
        preferences_train=prompts(PLAIN, TWICE, PLAIN, TWICE),
    )
    with pytest.raises(DataError) as refusal:
        check_rows(folder, strict, "base/abc")
    # 6 files of one row, one of them with 2 and one with 4 instead: 10 rows
    assert str(refusal.value) == (
        "the chat template of base/abc refuses 3 of 10 rows (training preferences: 2, held-out "
        "prompts: 1); nothing was trained on them. turns must alternate: preferences_train.jsonl, "
        "row 2 (user, assistant, assistant, user), 'text 2'; no system message, please: "
        "prompts_heldout.jsonl, row 2 (system, user), 'text 2'. For 1 of them set "
        "data.fold_system=true (the system message's text then begins the first user message); "
        "for 2 of them set data.join_turns=true (neighbouring messages of one role then become one)"
    )


def test_rows_that_need_both_options_or_none_are_told_so(
    strict: Path, data: Callable[..., Path]
) -> None:
    both, none = ("system", "user", "user"), ("assistant", "user")
    with pytest.raises(DataError) as refusal:
        check_rows(data(demonstrations_heldout=prompts(both, none, none)), strict, "it")
    remedy = str(refusal.value).partition("For 1 of them set ")[2]
    assert remedy.index("data.fold_system=true") < remedy.index(" and data.join_turns=true")
    assert remedy.endswith("; remove 2 with the roles (assistant, user), or take another model")


def test_foreign_text_in_the_message_cannot_reach_the_terminal(
    strict: Path, data: Callable[..., Path]
) -> None:
    rows = [
        {"prompt": [{"role": "system", "content": "a"}, {"role": "user", "content": "\x1b[2J\n"}]}
    ]
    with pytest.raises(DataError) as refusal:
        check_rows(data(prompts_train=rows), strict, "it")
    assert "\x1b" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_plain_texts_need_no_template(tmp_path: Path) -> None:
    (tmp_path / "quality.json").write_text('{"conversational": false}')
    check_rows(tmp_path, tmp_path / "no model here", "it")


def test_what_was_rendered_once_is_not_read_again(
    home: Path, strict: Path, data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, model = (
        StageRef(stage=stage, digest=digit * 64, run_id="", reused=False, seconds=0.0, metrics={})
        for stage, digit in (("prepare", "1"), ("base", "2"))
    )
    for ref, folder in ((prepared, data()), (model, strict)):
        published = home / "store" / ref.stage / ref.digest
        published.parent.mkdir(parents=True)
        published.symlink_to(folder)
    check_template(prepared, model)
    monkeypatch.setattr(templates, "check_rows", lambda *_: pytest.fail("read again"))
    check_template(prepared, model)
