"""The guard of a served model: strangers, foreign pages and oversized requests get nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import h11
import httpx
import pytest

from models.errors import ModelError
from tasks.registry import guard as guarding
from tasks.registry.bodies import BODY_BYTES
from tasks.registry.guard import REQUESTS_AT_ONCE, Guard

KEY = "a-key-of-mine"
CHAT = "/v1/chat/completions"
ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}


class Served:
    """Stands in for the kept server: says what reached it."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.error: BaseException | None = None
        self.wait = asyncio.Event()
        self.wait.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.bodies.append(json.loads(body) if body else None)
        await self.wait.wait()
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})


def ask(
    work: Callable[[httpx.AsyncClient, Served], Coroutine[Any, Any, Any]], **options: Any
) -> Served:
    """Do some requests with the key, and return what reached the model."""
    served = Served()
    app = Guard(
        served, **{"key": KEY, "host": "127.0.0.1", "context": 64, "name": "tiny"} | options
    )

    async def run() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1:8000",
            headers={"Authorization": f"Bearer {KEY}"},
        ) as client:
            await work(client, served)

    asyncio.run(run())
    return served


def status(method: str, path: str, options: dict[str, Any] | None = None, **given: Any) -> int:
    """How one request is answered."""
    answers: list[httpx.Response] = []

    async def work(client: httpx.AsyncClient, _: Served) -> None:
        answers.append(await client.request(method, path, **given))

    served = ask(work, **(options or {}))
    assert bool(served.bodies) == (answers[0].status_code == 200)  # a refusal reaches no model
    if answers[0].status_code != 200:
        error = answers[0].json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert error["type"] == "invalid_request_error"
        assert KEY not in answers[0].text
    return answers[0].status_code


def test_guard_passes_on_what_is_asked_and_nothing_else() -> None:
    async def work(client: httpx.AsyncClient, _: Served) -> None:
        answer = await client.post(CHAT, json={**ASKED, "n": 1, "seed": 3, "stop": "a"})
        assert answer.text == "fine"
        assert answer.headers["cache-control"] == "no-store"
        assert (await client.get("/v1/models")).text == "fine"

    assert ask(work).bodies == [{**ASKED, "seed": 3, "stop": "a"}, None]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:8000"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": ""}, 403),
        ({"Host": "10.1.2.3"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_guard_lets_in_only_who_has_the_key_and_comes_from_no_other_page(
    given: dict[str, str], expected: int
) -> None:
    assert status("GET", "/v1/models", headers=given) == expected
    assert status("POST", CHAT, json=ASKED, headers=given) == expected


def test_guard_names_no_model_to_the_health_check_but_lets_it_in() -> None:
    assert status("GET", "/health", headers={"Authorization": ""}) == 200
    assert status("GET", "/health", headers={"Authorization": "", "Host": "evil.example"}) == 403


def test_guard_without_a_key_still_refuses_foreign_pages() -> None:
    none = {"key": None}
    assert status("POST", CHAT, none, json=ASKED, headers={"Authorization": ""}) == 200
    assert status("POST", CHAT, none, json=ASKED, headers={"Origin": "http://evil.example"}) == 403
    assert status("POST", CHAT, none, json=ASKED, headers={"Host": "evil.example"}) == 403
    plain = {"Content-Type": "text/plain"}
    assert status("POST", CHAT, none, content=json.dumps(ASKED), headers=plain) == 415


def test_guard_on_every_address_takes_addresses_but_no_foreign_names() -> None:
    everywhere = {"host": "0.0.0.0"}
    assert status("GET", "/v1/models", everywhere, headers={"Host": "10.1.2.3:8000"}) == 200
    assert status("GET", "/v1/models", everywhere, headers={"Host": "evil.example"}) == 403
    named = {"host": "gpu-3.example"}
    assert status("GET", "/v1/models", named, headers={"Host": "gpu-3.example:8000"}) == 200
    assert status("GET", "/v1/models", named, headers={"Host": "10.1.2.3"}) == 403


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b'{"a":' * 50_000, 400),
        (b'{"messages": ' + b"[" * 50_000, 400),
        (b'{"prompt": "\\ud800", "max_tokens": 1}', 400),
        (b'{"prompt": "x", "max_tokens": 1' + b"0" * 5000 + b"}", 400),
        (b" " * (BODY_BYTES + 1), 413),
    ],
)
def test_guard_refuses_a_body_that_is_no_request(body: bytes, expected: int) -> None:
    assert status("POST", CHAT, content=body, headers=JSON) == expected
    assert status("POST", "/v1/completions", content=body, headers=JSON) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": 7, "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        {"messages": [{"role": "user", "content": "x" * 64 * 65}]},
        {"messages": [{"role": "user", "content": "x"}] * 1001},
        {"max_tokens": 0},
        {"max_tokens": 10**30},
        {"max_tokens": "7"},
        {"temperature": -1},
        {"temperature": 1e-30},
        {"temperature": 1e400},
        {"top_p": 0},
        {"top_p": 1.5},
        {"seed": -1},
        {"seed": True},
        {"n": 2},
        {"logprobs": True},
        {"top_logprobs": 5},
        {"logit_bias": {"1": 5}},
        {"stop": ["x"] * 9},
        {"stop": ""},
        {"stream": "yes"},
        {"tools": [{}]},
        {"generation_config": "{}"},
        {"chat_template_kwargs": {"chat_template": "x"}},
        {"model": "x" * 1001},
    ],
)
def test_guard_refuses_what_is_not_served(changes: dict[str, Any]) -> None:
    body = json.dumps({**ASKED, **changes})
    assert status("POST", CHAT, content=body, headers=JSON) == 400


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("/load_model", {"json": {}}, 404),
        ("/v1/responses", {"json": ASKED}, 404),
        (CHAT, {"content": json.dumps(ASKED), "headers": {"Content-Type": "text/plain"}}, 415),
        (CHAT, {"content": json.dumps(ASKED)}, 415),
        (CHAT, {"json": ASKED, "headers": {"Content-Encoding": "gzip"}}, 415),
        (CHAT, {"json": ASKED, "headers": {"Content-Length": "1" * 30}}, 413),
        (CHAT, {"json": ASKED, "headers": {"Content-Length": "-5"}}, 413),
    ],
)
def test_guard_refuses_a_request_before_it_reads_the_body(
    path: str, given: dict[str, Any], expected: int
) -> None:
    assert status("POST", path, **given) == expected


