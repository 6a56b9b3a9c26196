"""A conversation: streamed pieces, memory, luck, and what is forgotten when the context is full."""

import shutil
from pathlib import Path

import pytest
import torch

from models.errors import ModelError, ParameterError
from models.language.chat import Chat, ChatOptions
from tests.models.language.damaged_folders import edit

GREEDY = ChatOptions(temperature=0.0, max_tokens=6)


@pytest.fixture
def plain_folder(base_folder: Path, tmp_path: Path) -> Path:
    """The model without its chat template."""
    folder = tmp_path / "plain"
    shutil.copytree(base_folder, folder)
    (folder / "chat_template.jinja").unlink()
    return folder


def test_reply_streams_what_generate_gives(base_folder: Path) -> None:
    chat = Chat(base_folder, GREEDY)
    ids = chat.tokenizer.apply_chat_template(
        [{"role": "user", "content": "the cat"}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    row = ids[0].tolist()
    for _ in range(6):  # the likeliest token, one whole pass a token
        token = int(chat.model(torch.tensor([row])).logits[0, -1].argmax())
        row.append(token)
        if token == chat.tokenizer.eos_token_id:
            break
    wanted = chat.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True)
    assert "".join(chat.reply("the cat")) == wanted
    assert chat.turns == [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": wanted},
    ]


def test_reply_knows_nothing_of_the_models_own_sampling(base_folder: Path, tmp_path: Path) -> None:
    """Models of the hub bring a repetition penalty; training samples without one."""
    folder = tmp_path / "penalised"
    shutil.copytree(base_folder, folder)
    edit(
        folder, "generation_config.json",
        do_sample=True, repetition_penalty=1e3, no_repeat_ngram_size=1, temperature=0.1,
    )  # fmt: skip
    for options in (GREEDY, ChatOptions(temperature=1.0, max_tokens=12)):
        wanted = "".join(Chat(base_folder, options).reply("the cat"))
        assert "".join(Chat(folder, options).reply("the cat")) == wanted


def test_replies_repeat_with_the_seed_and_differ_without(base_folder: Path) -> None:
    said = {}
    for seed in (0, 0, 1):
        chat = Chat(base_folder, ChatOptions(temperature=1.0, max_tokens=8, seed=seed))
        state = torch.random.get_rng_state()
        text = "".join(chat.reply("the cat"))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert said.setdefault(seed, text) == text
    assert said[0] != said[1]


def test_reset_forgets_and_begins_the_luck_anew(base_folder: Path) -> None:
    chat = Chat(base_folder, ChatOptions(temperature=1.0, max_tokens=8))
    first = "".join(chat.reply("the cat"))
    "".join(chat.reply("a dog"))
    chat.reset()
    assert chat.turns == []
    assert "".join(chat.reply("the cat")) == first


def test_old_turns_are_forgotten_when_the_context_is_full(base_folder: Path) -> None:
    chat = Chat(base_folder, GREEDY)
    dropped = []
    for _ in range(12):
        for _ in chat.reply("the cat sat on the mat"):
            pass
        dropped.append(bool(chat.notice))
        assert chat.turns[0]["role"] == "user"
        assert len(chat._encode("")) <= chat.context + 6
    assert not dropped[0]
    assert any(dropped)
    assert len(chat.turns) < 24


def test_a_prompt_longer_than_the_context_is_refused_and_not_remembered(base_folder: Path) -> None:
    chat = Chat(base_folder, GREEDY)
    with pytest.raises(ParameterError, match="context 64; shorten it"):
        "".join(chat.reply("the cat " * 100))
    assert chat.turns == []
    "".join(chat.reply("a dog"))
    before = chat.turns
    with pytest.raises(ParameterError, match="shorten it"):
        "".join(chat.reply("the cat " * 100))
    assert chat.turns == before


def test_without_a_template_each_text_is_continued_alone(plain_folder: Path) -> None:
    chat = Chat(plain_folder, GREEDY)
    assert not chat.has_template
    first = "".join(chat.reply("the cat sat"))
    assert "".join(chat.reply("the cat sat")) == first
    assert chat.turns == []


def test_the_system_prompt_stands_first(base_folder: Path) -> None:
    chat = Chat(base_folder, ChatOptions(temperature=0.0, max_tokens=2, system="be brief"))
    "".join(chat.reply("the cat"))
    text = chat.tokenizer.decode(chat._encode(""))
    assert text.startswith("<|system|>be brief<|user|>the cat<|assistant|>")


def test_closing_the_reply_stops_the_model_and_keeps_what_was_said(base_folder: Path) -> None:
    chat = Chat(base_folder, ChatOptions(temperature=1.0, max_tokens=50))
    drawn = []
    forward = chat.model.forward

    def counted(*args: object, **options: object) -> object:
        drawn.append(1)
        return forward(*args, **options)

    chat.model.forward = counted
    pieces = chat.reply("the cat")
    said = next(pieces)
    asked = len(drawn)
    pieces.close()
    assert chat.turns[-1] == {"role": "assistant", "content": said}
    assert asked <= len(drawn) < 50  # the thread has ended, by the request


def test_an_error_in_generate_reaches_the_reader(base_folder: Path) -> None:
    chat = Chat(base_folder, GREEDY)

    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("no memory")

    chat.model.generate = broken
    with pytest.raises(RuntimeError, match="no memory"):
        "".join(chat.reply("the cat"))


@pytest.mark.parametrize("wrong", [{"temperature": -0.1}, {"max_tokens": 0}])
def test_options_that_cannot_be_sampled_with_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="at least"):
        ChatOptions(**wrong)  # type: ignore[arg-type]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        Chat(tmp_path, GREEDY)
