"""One model in a conversation, or behind an OpenAI-compatible address, for small-scale use.

The server is transformers' own (`transformers serve`). What differs: it serves this one model,
loaded and checked as everywhere here, under a short name; it loads nothing else from anywhere, so
the routes that do are left out; its list of models is this model rather than the hub's cache;
completions are sampled unless the request says temperature 0, and end where the model's context
does; an answer depends on its own request alone (`texts`); a request that cannot be served is
answered with 400 and a reason; prompts of token ids are sampled as in training (`tokens`); and
`guard` stands before it, so that only who has the key may ask, and only for so much.
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError, ParameterError, QuartetError
from models.runtime import use_device
from tasks.machine.password import home_password
from tasks.registry.bodies import UPDATE, Refusal
from tasks.registry.guard import Guard
from tasks.registry.texts import cut_stops, generate_alone, keep_seed
from tasks.registry.tokens import TokenServer
from tasks.settings import load_settings

if TYPE_CHECKING:
    from models.language.chat import Chat, ChatOptions

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health")
"""What is left of the kept server's routes."""

KEY_VARIABLE = "QUARTET_SERVE_KEY"
CONNECTIONS = 64
"""At once, waiting ones included."""


def open_chat(folder: Path, options: "ChatOptions") -> "Chat":
    """Load a model for a conversation, on the device that the settings name.

    Raises:
        ModelError: The folder is incomplete, damaged, or holds another kind of model.
    """
    from models.language.chat import Chat  # torch: only where there is work to do

    settings = load_settings()
    return Chat(folder, options, device=use_device(settings.device, settings.threads))


def chat_options(*, temperature: float, max_tokens: int, seed: int, system: str) -> "ChatOptions":
    """Check how completions are to be sampled.

    Raises:
        ParameterError: Nothing can be sampled so.
    """
    from models.language.chat import ChatOptions

    return ChatOptions(temperature=temperature, max_tokens=max_tokens, seed=seed, system=system)


def serve_key() -> str:
    """Return what requests must bring: `QUARTET_SERVE_KEY`, else the home folder's password.

    Raises:
        ParameterError: The variable holds no usable key.
        QuartetError: The password cannot be read or written.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given is None:
        return home_password(load_settings().root)
    if not (given.isascii() and given.isprintable() and " " not in given and len(given) >= 8):
        raise ParameterError(
            f"{KEY_VARIABLE} has {len(given)} characters or odd ones, at least 8 printable ASCII "
            "characters without spaces were wanted; change it, or unset it for the home's password"
        )
    return given


def want_free_port(host: str, port: int) -> None:
    """Make sure that an address can be served, before a model is loaded.

    Raises:
        ParameterError: The port is taken, or the host is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # a name that no host can have
        why = getattr(error, "strerror", "") or error
        raise ParameterError(
            f"port {port} on {host} cannot be served ({why}); stop what has "
            "it, or choose another with --port or --host"
        ) from error


def serve_model(
    folder: Path,
    name: str,
    *,
    host: str,
    port: int,
    key: str | None,
    ready: Callable[[bool], None],
    updates: Path | None = None,
) -> None:
    """Serve a model folder until a signal ends it.

    Args:
        folder: Of a causal language model.
        name: The model's id in requests and answers.
        key: What requests must bring, or None where everybody may ask.
        ready: Called once requests are answered, with whether the model has a chat template.
        updates: Folder from below which requests may load other weights, or None.

    Raises:
        ModelError: The folder is incomplete, damaged, or holds another kind of model, or the extra
            `serve` is missing.
    """
    try:
        import openai  # noqa: F401 - without it transformers' server raises a NameError
        import uvicorn
    except ImportError as error:
        needed = "pip install 'quartet-rlhf[serve]'"
        raise ModelError(f"serving needs openai and uvicorn: {needed}") from error
    from huggingface_hub import constants

    from models.language.chat import context_tokens
    from models.language.folders import load_causal_model, load_frozen, load_tokenizer
    from models.language.reading import refuse_short_embeddings
    from tasks.registry.connections import PromptConnection

    constants.HF_HUB_OFFLINE = True  # everything is here; nothing is asked of the hub
    settings = load_settings()
    tokenizer = load_tokenizer(folder, wants_pad=False)
    device = use_device(settings.device, settings.threads)
    model = load_frozen(load_causal_model, folder, device)
    refuse_short_embeddings(folder, tokenizer, model)
    context = context_tokens(model)
    app = Guard(
        _app(model, tokenizer, name, updates),
        key=key,
        host=host,
        context=context,
        name=name,
        updates=updates is not None,
    )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        http=PromptConnection,
        ws="none",
        limit_concurrency=CONNECTIONS,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    begin = server.startup

    async def startup(sockets: Any = None) -> None:
        await begin(sockets=sockets)
        if server.started:
            ready(bool(tokenizer.chat_template))

    server.startup = startup  # type: ignore[method-assign]
    server.run()


