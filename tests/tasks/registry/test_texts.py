"""Completions of texts: seeds of requests that overlap, and stop strings."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from models.language.folders import load_causal_model, load_tokenizer
from tasks.registry.serving import _app
from tasks.registry.texts import _Cut
from tests.flows.cli.test_use import tiny_model

Ask = Callable[..., Awaitable[httpx.Response]]
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
PROMPTS: dict[str, dict[str, Any]] = {
    TEXT: {"prompt": "the cat"},
    CHAT: {"messages": [{"role": "user", "content": "the cat"}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory)


def with_model(folder: Path, work: Callable[[Ask], Awaitable[None]]) -> None:
    """Do some requests, to a path with what differs from 20 sampled tokens of plain text."""
    tokenizer, model = load_tokenizer(folder), load_causal_model(folder)
    texts = [tokenizer.decode([token]) for token in range(model.config.vocab_size)]
    plain = torch.tensor([text.isascii() and text.isprintable() for text in texts])
    plain[tokenizer.all_special_ids] = False
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda *given: given[2].masked_fill(~plain, float("-inf")))
    app = _app(model, tokenizer, "tiny")

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def ask(path: str, **given: Any) -> httpx.Response:
                body = {"max_tokens": 20, "temperature": 1.0, **PROMPTS[path], **given}
                answer = await client.post(path, json=body)
                assert answer.status_code == 200, answer.text
                return answer

            await work(ask)

    asyncio.run(run())


def read(answer: httpx.Response) -> tuple[str, str]:
    """The text, in pieces or whole, and why it ended."""
    if answer.headers["content-type"] == "application/json":
        events = [answer.json()]
    else:
        events = [
            json.loads(one.removeprefix("data: ")) for one in answer.text.split("\n\n") if one
        ]
    choices = [event["choices"][0] for event in events]
    assert ["usage" in event for event in events] == [False] * (len(events) - 1) + [True]
    assert [choice.get("finish_reason") for choice in choices[:-1]] == [None] * (len(events) - 1)
    places = [choice.get("message", choice.get("delta", choice)) for choice in choices]
    text = "".join(place.get("content", place.get("text", "")) for place in places)
    return text, choices[-1]["finish_reason"]


def slowly_cut(text: str, stops: list[str]) -> str:
    """One character after another, until the longest stop string that is complete."""
    for end in range(len(text) + 1):
        complete = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(complete)]
    return text


@pytest.mark.parametrize("path", [TEXT, CHAT])
def test_a_seed_gives_one_completion_whatever_else_is_asked_meanwhile(
    folder: Path, path: str
) -> None:
    async def work(ask: Ask) -> None:
        async def texts(*seeds: int | None) -> list[str]:
            answers = await asyncio.gather(*(ask(path, seed=seed) for seed in seeds))
            return [read(answer)[0] for answer in answers]

        (first,), (second,) = await texts(1), await texts(2)
        state = torch.random.get_rng_state()
        assert await texts(1, 2, 1, 1, 2) == [first, second, first, first, second]
        assert torch.equal(torch.random.get_rng_state(), state)
        unseeded = await texts(None, 1, None)
        assert unseeded[1] == first
        assert len({first, second, *unseeded}) == 4

    with_model(folder, work)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [TEXT, CHAT])
def test_an_answer_ends_before_its_first_stop_string(folder: Path, path: str, stream: bool) -> None:
    async def work(ask: Ask) -> None:
        text, why = read(await ask(path, seed=1))
        assert why == "length"
        for stops in ([text[4:5]], [text[3:6]], [text[9:12], "no such thing", text[3:6]]):
            wanted = slowly_cut(text, stops)
            assert len(wanted) <= 4
            stop = stops if len(stops) > 1 else stops[0]
            answer = await ask(path, seed=1, stop=stop, stream=stream)
            assert read(answer) == (wanted, "stop")
        for stop in ([], "no such thing", text[-2:] + "no"):  # the last is begun and held back
            answer = await ask(path, seed=1, stop=stop, stream=stream)
            assert read(answer) == (text, "length")

    with_model(folder, work)


def test_a_cut_does_not_depend_on_the_pieces() -> None:
    rng = random.Random(0)
    done = 0
    for _ in range(2000):
        text = "".join(rng.choices("abc", k=rng.randrange(20)))
        stops = ["".join(rng.choices("abc", k=rng.randrange(1, 6))) for _ in range(3)]
        cut, sent, rest = _Cut(stops), "", text
        while rest:
            size = rng.randrange(1, 5)
            sent, rest = sent + cut.take(rest[:size]), rest[size:]
            assert slowly_cut(text, stops).startswith(sent)
        assert sent + cut.rest() == slowly_cut(text, stops)
        assert cut.done == any(stop in text for stop in stops)
        done += cut.done
    assert 500 < done < 1900
