"""Sampling completions: one engine for feedback, score moments, PPO rollouts and evaluation.

Prompts are prefilled as one packed row, then decoded with a preallocated key-value cache
(`models/language/decoding.py`); rows that have ended leave the batch. Every row owns its stream of
uniform numbers and a token is drawn by inverting the cumulative distribution, so a row's completion
depends neither on its neighbours nor on the batch size, and two models sampled with equal
generators use the same random numbers: paired comparisons become sharper. The same softmax yields
the token's logprob.

In a team each member samples some of the rows, and all get every completion.

Nothing but `TokenDistribution` shapes what is drawn. Top-p, top-k and repetition penalties would
make the logprobs of another distribution than the one PPO learns about.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.distributed.parts import gathered
from models.distributed.team import current_team
from models.errors import ParameterError
from models.families.language_heads import language_head
from models.language.config import SamplingConfig
from models.language.decoding import decode, ready_weights
from models.language.folders import load_causal_model, load_frozen, load_tokenizer
from models.language.sequences import TokenDistribution
from models.language.tokenizer import NO_LIMIT, Messages, decode_completion, encode_prompts
from models.progress import Meter
from models.randomness import derive_seed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled completion.

    Attributes:
        token_ids: At least one token; the last is EOS exactly if `finished`.
        logprobs: Natural log of each token's probability when it was drawn.
        finished: Whether the model ended the completion itself.
    """

    token_ids: list[int]
    logprobs: list[float]
    finished: bool


@torch.no_grad()
def sample_completions(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: SamplingConfig,
    eos_token_id: int,
    generator: torch.Generator,
) -> list[Completion]:
    """Sample one completion for each prompt, in the prompts' order.

    Rows are dealt to the members of a team in the order of their lengths, so that each has like
    work.

    Args:
        prompts: Token ids, none empty; repeat a prompt to sample it more than once.
        generator: A CPU generator; drawn from once, by prompts x longest completion.

    Raises:
        ParameterError: A prompt is empty, or leaves no room for the longest completion.
    """
    _check_room(model, prompts, sampling)
    was_training = model.training
    model.eval()
    uniforms = torch.rand(
        len(prompts), sampling.max_completion_tokens, generator=generator, dtype=torch.float64
    )
    distribution = TokenDistribution.of(sampling, eos_token_id)
    by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    team = current_team()
    mine = list(team.share(by_length))
    completions: list[Completion] = []
    meter = Meter("sampling", len(mine), "completions")
    with gathered(model) as network, ready_weights(network):
        for start in range(0, len(mine), sampling.batch_size):
            rows = mine[start : start + sampling.batch_size]
            batch = _Batch(len(rows), uniforms[rows].to(model.device), distribution)
            _decode(network, [prompts[row] for row in rows], batch, meter)
            completions += batch.completions()
    model.train(was_training)
    of_row = dict(zip(by_length, team.join(completions), strict=True))
    return [of_row[row] for row in range(len(prompts))]


def _check_room(model: Any, prompts: Sequence[Sequence[int]], sampling: SamplingConfig) -> None:
    context: int = model.config.max_position_embeddings
    longest = max((len(prompt) for prompt in prompts), default=0)
    if any(len(prompt) == 0 for prompt in prompts):
        raise ParameterError(
            "a prompt has no tokens; every prompt needs at least one, "
            "drop empty prompts before sampling"
        )
    if longest + sampling.max_completion_tokens > context:
        raise ParameterError(
            f"a prompt of {longest} tokens and max_completion_tokens "
            f"{sampling.max_completion_tokens} exceed the model's context of {context}; truncate "
            "prompts to the rest of the context or lower sampling.max_completion_tokens"
        )