def test_guard_names_the_field_and_the_case_as_the_api_does() -> None:
    async def work(client: httpx.AsyncClient, _: Served) -> None:
        for changes, param, code in (
            ({"n": 2}, "n", None),
            ({"messages": "hello"}, "messages", None),
            ({"model": "another"}, "model", "model_not_found"),
            ({"messages": [{"role": "user", "content": "x" * 9999}]}, "messages",
             "context_length_exceeded"),
        ):  # fmt: skip
            answer = await client.post(CHAT, json={**ASKED, **changes})
            error = answer.json()["error"]
            assert (error["param"], error["code"]) == (param, code)
            assert answer.status_code == (404 if param == "model" else 400)

    ask(work)


def test_guard_puts_an_error_in_a_stream_into_shape() -> None:
    piece = b'data: {"x": 1}\n\ndata: {"error": "it said "no"\n twice"}\n\n'
    before, error, rest = guarding._with_error_in_shape(piece).split(b"\n\n")
    assert (before, rest) == (b'data: {"x": 1}', b"")
    told = json.loads(error.removeprefix(b"data: "))["error"]
    assert told["message"] == 'it said "no"\n twice'
    said = b'data: {"content": "data: {\\"error\\": \\"x"}\n\n'
    assert guarding._with_error_in_shape(said) == said


def test_guard_stops_a_body_that_never_ends() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 2**16
            yield b" " * 2**16

    assert status("POST", CHAT, content=endless(), headers=JSON) == 413
    assert sent <= BODY_BYTES + 2**17


def test_guard_stops_a_body_that_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "BODY_SECONDS", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    assert status("POST", CHAT, content=slow(), headers=JSON) == 408


def test_guard_answers_so_many_at_once_and_again_when_they_are_done() -> None:
    async def work(client: httpx.AsyncClient, served: Served) -> None:
        served.wait.clear()
        waiting = [asyncio.create_task(client.post(CHAT, json=ASKED)) for _ in range(8)]
        while len(served.bodies) < REQUESTS_AT_ONCE:
            await asyncio.sleep(0)
        refused = await client.post(CHAT, json=ASKED)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        served.wait.set()
        assert {(await one).status_code for one in waiting} == {200}
        assert (await client.post(CHAT, json=ASKED)).status_code == 200

    assert len(ask(work).bodies) == REQUESTS_AT_ONCE + 1


@pytest.mark.parametrize(
    ("error", "expected"), [(RuntimeError("inf\nnan"), 500), (ModelError("no"), 400)]
)
def test_guard_tells_a_failure_in_one_line(
    error: Exception, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(client: httpx.AsyncClient, served: Served) -> None:
        served.error = error
        assert (await client.post(CHAT, json=ASKED)).status_code == expected
        served.error = None
        assert (await client.post(CHAT, json=ASKED)).status_code == 200

    ask(work)
    assert ("RuntimeError: inf nan (" in caplog.text) == (expected == 500)
    assert "Traceback" not in caplog.text


def test_guard_says_nothing_to_a_client_that_left(caplog: pytest.LogCaptureFixture) -> None:
    async def work(client: httpx.AsyncClient, served: Served) -> None:
        async def gone(message: Any) -> None:
            raise h11.LocalProtocolError("the connection ended")

        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": []}
        await Guard(served, key=KEY, host="::1", context=64, name="tiny")(scope, None, gone)  # type: ignore[arg-type]

    ask(work)
    assert [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")] == []
