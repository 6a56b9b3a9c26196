"""Chat templates: exactly what transformers renders, and stopped where they want too much."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers.utils import chat_template_utils

from models.errors import DataError, ModelError, ParameterError
from models.language import rendering
from models.language.chat import Chat, ChatOptions
from models.language.folders import load_tokenizer
from models.language.tokenizer import CHAT_TEMPLATE, encode_prompt, encoding_identity

TURNS = [
    {"role": "system", "content": "be  brief "},
    {"role": "user", "content": "\u00e9 \u4f60\u597d <|eos|>\n{{ 7 }}"},
    {"role": "assistant", "content": "a \ud800 lone surrogate"},
    {"role": "user", "content": ""},
]
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{- bos_token }}{%- set ns = namespace(n=0) %}"
    "{%- for m in messages %}{%- set ns.n = ns.n + 1 %}"
    "{{- '<|header|>' ~ m.role ~ ns.n ~ (m | tojson(indent=2)) + m['content'] | trim }}"
    "{%- if tools %}{{ tools | tojson }}{% endif %}{%- endfor %}{{- documents is none }}"
)
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML, LLAMA])
@pytest.mark.parametrize("generate", [True, False])
def test_rendering_gives_exactly_what_transformers_gives(template: str, generate: bool) -> None:
    given: dict[str, Any] = {
        "chat_template": template,
        "add_generation_prompt": generate,
        "return_assistant_tokens_mask": template == CHAT_TEMPLATE,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "documents": None,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    mine, marks = rendering.render([TURNS, TURNS[1:2]], **given)
    theirs, indices = chat_template_utils.render_jinja_template([TURNS, TURNS[1:2]], **given)
    assert mine == theirs
    assert [[tuple(mark) for mark in row] for row in marks] == indices


def test_transformers_renders_through_the_limits_once_a_tokenizer_is_loaded(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(base_folder)
    asked: list[str] = []
    ask = rendering._RENDERER.ask

    def spy(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request["chat_template"])
        return ask(request)

    monkeypatch.setattr(rendering._RENDERER, "ask", spy)
    ids = tokenizer.apply_chat_template(TURNS[1:2], add_generation_prompt=True)["input_ids"]
    assert asked == [tokenizer.chat_template]
    assert tokenizer.decode(ids).endswith("<|assistant|>")


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (ENDLESS, "more than 1 s"),
        ("{{ 'a' * 10 ** 10 }}", "MemoryError"),
        ("{{ 'a' | center(10 ** 10) }}", "MemoryError"),
        ("{{ 'a' * 10 ** 7 }}", "10000000 characters"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
         "{% endfor %}{{ n.x }}", "MemoryError|more than 1 s"),
        ("a" * 2**21, "2097152 characters, at most 1048576"),
    ],
)  # fmt: skip
def test_rendering_stops_a_template_that_wants_too_much(template: str, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        rendering.render([TURNS], chat_template=template)
    assert rendering.render([TURNS], chat_template="x")[0] == ["x"]  # and serves the next


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no') }}", "{% for %}", "{{ ''.__class__.x }}", "{{ 1 / 0 }}"]
)
def test_a_template_that_refuses_or_is_none_is_an_error_of_the_template(
    base_folder: Path, template: str
) -> None:
    with pytest.raises(jinja2.TemplateError):
        rendering.render([TURNS], chat_template=template)
    tokenizer = load_tokenizer(base_folder)
    tokenizer.chat_template = template
    with pytest.raises((DataError, ModelError)):
        encode_prompt(tokenizer, [{"role": "user", "content": "x"}], 64)


def test_a_template_that_writes_the_date_gives_the_same_on_any_day(base_folder: Path) -> None:
    template = (
        "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y %H:%M:%S.%f') %}{%- endif %}{%- endif %}"
        "{{- 'Today: ' + date_string }}"
    )
    wanted = "Today: 26 Jul 2024 00:00:00.000000"
    assert rendering.render([TURNS], chat_template=template)[0] == [wanted]
    given = rendering.render([TURNS], chat_template=template, date_string="then")[0]
    assert given == ["Today: then"]
    tokenizer = load_tokenizer(base_folder)
    before = encoding_identity(tokenizer)
    tokenizer.chat_template = template
    assert tokenizer.apply_chat_template(TURNS, tokenize=False) == wanted
    assert str(rendering.TODAY) in encoding_identity(tokenizer)
    assert str(rendering.TODAY) not in before


def test_rendering_works_on_any_thread_and_in_a_forked_process() -> None:
    got: list[str] = []

    def work() -> None:
        got.extend(rendering.render([TURNS], chat_template="x")[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["x"] * 4
    pid = os.fork()
    if pid == 0:
        fine = rendering.render([TURNS], chat_template="y")[0] == ["y"]
        rendering._RENDERER._close()
        os._exit(0 if fine else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert rendering.render([TURNS], chat_template="z")[0] == ["z"]


def test_rendering_survives_signals_to_the_group_and_the_end_of_its_process() -> None:
    rendering.render([TURNS], chat_template="x")
    process = rendering._RENDERER._process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert rendering.render([TURNS], chat_template="y")[0] == ["y"]
    assert rendering._RENDERER._process is process
    process.kill()
    process.wait()
    assert rendering.render([TURNS], chat_template="z")[0] == ["z"]


def test_an_interrupted_rendering_leaves_no_answer_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(line: Any) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rendering._Renderer, "_read", staticmethod(interrupt))
        with pytest.raises(KeyboardInterrupt):
            rendering.render([TURNS], chat_template="old")
    assert rendering.render([TURNS], chat_template="new")[0] == ["new"]


def test_chat_says_that_a_template_refuses_the_conversation(base_folder: Path) -> None:
    chat = Chat(base_folder, ChatOptions(system="x", max_tokens=2))
    chat.tokenizer.chat_template = "{{ raise_exception('no system') }}"
    with pytest.raises(ParameterError, match="refuses the conversation"):
        list(chat.reply("hello"))
    chat.tokenizer.chat_template = {"rag": CHATML}  # none is the default
    with pytest.raises(ParameterError, match="refuses the conversation"):
        list(chat.reply("hello"))
    assert chat.turns == []
