"""A conversation with a model, its completions streamed piece by piece.

The tokenizer's chat template makes the prompt; a model without one continues each text as it
stands, and remembers nothing. Sampling is that of training: temperature alone, no top-k and no
top-p, so that what is read is the policy itself. What differs from `models/language/generation.py`
is that tokens arrive while they are drawn, through transformers' own `generate` and its streamer.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import torch
from transformers import (
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from models.errors import ParameterError
from models.language.folders import load_causal_model, load_frozen, load_tokenizer
from models.language.reading import refuse_short_embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How completions are drawn.

    Attributes:
        temperature: 0 = greedy decoding.
        seed: The same seed and the same prompts give the same completions.
    """

    temperature: float = 0.7
    max_tokens: int = 256
    seed: int = 0
    system: str = ""

    def __post_init__(self) -> None:
        if self.temperature < 0.0 or self.max_tokens < 1:
            raise ParameterError(
                f"temperature {self.temperature} and max_tokens {self.max_tokens}: wanted a "
                "temperature of at least 0 and at least one token; change them"
            )


class _StopOnRequest(StoppingCriteria):  # type: ignore[misc]
    """Ends a completion when somebody asks for it."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        done = self.event.is_set()
        return torch.full((input_ids.shape[0],), done, dtype=torch.bool, device=input_ids.device)


class Chat:
    """One conversation with one model."""

    def __init__(self, folder: Path, options: ChatOptions, *, device: str = "cpu") -> None:
        """Load a model folder.

        Raises:
            ModelError: The folder is incomplete, damaged, or holds another kind of model.
        """
        self.tokenizer = load_tokenizer(folder, wants_pad=False)
        self.model = load_frozen(load_causal_model, folder, device)
        refuse_short_embeddings(folder, self.tokenizer, self.model)
        self._forget_own_sampling()
        self.options = options
        self.context = context_tokens(self.model)
        self.notice = ""
        self._turns: list[dict[str, str]] = []
        self._count = 0

    @property
    def has_template(self) -> bool:
        """Whether it is a conversation; else each text is merely continued."""
        return bool(self.tokenizer.chat_template)

    @property
    def turns(self) -> list[dict[str, str]]:
        """The messages that the model still remembers, without the system's."""
        return list(self._turns)

    def reset(self) -> None:
        """Forget the conversation and restart its random numbers."""
        self._turns, self._count = [], 0

    def reply(self, text: str) -> Iterator[str]:
        """Stream the completion of a prompt; whoever closes the iterator stops the model.

        The text up to then is remembered. `notice` says how many old messages had to be
        forgotten for the prompt to fit.

        Raises:
            ParameterError: The prompt alone does not fit the model's context, or the chat template
            refuses the conversation.
        """
        before = list(self._turns)
        if self.has_template:
            self._turns.append({"role": "user", "content": text})
        try:
            ids = self._fit(text)
        except ParameterError:
            self._turns = before  # the turns that gave way for it too
            raise
        pieces: list[str] = []
        try:
            for piece in self._stream(ids):
                pieces.append(piece)
                yield piece
        finally:
            self._count += 1
            if self.has_template:
                self._turns.append({"role": "assistant", "content": "".join(pieces)})

    def _fit(self, text: str) -> list[int]:
        """Token ids of the prompt, with the oldest turns dropped until a completion fits too."""
        wanted = min(self.options.max_tokens, self.context // 2)
        dropped = 0
        ids = self._encode(text)
        while len(ids) + wanted > self.context and len(self._turns) > 1:
            dropped += 2
            self._turns = self._turns[2:]
            ids = self._encode(text)
        self.notice = f"{dropped} old messages no longer fit and were forgotten" if dropped else ""
        if len(ids) >= self.context:
            raise ParameterError(
                f"the prompt has {len(ids)} tokens and the model's context {self.context}; "
                "shorten it"
            )
        return ids

    def _encode(self, text: str) -> list[int]:
        if not self.has_template:
            return list(self.tokenizer(text)["input_ids"]) or [self.tokenizer.eos_token_id]
        system = [{"role": "system", "content": self.options.system}] if self.options.system else []
        try:
            encoded = self.tokenizer.apply_chat_template(
                [*system, *self._turns], add_generation_prompt=True, tokenize=True, return_dict=True
            )
        except (jinja2.TemplateError, ValueError) as error:
            raise ParameterError(
                f"the chat template refuses the conversation ({error}); leave out the system "
                "prompt, or /reset"
            ) from error
        return list(encoded["input_ids"])

    def _stream(self, ids: list[int]) -> Iterator[str]:
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stop = _StopOnRequest()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._generate(ids, streamer, stop)
            except BaseException as error:
                failures.append(error)
                streamer.end()  # else the reader would wait for ever

        worker = threading.Thread(target=work, name="chat-generate", daemon=True)
        worker.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            stop.event.set()
            worker.join()
        if failures:
            raise failures[0]

    @torch.no_grad()
    def _generate(self, ids: list[int], streamer: Any, stop: _StopOnRequest) -> None:
        input_ids = torch.tensor([ids], device=self.model.device)  # (1, prompt)
        # `generate` draws from torch's global generator alone, so that one is seeded, and put back.
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.options.seed + self._count)
            self.model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                generation_config=self._config(self.context - len(ids)),
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([stop]),
                trust_remote_code=False,
            )

    def _forget_own_sampling(self) -> None:
        """Keep nothing of the model's own generation config but its EOS.

        `generate` takes from there whatever it was not told, such as a repetition penalty.
        """
        own = self.model.generation_config.eos_token_id
        self.model.generation_config = GenerationConfig(
            eos_token_id=self.tokenizer.eos_token_id if own is None else own,
            pad_token_id=self.tokenizer.pad_token_id or 0,  # of one row nothing is padded
        )

    def _config(self, room: int) -> GenerationConfig:
        drawing: dict[str, Any] = {"do_sample": self.options.temperature > 0.0}
        if drawing["do_sample"]:
            drawing |= {"temperature": self.options.temperature, "top_k": 0, "top_p": 1.0}
        return GenerationConfig(max_new_tokens=min(self.options.max_tokens, room), **drawing)


def context_tokens(model: Any) -> int:
    """How many tokens a model was made for; 2048 where its config does not say."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 2048)
