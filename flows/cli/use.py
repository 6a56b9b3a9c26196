"""Commands that use a model: `quartet chat` in the terminal and `quartet serve` over HTTP."""

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.terminal import say
from models.errors import ParameterError
from tasks.machine.launch import OPENMP_SPINS
from tasks.machine.lookup import LOOPBACK

if TYPE_CHECKING:
    from tasks.stages.resolve import NamedFolder

MODEL = typer.Argument(
    help="Registered model, models:/NAME@ALIAS, stage/DIGEST, a folder or a hub id."
)
HELP = "/reset clears the conversation, /quit or Ctrl-D exits, Ctrl-C stops a completion"


def chat(
    model: Annotated[str, MODEL],
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature; 0 = greedy decoding.", min=0.0, max=1000)
    ] = 0.7,
    max_tokens: Annotated[
        int, typer.Option(help="Maximum tokens of a completion.", min=1, max=2**20)
    ] = 256,
    seed: Annotated[
        int, typer.Option(help="Random seed of the sampling.", min=0, max=2**32 - 1)
    ] = 0,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
) -> None:
    """Chat with a model in the terminal; prompts may also be piped in, one per line."""
    _prepare_libraries()
    from tasks.registry.serving import chat_options, open_chat
    from tasks.stages.resolve import model_folder

    with model_folder(model) as found:  # first: a wrong name is refused before torch is loaded
        options = chat_options(
            temperature=temperature, max_tokens=max_tokens, seed=seed, system=system
        )
        _say_which(found)
        talk = open_chat(found.path, options)
        if not talk.has_template:
            _note(
                f"{found.name} has no chat template: it continues each text, without a conversation"
                + ("; --system is ignored" if system else "")
            )
        if sys.stdin.isatty():
            _note(f"{found.name}, context of {talk.context} tokens; {HELP}")
        for prompt in _prompts():
            if prompt == "/quit":
                return
            if prompt == "/reset":
                talk.reset()
                _note("conversation cleared")
            else:
                _answer(talk, prompt)


def serve(
    model: Annotated[str, MODEL],
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Answer whoever can reach the address.")
    ] = False,
    allow_updates: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Let requests load other weights, from below this folder."
        ),
    ] = None,
) -> None:
    """Serve a model with an OpenAI-compatible API, until Ctrl-C.

    Requests bring a key: the home folder's password, or QUARTET_SERVE_KEY.
    """
    _prepare_libraries()
    from tasks.registry.serving import serve_key, serve_model, want_free_port
    from tasks.stages.resolve import model_folder

    if allow_updates is not None and (no_password or not allow_updates.is_dir()):
        raise ParameterError(
            f"--allow-updates {allow_updates} wants an existing folder and a key, so that not "
            "everybody can change the model; make the folder, or leave out --no-password"
        )
    want_free_port(host, port)
    key = None if no_password else serve_key()
    if no_password:
        who = "every account of this machine"
        who += "" if host in LOOPBACK else f", and everybody who can reach {host},"
        _note(f"warning: --no-password: {who} can use the model")
    if host not in LOOPBACK:
        _note(
            f"warning: {host} can be reached from other machines, and requests are not encrypted; "
            "put a server with TLS in front"
        )
    with model_folder(model) as found:
        _say_which(found)
        name = found.name

        def ready(has_template: bool) -> None:
            url = f"http://{_in_url(host)}:{port}/v1"
            _say_ready(name, url, has_template=has_template, with_key=not no_password)

        with contextlib.suppress(KeyboardInterrupt):
            serve_model(
                found.path,
                name,
                host=host,
                port=port,
                key=key,
                ready=ready,
                updates=allow_updates,
            )
    _note("stopped")


def _say_which(found: "NamedFolder") -> None:
    if found.version not in ("", found.name):
        _note(f"{found.name} is {found.version}")


def _say_ready(name: str, url: str, *, has_template: bool, with_key: bool) -> None:
    what = (
        ("chat/completions", '"messages": [{"role": "user", "content": "Hello"}]')
        if has_template
        else ("completions", '"prompt": "Hello"')
    )
    if not has_template:
        _note(f"{name} has no chat template: only /v1/completions can be used")
    say(f"{name} is served at {url}, until Ctrl-C; for example:")
    if with_key:  # through a pipe: the arguments of curl can be read by every account
        say(f"  printf 'Authorization: Bearer %s' {_key_in_shell()} | \\")
    header = "-H @- " if with_key else ""
    say(f"  curl {url}/{what[0]} {header}-H 'Content-Type: application/json' \\")
    body = f'{{"model": {json.dumps(name)}, {what[1]}, "max_tokens": 64}}'
    say(f"    -d {shlex.quote(body)}")
    sys.stdout.flush()


def _key_in_shell() -> str:
    """How a shell reads the key, which is never printed."""
    from tasks.machine.password import password_file
    from tasks.registry.serving import KEY_VARIABLE
    from tasks.settings import load_settings

    if KEY_VARIABLE in os.environ:
        return f'"${KEY_VARIABLE}"'
    return f'"$(cat {shlex.quote(str(password_file(load_settings().root)))})"'


def _prompts() -> Iterator[str]:
    """Typed or piped lines in UTF-8; empty ones are skipped, and other bytes become U+FFFD."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        piped = None if sys.stdin.isatty() else "utf-8"  # whatever the locale says
        sys.stdin.reconfigure(encoding=piped, errors="replace")
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else next(sys.stdin)
        except (EOFError, StopIteration):
            return
        except KeyboardInterrupt:
            _note(f"\n{HELP}")
            continue
        if "\ufffd" in line:
            _note("the prompt has bytes that are not UTF-8: they became \ufffd")
        if line.strip():
            yield line.strip()


def _answer(talk: Any, prompt: str) -> None:
    try:
        with contextlib.closing(talk.reply(prompt)) as pieces:
            for place, piece in enumerate(pieces):
                if place == 0 and talk.notice:
                    _note(talk.notice)
                say(piece, end="")
                sys.stdout.flush()
        say()
    except KeyboardInterrupt:
        say()
        _note("(stopped)")
    except ParameterError as error:
        _note(f"quartet: {error}")


def _note(text: str) -> None:
    say(text, err=True)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _prepare_libraries() -> None:
    """Say by the environment: no progress bars, no hints, threads that sleep."""
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GOMP_SPINCOUNT": OPENMP_SPINS,
        "TOKENIZERS_PARALLELISM": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        os.environ.setdefault(name, value)