def _app(model: Any, tokenizer: Any, name: str, updates: Path | None = None) -> Any:
    from fastapi.responses import JSONResponse
    from jinja2 import TemplateError
    from starlette.exceptions import HTTPException
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.model_manager import ModelManager, TimedModel
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.server import build_server
    from transformers.cli.serving.systemone import SystemOneHandler
    from transformers.cli.serving.transcription import TranscriptionHandler
    from transformers.cli.serving.utils import GenerationState

    manager = ModelManager(model_timeout=-1)
    manager.force_model = name
    manager.process_model_name = lambda asked: asked  # no `@main` behind the name
    manager.loaded_models[name] = TimedModel(model, timeout_seconds=-1, processor=tokenizer)
    entry = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "quartet"}
    manager.get_gen_models = lambda: [entry]
    tokenizer.response_template = None  # patterns of the folder's own, which may never end
    state = GenerationState()
    _sample_by_default(model)
    generate_alone(model)
    tokens = TokenServer(model, tokenizer, name, state.get_manager(name), updates)

    completion, chat = CompletionHandler(manager, state), ChatCompletionHandler(manager, state)
    for handler in (completion, chat):
        keep_seed(handler)
        cut_stops(handler)
    answer_text = completion.handle_request

    async def complete(body: dict[str, Any], request_id: str) -> Any:
        if isinstance(body["prompt"], list):
            return JSONResponse(await tokens.complete(body, request_id))
        return await answer_text(body, request_id)

    completion.handle_request = complete
    app = build_server(
        manager,
        chat,
        completion_handler=completion,
        response_handler=ResponseHandler(manager, state),
        systemone_handler=SystemOneHandler(manager, state),
        transcription_handler=TranscriptionHandler(manager, state),
        generation_state=state,
    )
    app.router.routes[:] = [route for route in app.router.routes if route.path in ROUTES]
    if updates is not None:
        app.add_api_route(UPDATE, tokens.update, methods=["POST"])

    async def refuse(request: Any, error: Any) -> Any:
        status, said = getattr(error, "status_code", 400), getattr(error, "detail", str(error))
        if status in (404, 405):
            there = ", ".join(ROUTES)
            said = f"{request.method} {request.url.path} is nothing here; there are {there}"
        return JSONResponse(Refusal(status, str(said)).content, status_code=status)

    for kind in (ValueError, TemplateError, QuartetError, HTTPException):
        app.add_exception_handler(kind, refuse)
    return app


def _sample_by_default(model: Any) -> None:
    """Sample as in training, or in the model's own way, of which only the sampling is kept."""
    from transformers import GenerationConfig

    own = model.generation_config
    drawing: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    if own.do_sample:
        drawing = {name: getattr(own, name) for name in (*drawing, "repetition_penalty")}
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
    try:
        kept = GenerationConfig(**drawing, **{name: getattr(own, name) for name in tokens})
        kept.validate(strict=True)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"generation_config.json cannot be used for sampling ({error}); mend or remove it"
        ) from error
    model.generation_config = kept
