"""Proof that what is computed with a model is what the model itself computes, in a few tokens.

Training, sampling and scoring use rows without padding, a cache of their own and the output layer
alone (`models/language/packing.py`, `decoding.py`, `sequences.py`). Not every model of transformers
carries that: some attend in ways that let packed rows see each other. So a model from elsewhere is
compared, when it is adopted, with its own forward pass on each row alone. The first row layout that
agrees is used and kept in its config; a model that agrees in none is refused.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch

from models.errors import ModelError
from models.language.config import SamplingConfig
from models.language.folders import reward_model_on
from models.language.generation import sample_completions
from models.language.packing import LAYOUT, row_layout
from models.language.sequences import Sequences, sequence_scores, token_logprobs

logger = logging.getLogger(__name__)

TYPICAL, WORST = 1e-4, 0.05
"""Most nats per token (of scores, the share) that half of the differences and all of them may have.

Mistakes move most tokens, and by far more. A single token may be off by rounding alone: at an edge
of a real model its own forward pass in float32 is 0.001 away from the one in float64.
"""
HALF_PRECISION = 1000.0
"""How many times as much is rounding where weights are in bfloat16 or float16."""

PROMPTS = (5, 3, 7)
NEW_TOKENS = 3
"""Lengths of the rows; together within the smallest context."""

SLOWER = {
    "packed": "",
    "padded": "padded rows and transformers' own cache",
    "repeated": "padded rows and no cache: each sampled token costs a forward pass over its row",
}
"""Row layouts, fastest first, and what a slower one costs."""


def prove_language_model(model: Any, name: str) -> None:
    """Find the row layout in which logprobs and samples are the model's own, and set it.

    Args:
        model: In evaluation mode; its attention implementation may change.
        name: What a message calls it.

    Raises:
        ModelError: There is none.
    """
    _find_layout(model, name, _difference)


def check_language_model(model: Any, name: str) -> None:
    """Make sure that logprobs and samples in the model's row layout are the model's own.

    Raises:
        ModelError: They are not.
    """
    if trouble := _difference(model):
        raise ModelError(
            f"{name} is a {type(model).__name__} whose {row_layout(model)} rows are not what the "
            f"model itself computes ({trouble}), at most {TYPICAL} nats at half of the tokens and "
            f"{WORST} at any were wanted; take it through adoption, as base.source, which finds a "
            "row layout that is exact"
        )


def prove_reward_head(model: Any, name: str) -> None:
    """Make sure that a score head can be put on the trunk of a causal model, scores and learns.

    Raises:
        ModelError: It cannot.
    """
    remedy = "choose a model such as Llama, Qwen, Gemma, Mistral, Granite or GPT-2"
    try:
        classifier = reward_model_on(model)
        trunk, head = classifier.base_model, classifier.score
        with torch.no_grad():
            head.weight.normal_(generator=torch.Generator(model.device).manual_seed(0))
        trouble = _score_difference(
            classifier, lambda ids: head(trunk(ids, use_cache=False).last_hidden_state[:, -1])
        )
        with torch.enable_grad():
            loss = sequence_scores(classifier, _rows(model)).square().sum()
            weights = [head.weight, model.get_input_embeddings().weight]
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    except Exception as error:
        raise ModelError(
            f"no reward head can be put on {name}, a {type(model).__name__} "
            f"({_named(error)}), a trunk that AutoModel knows was wanted; "
            f"{remedy}"
        ) from error
    if any(one is None or not one.isfinite().all() or not one.any() for one in gradients):
        trouble = trouble or "a gradient is zero, absent or not finite"
    if trouble:
        raise ModelError(
            f"a reward head on {name}, a {type(model).__name__}, would not score and learn as in "
            f"its own forward pass ({trouble}), the same was wanted; {remedy}"
        )


def prove_scores(model: Any, name: str) -> None:
    """Find the row layout in which a reward model's scores are its own, and set it.

    Raises:
        ModelError: There is none.
    """
    _find_layout(
        model,
        name,
        lambda one: _score_difference(one, lambda ids: one(ids, use_cache=False).logits),
    )


def _find_layout(model: Any, name: str, difference: Callable[[Any], str]) -> None:
    """Set the fastest row layout in which nothing is different."""
    own = model.config._attn_implementation
    found: list[str] = []
    for layout, cost in SLOWER.items():
        _set_layout(model, layout, own)
        trouble = difference(model)
        if not trouble:
            if cost:
                logger.warning(
                    "%s (%s): packed rows are not what the model itself computes (%s), so it gets "
                    "%s; exact, but slower", name, type(model).__name__, found[0], cost,
                )  # fmt: skip
            return
        found.append(f"{layout} rows: {trouble}")
    raise ModelError(
        f"{name} is a {type(model).__name__} that Quartet cannot compute as the model itself does "
        f"({'; '.join(dict.fromkeys(found))}), at most {TYPICAL} apart was wanted; choose a model "
        "such as Llama, Qwen, Gemma, Mistral, Granite or GPT-2"
    )


@torch.no_grad()
def _score_difference(model: Any, own: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """How scores in the model's row layout differ from its own; empty where they do not."""
    rows = _rows(model)
    try:
        scores = sequence_scores(model, rows).cpu()
    except Exception as error:  # a library's, at an architecture that it was not made for
        return _named(error)
    wanted = torch.tensor(
        [
            float(own(rows.input_ids[row : row + 1, :length]))
            for row, length in enumerate(rows.lengths.tolist())
        ]
    )
    apart = scores - wanted
    if _is_rounding(model, apart / (1.0 + wanted.abs())):
        return ""
    return f"scores differ by up to {float(apart.abs().max()):.2g}"


