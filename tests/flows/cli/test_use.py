"""`quartet chat` and `quartet serve`, as processes, with a tiny real model."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import typer
from typer.testing import CliRunner, Result

from flows.cli.use import chat, serve
from models.errors import ModelError, ParameterError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.config import TokenizerConfig
from models.language.folders import load_causal_model, load_tokenizer, save_model
from models.language.tokenizer import train_tokenizer
from models.rows import write_rows
from tasks.escaping import for_terminal
from tasks.machine.password import read_password
from tasks.registry.guard import Guard
from tasks.registry.serving import _app, serve_key, serve_model, want_free_port
from tasks.results.store import Manifest, Store, list_files, write_manifest
from tasks.settings import load_settings
from tasks.stages.resolve import model_folder
from tests.models.language.damaged_folders import DAMAGES, HARMLESS, edit
from tests.ports import free_port

PROGRAM = (
    "import typer\n"
    "from flows.cli.use import chat, serve\n"
    "app = typer.Typer(pretty_exceptions_enable=False)\n"
    "app.command()(chat)\n"
    "app.command()(serve)\n"
    "app()\n"
)
SECONDS = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory)


def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model with a chat template."""
    corpus = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write_rows(corpus, [{"text": "the cat sat on the mat and slept all day"}] * 20)
    words = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(corpus=corpus, config=TokenizerConfig(vocab_size=300), context=64, out=words)
    tokenizer = load_tokenizer(words)
    sizes = ArchitectureConfig(layers=1, width=32, heads=2, context=64)
    out = tmp_path_factory.mktemp("models") / "tiny"
    save_model(build_model(sizes, tokenizer, seed=0), tokenizer, out)
    return out


