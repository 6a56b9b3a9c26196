"""Texts in, texts out: what a request says of its completion, and the kept server does not do.

It seeds torch's global generator when a request arrives, while its one thread still draws for
another, lets a completion run over the model's context, and leaves in the stop string that ends it.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from tasks.registry.guard import STREAMED_ERROR


def keep_seed(handler: Any) -> None:
    """Hand a request's seed on to `generate_alone`, instead of seeding when the request arrives."""
    build = handler._build_generation_config

    def build_with_seed(body: dict[str, Any], *rest: Any, **options: Any) -> Any:
        seed = body.pop("seed", None)
        config = build(body, *rest, **options)
        config.seed = seed
        return config

    handler._build_generation_config = build_with_seed


def generate_alone(model: Any) -> None:
    """Draw a completion with its own request's seed, and end it with the model's context."""
    import torch  # where there is work to do

    from models.language.chat import context_tokens

    context, generate = context_tokens(model), model.generate

    def generate_within(*, input_ids: Any, generation_config: Any, **rest: Any) -> Any:
        if not input_ids.shape[1]:
            raise ValueError("the prompt has no token; write something")
        room = context - input_ids.shape[1]
        if room < 1:
            raise ValueError(
                f"the prompt has {input_ids.shape[1]} tokens and the model's context {context}; "
                "shorten it"
            )
        generation_config.max_new_tokens = min(generation_config.max_new_tokens or room, room)
        seed = vars(generation_config).pop("seed", None)
        # `generate` draws from torch's global generator alone, on the kept server's one thread.
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return generate(input_ids=input_ids, generation_config=generation_config, **rest)

    model.generate = generate_within


def cut_stops(handler: Any) -> None:
    """Answer with the text before the first stop string, as OpenAI's API does."""
    answer = handler.handle_request

    async def answer_cut(body: dict[str, Any], request_id: str) -> Any:
        from starlette.responses import JSONResponse  # an extra

        stops = body.get("stop") or []
        if not stops:
            body.pop("stop", None)  # of an empty list the kept server makes an error
            return await answer(body, request_id)
        cut = _Cut([stops] if isinstance(stops, str) else stops)
        response = await answer(body, request_id)
        if hasattr(response, "body_iterator"):
            response.body_iterator = _cut_stream(response.body_iterator, cut)
            return response
        said = json.loads(response.body)
        (choice,) = said["choices"]
        place, field = _text_of(choice)
        place[field] = cut.take(place.get(field, "")) + cut.rest()
        if cut.done:
            choice["finish_reason"] = "stop"
        return JSONResponse(said)

    handler.handle_request = answer_cut


class _Cut:
    """One answer up to its first stop string.

    Attributes:
        done: Whether there was one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._longest = stops, max(map(len, stops))
        self._held = ""
        self.done = False

    def take(self, text: str) -> str:
        """Add a piece, and return what of the answer cannot be part of a stop string any more."""
        if self.done:
            return ""
        self._held += text
        starts = ((self._held.find(stop), len(stop)) for stop in self._stops)
        found = [(at + length, at) for at, length in starts if at >= 0]
        self.done = bool(found)
        # The first to be complete, so that nothing hangs on how the text comes in pieces.
        sure = min(found)[1] if found else max(0, len(self._held) - self._longest + 1)
        sent, self._held = self._held[:sure], "" if found else self._held[sure:]
        return sent

    def rest(self) -> str:
        """Return what was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held


async def _cut_stream(pieces: AsyncGenerator[str, None], cut: _Cut) -> AsyncGenerator[str, None]:
    async with aclosing(pieces):  # who goes away ends the sampling
        async for piece in pieces:
            before, error, said = piece.partition(STREAMED_ERROR.decode())
            events = [one for one in before.split("\n\n") if one]  # JSON has no line breaks
            kept = "".join(f"{one}\n\n" for event in events for one in _cut_event(event, cut))
            if kept or error:
                yield kept + error + said


def _cut_event(event: str, cut: _Cut) -> list[str]:
    """The events that stand in place of one of the kept server's."""
    said = json.loads(event.removeprefix("data: "))
    (choice,) = said["choices"]
    place, field = _text_of(choice)
    if choice.get("finish_reason") is None:
        if field not in place:  # the role, or the reasoning
            return [event]
        place[field] = cut.take(place[field])
        return [_event(said)] if place[field] else []
    if cut.done:
        choice["finish_reason"] = "stop"
    last, rest = _event(said), cut.rest()
    if not rest:
        return [last]
    del choice["finish_reason"]
    said.pop("usage", None)
    place[field] = rest
    return [_event(said), last]


def _event(said: dict[str, Any]) -> str:
    return f"data: {json.dumps(said)}"


def _text_of(choice: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Where the text of a choice stands: a completion's, a message's or a piece's of one."""
    if "text" in choice:
        return choice, "text"
    return choice["delta" if "delta" in choice else "message"], "content"