def _is_rounding(model: Any, differences: torch.Tensor) -> bool:
    """Whether differences are what floating point leaves open; NaN is not."""
    allowed = 1.0 if model.dtype == torch.float32 else HALF_PRECISION
    sizes = differences.float().abs()
    return bool(sizes.median() <= TYPICAL * allowed and sizes.max() <= WORST * allowed)


def _rows(model: Any) -> Sequences:
    """Some rows of random tokens."""
    prompts = _prompts(model)
    return Sequences.from_lists(
        [row[:1] for row in prompts], [row[1:] for row in prompts], device=model.device
    )


def _prompts(model: Any) -> list[list[int]]:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in PROMPTS]


@torch.no_grad()
def _difference(model: Any) -> str:
    """How logprobs in the model's row layout differ from its own; empty where they do not."""
    try:
        packed, sampled = _differences(model)
    except Exception as error:  # a library's, at an architecture that it was not made for
        return _named(error)
    if _is_rounding(model, packed) and _is_rounding(model, sampled):
        return ""
    return (
        f"logprobs differ by up to {float(packed.abs().max()):.2g}, those of samples by up to "
        f"{float(sampled.abs().max()):.2g} nats per token"
    )


def _differences(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Of logprobs and of sampled logprobs to those of the model's own forward, (tokens,) nats."""
    prompts = _prompts(model)
    first = _sample(model, prompts, new_tokens=1, eos=-1)[0].token_ids[0]
    # The first row then ends at once and leaves the batch.
    sampled = _sample(model, prompts, new_tokens=NEW_TOKENS, eos=first)
    rows = [prompt + one.token_ids for prompt, one in zip(prompts, sampled, strict=True)]
    sequences = Sequences.from_lists(
        [row[:1] for row in rows], [row[1:] for row in rows], device=model.device
    )
    logprobs = token_logprobs(model, sequences).logprobs
    packed, drawn = [], []
    for row, ids, one in zip(logprobs, rows, sampled, strict=True):
        inputs = torch.tensor([ids], device=model.device)
        own = model(inputs, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        own = own.gather(1, inputs[0, 1:, None]).squeeze(1)
        packed.append(row[: len(own)] - own)
        drawn.append(torch.tensor(one.logprobs, device=own.device) - own[-len(one.logprobs) :])
    return torch.cat(packed), torch.cat(drawn)


def _sample(model: Any, prompts: list[list[int]], *, new_tokens: int, eos: int) -> list[Any]:
    return sample_completions(
        model,
        prompts,
        sampling=SamplingConfig(max_completion_tokens=new_tokens),
        eos_token_id=eos,
        generator=torch.Generator().manual_seed(0),
    )


def _set_layout(model: Any, layout: str, own_attention: str) -> None:
    if layout != "packed":
        setattr(model.config, LAYOUT, layout)
        model.set_attn_implementation(own_attention)
    elif hasattr(model.config, LAYOUT):
        delattr(model.config, LAYOUT)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