@pytest.fixture(scope="module")
def plain(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without its template."""
    out = tmp_path_factory.mktemp("models") / "plain"
    shutil.copytree(folder, out)
    (out / "chat_template.jinja").unlink()
    return out


def environment(home: Path) -> dict[str, str]:
    more = {"QUARTET_HOME": str(home), "QUARTET_DEVICE": "cpu", "QUARTET_THREADS": "1"}
    return os.environ | more | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def talk(typed: str | bytes, *words: str) -> Result:
    """The command in this process, with lines that are piped in."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(chat)
    done = CliRunner().invoke(app, words, input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


# --- names ----------------------------------------------------------------------------------------


def test_a_folder_is_used_where_it_lies(home: Path, folder: Path, tmp_path: Path) -> None:
    with model_folder(str(folder)) as found:
        assert (found.path, found.name) == (folder.resolve(), str(folder))
    (tmp_path / "my run!").mkdir()
    shutil.copytree(folder, tmp_path / "my run!" / "model")
    with model_folder(str(tmp_path / "my run!")) as found:
        assert found.path == (tmp_path / "my run!" / "model").resolve()
        assert found.name == str(tmp_path / "my run!")


def test_a_published_stage_is_found_in_the_store(home: Path, folder: Path) -> None:
    store, digest = Store(load_settings().store), "ab" * 32
    out = store.writing("sft", digest)
    shutil.copytree(folder, out / "model")
    manifest = Manifest(
        stage="sft", digest=digest, seed=0, parameters={}, inputs={}, libraries={}, code="",
        run_id="", seconds=0.0, metrics={}, files=list_files(out),
    )  # fmt: skip
    write_manifest(out, manifest)
    store.publish(out, "sft", digest)
    with model_folder("sft/abab") as found:
        assert found.path == store.folder("sft", digest) / "model"
        assert found.name == "sft/abab"


@pytest.mark.parametrize(
    "name",
    ["models:/nobody@champion", "no such/thing/at all", "", "~nobody-here/x", "x" * 9999, "a\0b"],
)
def test_a_name_that_means_nothing_is_refused(home: Path, name: str) -> None:
    with pytest.raises(ModelError), model_folder(name):
        pass


# --- chat -----------------------------------------------------------------------------------------


def test_chat_answers_each_line_and_repeats_itself_after_reset(home: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "chat", str(folder), "--max-tokens", "12", "--seed", "3"],
        input="the cat\n\n/reset\nthe cat\n/quit\nnever read\n",
        capture_output=True,
        text=True,
        env=environment(home),
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    first, again, rest = done.stdout.split("\n")
    assert first == again != ""
    assert rest == ""
    assert done.stderr.strip() == "conversation cleared"


def test_chat_takes_bytes_that_are_no_text(home: Path, plain: Path) -> None:
    done = talk(b"caf\xe9\n", str(plain), "--max-tokens", "4")
    assert "not UTF-8" in done.stderr
    assert done.stdout.strip()


def test_chat_needs_no_pad(home: Path, folder: Path, tmp_path: Path) -> None:
    """Of one row nothing is padded; models of the hub often have no pad, or EOS for it."""
    shutil.copytree(folder, tmp_path / "unpadded")
    edit(tmp_path / "unpadded", "tokenizer_config.json", pad_token=...)
    done = talk("the cat\n", str(tmp_path / "unpadded"), "--max-tokens", "4")
    assert done.stdout.strip()


@pytest.mark.parametrize("kind", sorted(name for name in DAMAGES if name.startswith("code_")))
def test_a_y_that_is_piped_to_chat_runs_no_strangers_code(
    home: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Where it is not told, transformers asks on stdin whether code may run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    DAMAGES[kind](shutil.copytree(folder, tmp_path / "model"))
    with pytest.raises(ModelError) if kind not in HARMLESS else contextlib.nullcontext():
        talk("y\ny\ny\n", str(tmp_path / "model"), "--max-tokens", "4")
    assert not (tmp_path / "TRAPPED").exists()


def test_chat_says_that_there_is_no_template(home: Path, plain: Path) -> None:
    done = talk("the cat\n", str(plain), "--max-tokens", "4", "--system", "x")
    assert "no chat template" in done.stderr
    assert "--system is ignored" in done.stderr
    assert len(done.stdout.split("\n")) >= 2


def test_chat_goes_on_after_a_prompt_that_is_too_long(home: Path, folder: Path) -> None:
    done = talk("cat " * 200 + "\nthe cat\n", str(folder), "--max-tokens", "4")
    assert "shorten it" in done.stderr
    assert done.stdout.count("\n") == 1


# --- serve ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(home: Path, folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command as a process, from the moment it says that it serves."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", str(folder), "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home),
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert f"http://127.0.0.1:{port}/v1" in first, process.stderr and process.stderr.read()
        yield process, port
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=SECONDS)


def test_serve_answers_the_openai_client(home: Path, folder: Path) -> None:
    with served(home, folder) as (process, port):
        address = f"http://127.0.0.1:{port}/v1"
        key = read_password(home)
        client = openai.OpenAI(base_url=address, api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="-").models.list()
        assert [one.id for one in client.models.list()] == [str(folder)]
        asked = {
            "model": str(folder),
            "messages": [{"role": "user", "content": "the cat"}],
            "temperature": 1.0,
            "seed": 3,
            "max_tokens": 8,
        }
        whole = client.chat.completions.create(**asked)
        text = whole.choices[0].message.content
        assert whole.model == str(folder)
        assert whole.usage.completion_tokens <= 8
        pieces = list(client.chat.completions.create(**asked, stream=True))
        streamed = "".join(one.choices[0].delta.content or "" for one in pieces)
        assert len(pieces) > 3
        # The kept server's stream leaves out a character that the last token did not complete.
        assert streamed.rstrip("\ufffd") == text.rstrip("\ufffd") != ""
        # The terminal says the same: one template, one distribution, one luck.
        done = talk(
            "the cat\n", str(folder), "--temperature", "1", "--seed", "3", "--max-tokens", "8"
        )
        assert done.stdout == f"{for_terminal(text)}\n"
        del asked["max_tokens"]
        longest = client.chat.completions.create(**asked)
        assert longest.usage.total_tokens <= 64  # the model's context
        assert client.completions.create(model=str(folder), prompt="the cat", max_tokens=3).choices
        for wrong in (
            {"messages": [{"role": "tool", "content": "x"}]},
            {"messages": [{"role": "user", "content": "cat " * 100}]},
            {"messages": [{"role": "user", "content": "cat " * 10_000}]},
            {"n": 2},
            {"logprobs": True},
            {"extra_body": {"generation_config": "{}"}},
            {"extra_body": {"chat_template_kwargs": {"chat_template": "x"}}},
        ):
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**{**asked, **wrong})
        with pytest.raises(openai.NotFoundError, match="only '"):
            client.chat.completions.create(**{**asked, "model": "another/model"})
        for route in ("/load_model", "/reset"):
            with pytest.raises(openai.NotFoundError):
                client.with_options(base_url=f"http://127.0.0.1:{port}").post(
                    route, body={"model": "another/model"}, cast_to=object
                )
        _send_nonsense(port)
        assert client.completions.create(model=str(folder), prompt="the cat", max_tokens=3).choices
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        # `communicate` would leave out what was read ahead with the first line.
        printed, said = process.stdout.read(), process.stderr.read()
        assert process.wait(SECONDS) == 0
        assert f"$(cat {home}/password)" in printed
        assert key not in printed + said
        assert said.strip().splitlines()[-1] == "stopped"
        assert "Traceback" not in said


def _send_nonsense(port: int) -> None:
    """What no client sends; each must be answered or ended, and none be a traceback."""
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost:{port}\r\n"
    chunked = head + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"A" * 100_000,
        (head + "Content-Length: -1\r\n\r\n").encode(),
        (head + "Content-Length: 99999999999999999999\r\n\r\n").encode(),
        (head + "Content-Length: 10\r\nContent-Length: 11\r\n\r\n").encode(),
        (chunked + "zz\r\n").encode(),
        (chunked + "5\r\n{}").encode(),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while line.recv(4096):
                    pass


FIELDS = (
    "model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "frequency_penalty", "seed", "stop", "stream", "n", "logprobs", "logit_bias", "tools", "user",
    "generation_config", "chat_template_kwargs", "echo", "suffix", "nobody",
)  # fmt: skip
ODD = (
    None, True, 0, -1, 2**63, 10**30, 1e-300, float("nan"), float("inf"), "", "x", "\ud800", "\0",
    "a" * 9999, "<|eos|>" * 50, [], ["a"], {}, {"a": [[]]}, [{"role": "user", "content": "x"}],
    [{"role": "tool", "content": None}], [{"role": "user", "content": [{"type": "image_url"}]}],
)  # fmt: skip


@pytest.mark.campaign
def test_serve_outlives_four_hundred_odd_requests(home: Path, folder: Path) -> None:
    """No answer is a fault of the server, its log has no traceback, and its memory stays."""
    rng = random.Random(0)
    with served(home, folder) as (process, port):
        key = read_password(home)
        memory = Path(f"/proc/{process.pid}/statm")
        before = int(memory.read_text().split()[1])
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=120,
        ) as client:
            answers: Counter[int] = Counter()
            for number in range(300):
                path, own = rng.choice(
                    [("/v1/completions", {"prompt": "x"}),
                     ("/v1/chat/completions", {"messages": ODD[-3]})]
                )  # fmt: skip
                body = {**own, "max_tokens": 2, rng.choice(FIELDS): rng.choice(ODD)}
                text = bytearray(json.dumps(body).encode())
                for _ in range(number % 3):
                    text[rng.randrange(len(text))] = rng.randrange(256)
                answer = client.post(path, content=bytes(text))
                answers[answer.status_code] += 1
                if answer.status_code != 200:
                    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert {200, 400} <= set(answers) <= {200, 400, 404}, answers
            for method, path, wanted in (
                ("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405),
                ("DELETE", "/v1/models", 405), ("POST", "/v1/models", 404),
            ):  # fmt: skip
                answer = client.request(method, path)
                assert answer.status_code == wanted
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            request = (
                "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {key}\r\n"
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                '1c\r\n{"prompt": "x", "max_tokens"\r\n5\r\n: 2 }\r\n0\r\n\r\n'
            ).encode()
            for _ in range(100):
                sent = bytearray(request[: rng.randrange(1, len(request) + 1)])
                sent[rng.randrange(len(sent))] = rng.randrange(256)
                with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
                    line.sendall(sent)
                    line.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(ConnectionError):
                        while line.recv(4096):
                            pass
            asked = {"prompt": "x", "max_tokens": 2}
            assert client.post("/v1/completions", json=asked).status_code == 200
        grown = (int(memory.read_text().split()[1]) - before) * os.sysconf("SC_PAGESIZE")
        assert grown < 200 * 2**20
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
        assert "Traceback" not in said


@pytest.mark.parametrize("options", [(), ("--no-password",), ("--host", "0.0.0.0")])
def test_serve_says_how_to_ask_and_what_is_open(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.delenv("QUARTET_SERVE_KEY", raising=False)
    keys: list[str | None] = []

    def serving(*_: Any, key: str | None, ready: Callable[[bool], None], **__: Any) -> None:
        keys.append(key)
        ready(True)

    monkeypatch.setattr("tasks.registry.serving.serve_model", serving)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(serve)
    words = [str(folder), "--port", str(free_port()), *options]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert keys == [None if "--no-password" in options else read_password(home)]
    assert ("Authorization" in done.stdout) == ("--no-password" not in options)
    assert ("every account of this machine can use" in done.stderr) == ("--no-password" in options)
    assert ("not encrypted" in done.stderr) == ("--host" in options)


def test_a_served_folder_can_neither_hang_the_server_nor_widen_its_search(
    home: Path, folder: Path
) -> None:
    tokenizer, model = load_tokenizer(folder), load_causal_model(folder)
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer.chat_template, tokenizer.response_template = loop, {"fields": {"x": {"open": "("}}}
    model.generation_config.update(num_beams=10**6, num_return_sequences=10**6, max_time=1e9)
    app = Guard(_app(model, tokenizer, "tiny"), key=None, host="localhost", context=64, name="tiny")
    messages = [{"role": "user", "content": "x"}]

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/v1/chat/completions", json={"messages": messages})
            assert answer.status_code == 400
            assert "the chat template was stopped" in answer.json()["error"]["message"]
            asked = {"prompt": "the cat", "max_tokens": 3}
            answer = await client.post("/v1/completions", json=asked)
            assert len(answer.json()["choices"]) == 1

    asyncio.run(run())


def test_the_key_is_the_homes_password_or_a_variable(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUARTET_SERVE_KEY", raising=False)
    assert serve_key() == read_password(home)
    monkeypatch.setenv("QUARTET_SERVE_KEY", "a-key-of-mine")
    assert serve_key() == "a-key-of-mine"
    for wrong in ("", "short", "with a space", "\u00e9" * 9):
        monkeypatch.setenv("QUARTET_SERVE_KEY", wrong)
        with pytest.raises(ParameterError, match="at least 8 printable ASCII"):
            serve_key()


def test_serve_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"pip install 'quartet-rlhf\[serve\]'"):
        serve_model(Path("none"), "none", host="127.0.0.1", port=1, key=None, ready=print)


def test_serve_refuses_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ParameterError, match=f"port {port} on 127.0.0.1 cannot be served"):
            want_free_port("127.0.0.1", port)
    want_free_port("127.0.0.1", port)