class _Batch:
    """The completions of one batch while they grow; `alive` are the rows that have not ended."""

    def __init__(self, rows: int, uniforms: torch.Tensor, distribution: TokenDistribution) -> None:
        self._uniforms = uniforms  # (rows, longest completion) in [0, 1)
        self._distribution = distribution
        self._tokens = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
        self._logprobs = torch.zeros(uniforms.shape, device=uniforms.device)
        self._lengths = torch.zeros(rows, dtype=torch.int64, device=uniforms.device)
        self._running = torch.ones(rows, dtype=torch.bool, device=uniforms.device)
        self.alive = torch.arange(rows, device=uniforms.device)
        self.longest = uniforms.shape[1]

    def draw(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Draw token number `step` of each row alive: (alive, vocab) logits -> (alive,) tokens.

        What is drawn behind a row's EOS, before anyone looks, counts for nothing.
        """
        steps = torch.full((len(logits),), step, device=logits.device)
        log_softmax = self._distribution.log_softmax(logits, steps)
        cumulative = log_softmax.exp().cumsum(-1, dtype=torch.float64)
        targets = self._uniforms[self.alive, step] * cumulative[:, -1]
        drawn = torch.searchsorted(cumulative, targets[:, None], right=True)
        drawn = drawn.clamp_(max=logits.shape[-1] - 1)
        self._tokens[self.alive, step] = drawn[:, 0]
        self._logprobs[self.alive, step] = log_softmax.gather(1, drawn)[:, 0]
        running = self._running[self.alive]
        self._lengths[self.alive] += running
        self._running[self.alive] = running & (drawn[:, 0] != self._distribution.eos_token_id)
        return drawn[:, 0]

    def running(self) -> torch.Tensor:
        """Which of the rows alive have not drawn EOS, (alive,) bool."""
        return self._running[self.alive]

    def completions(self) -> list[Completion]:
        """What was drawn, row by row."""
        rows = zip(
            self._tokens.tolist(), self._logprobs.tolist(), self._lengths.tolist(), strict=True
        )
        return [
            Completion(
                token_ids=tokens[:length],
                logprobs=logprobs[:length],
                finished=tokens[length - 1] == self._distribution.eos_token_id,
            )
            for tokens, logprobs, length in rows
        ]


def _decode(model: Any, prompts: Sequence[Sequence[int]], batch: _Batch, meter: Meter) -> None:
    """Prefill the prompts and draw tokens until every row has ended or is full."""
    rows = decode(model, prompts, new_tokens=batch.longest)
    head = language_head(model)
    between = steps_between_looks(rows.hidden.device.type)
    for step in range(batch.longest):
        drawn = batch.draw(head(rows.hidden), step)
        last = step == batch.longest - 1
        if (step + 1) % between == 0 or last:
            alive = batch.running()
            left = 0 if last else int(alive.sum())
            meter.add(len(alive) - left)
            if not left:
                return
            if left < len(alive):
                order = rows.keep(alive)
                batch.alive, drawn = batch.alive[order], drawn[order]
        rows.append(drawn)


def steps_between_looks(device: str) -> int:
    """After how many tokens the sampler asks which rows have ended.

    It has to wait for a GPU to hear it, while rows that have ended cost it next to nothing.
    """
    return 1 if device == "cpu" else 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledText:
    """A completion as text, and whether the model ended it itself."""

    text: str
    finished: bool


def encode_to_fit(
    tokenizer: Any, model: Any, prompts: Sequence[str | Messages], sampling: SamplingConfig
) -> list[list[int]]:
    """Encode prompts so that the longest completion still fits the model's context.

    Prompts that are too long lose their beginning, and a warning says how many.

    Raises:
        ParameterError: The longest completion leaves no room for any prompt.
    """
    room = room_for_prompts(model, sampling)
    encoded, whole = fit_prompts(tokenizer, prompts, room)
    warn_of_cut_prompts(whole, room, model)
    return encoded


def room_for_prompts(model: Any, sampling: SamplingConfig) -> int:
    """Most tokens of a prompt that leave room for the longest completion.

    Raises:
        ParameterError: There is no room for any prompt.
    """
    context: int = model.config.max_position_embeddings
    room = context - sampling.max_completion_tokens
    if room < 1:
        raise ParameterError(
            f"sampling.max_completion_tokens {sampling.max_completion_tokens} leaves no room for a "
            f"prompt in the model's context of {context}; choose at most {context - 1}"
        )
    return room


def fit_prompts(
    tokenizer: Any, prompts: Sequence[str | Messages], room: int
) -> tuple[list[list[int]], list[int]]:
    """Encode prompts; those that are too long lose their beginning.

    Returns:
        Their ids, and how many tokens each has as a whole.
    """
    encoded = encode_prompts(tokenizer, prompts, NO_LIMIT)
    whole = [len(ids) for ids in encoded]
    too_long = [index for index, length in enumerate(whole) if length > room]
    cut = encode_prompts(tokenizer, [prompts[index] for index in too_long], room)
    for index, ids in zip(too_long, cut, strict=True):
        encoded[index] = ids
    return encoded, whole


def warn_of_cut_prompts(whole: Sequence[int], room: int, model: Any) -> None:
    """Say how many prompts have lost their beginning.

    Args:
        whole: How many tokens each had.
    """
    too_long = sum(length > room for length in whole)
    if too_long:
        logger.warning(
            "%d of %d prompts are too long: got up to %d tokens, wanted at most the %d that the "
            "context of %d leaves beside sampling.max_completion_tokens; they lose their "
            "beginning. Raise model.context, or drop them with data.max_prompt_characters",
            too_long, len(whole), max(whole), room, model.config.max_position_embeddings,
        )  # fmt: skip


def complete(
    *,
    model: Path,
    prompts: Sequence[str | Messages],
    sampling: SamplingConfig,
    seed: int,
    device: str,
) -> list[SampledText]:
    """Sample one completion, as text, for each prompt."""
    tokenizer = load_tokenizer(model)
    network = load_frozen(load_causal_model, model, device)
    encoded = encode_to_fit(tokenizer, network, prompts, sampling)
    completions = sample_completions(
        network,
        encoded,
        sampling=sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(derive_seed(seed, "policies.sampling")),
    )
    return [
        SampledText(
            text=decode_completion(tokenizer, completion.token_ids, prompt),
            finished=completion.finished,
        )
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
