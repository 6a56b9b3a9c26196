"""Commands that use a model: `quartet chat` in the terminal and `quartet serve` over HTTP."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from models.errors import ParameterError

MODEL = typer.Argument(help="models:/NAME@ALIAS, stage/digest, a folder or a hub id.")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HELP = "/reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C stops a completion"


def chat(
    model: Annotated[str, MODEL],
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token always.", min=0.0)
    ] = 0.7,
    max_tokens: Annotated[int, typer.Option(help="Longest completion.", min=1)] = 256,
    seed: Annotated[int, typer.Option(help="The same seed, the same completions.")] = 0,
    system: Annotated[str, typer.Option(help="A system prompt.")] = "",
) -> None:
    """Talk to a model in the terminal; prompts may also be piped in, one a line."""
    _be_quiet()
    from tasks.registry.serving import chat_options, open_chat
    from tasks.stages.resolve import model_folder

    options = chat_options(temperature=temperature, max_tokens=max_tokens, seed=seed, system=system)
    with model_folder(model) as found:
        talk = open_chat(found.path, options)
        if not talk.has_template:
            _note(
                f"{found.name} has no chat template: each text is continued as it stands, and "
                "nothing is remembered" + ("; --system is left out" if system else "")
            )
        if sys.stdin.isatty():
            _note(f"{found.name}, a context of {talk.context} tokens; {HELP}")
        for prompt in _prompts():
            if prompt == "/quit":
                return
            if prompt == "/reset":
                talk.reset()
                _note("forgotten")
            else:
                _answer(talk, prompt)


def serve(
    model: Annotated[str, MODEL],
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve a model behind an OpenAI-compatible address, until Ctrl-C."""
    _be_quiet()
    from tasks.registry.serving import serve_model, want_free_port
    from tasks.stages.resolve import model_folder

    want_free_port(host, port)
    if host not in LOOPBACK:
        _note(
            f"warning: {host} can be reached from other machines, and whoever reaches it may use "
            "the model: there is no password"
        )
    with model_folder(model) as found:
        name = found.name

        def ready(has_template: bool) -> None:
            _say_ready(name, f"http://{_in_url(host)}:{port}/v1", has_template=has_template)

        with contextlib.suppress(KeyboardInterrupt):
            serve_model(found.path, name, host=host, port=port, ready=ready)
    _note("stopped")


def _say_ready(name: str, url: str, *, has_template: bool) -> None:
    what = (
        ("chat/completions", '"messages": [{"role": "user", "content": "Hello"}]')
        if has_template
        else ("completions", '"prompt": "Hello"')
    )
    if not has_template:
        _note(f"{name} has no chat template: only /v1/completions can be used")
    typer.echo(f"{name} is served at {url}, until Ctrl-C; for example:")
    typer.echo(f"  curl {url}/{what[0]} -H 'Content-Type: application/json' \\")
    typer.echo(f'    -d \'{{"model": "{name}", {what[1]}, "max_tokens": 64}}\'')
    sys.stdout.flush()


def _prompts() -> Iterator[str]:
    """What a person types, or the lines that are piped in; empty ones are passed over."""
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else next(sys.stdin)
        except (EOFError, StopIteration):
            return
        except KeyboardInterrupt:
            _note(f"\n{HELP}")
            continue
        if line.strip():
            yield line.strip()


def _answer(talk: Any, prompt: str) -> None:
    """Print a completion while it is made."""
    try:
        with contextlib.closing(talk.reply(prompt)) as pieces:
            for place, piece in enumerate(pieces):
                if place == 0 and talk.notice:
                    _note(talk.notice)
                typer.echo(piece, nl=False)
                sys.stdout.flush()
        typer.echo("")
    except KeyboardInterrupt:
        typer.echo("")
        _note("(stopped)")
    except ParameterError as error:
        _note(f"quartet: {error}")


def _note(text: str) -> None:
    """Say something that is no part of a completion."""
    typer.echo(text, err=True)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _be_quiet() -> None:
    """Keep libraries' progress and advice out of the conversation."""
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        os.environ.setdefault(name, value)
