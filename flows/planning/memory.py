"""Refuse parameters that this machine's memory cannot hold, before anything starts.

What is counted is the least that a run needs: weights with their gradients and Adam's moments, a
batch's logits and activations, cached keys and values, rows. The real need is higher, so what is
refused here is sure to fail; the other way round nothing is promised. Of an existing base model
the sizes are not known yet: then only rows and rollouts are counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from flows.parameters import PipelineParameters
from models.errors import ParameterError
from tasks.machine.memory import gpu_memory, main_memory
from tasks.settings import Settings

_GIB = 2**30
_FLOAT = 4
_TRAINED = 16
"""Bytes of a trained weight: itself, its gradient, two moments of Adam."""
_ACTIVATIONS = 10
"""Values that each layer keeps for the backward pass, in units of the width."""
_SHORTEST = 16
"""Tokens of a training row, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What is to be held at one time, in bytes, and the parameters that lower it."""

    what: str
    size: int
    lower: str
    on_device: bool = True


def check_memory(parameters: PipelineParameters, settings: Settings) -> None:
    """Refuse parameters that need more memory than there is.

    Raises:
        ParameterError: With what is needed, what there is, and what to lower.
    """
    main = main_memory()
    gpu = gpu_memory(settings.device)
    for need in _needs(parameters):
        on_gpu = need.on_device and gpu is not None
        there = gpu if gpu is not None and need.on_device else main
        if need.size > there:
            raise ParameterError(
                f"not enough memory for {need.what}: wanted at least {need.size / _GIB:,.1f} GiB, "
                f"got {there / _GIB:,.1f} GiB {'on the GPU' if on_gpu else 'on this machine'}; "
                f"lower {need.lower}"
            )


def _needs(p: PipelineParameters) -> Iterator[_Need]:
    yield from _rows(p)
    if not p.base.source:
        yield from _networks(p)


def _rows(p: PipelineParameters) -> Iterator[_Need]:
    world = p.data.world
    if p.data.source == "world":
        pairs = world.preferences + world.heldout_preferences + 2 * world.contrasts
        yield _Need(
            what="the generated world",
            size=500 * world.documents + 800 * world.demonstrations + 1200 * pairs,
            lower="data.world.documents, data.world.demonstrations or data.world.preferences",
            on_device=False,
        )
    if p.feedback.annotator != "none":
        yield _Need(
            what=f"feedback of {p.feedback.preferences:,} pairs",
            size=1200 * p.feedback.preferences,
            lower="feedback.preferences",
            on_device=False,
        )
    rollouts, tokens = p.ppo.rollouts_per_iteration, p.sampling.max_completion_tokens
    yield _Need(
        what=f"an iteration of {rollouts:,} rollouts of up to {tokens:,} tokens",
        size=rollouts * tokens * 6 * _FLOAT,  # ids (8 bytes), three logprobs, values
        lower="ppo.rollouts_per_iteration or sampling.max_completion_tokens",
    )


def _networks(p: PipelineParameters) -> Iterator[_Need]:
    model = NetworkSizes.of(p)
    sizes = "model.layers, model.width or tokenizer.vocab_size"

    def trained(what: str, tokens: int, lower: str, *, has_logits: bool = True) -> _Need:
        size = model.held(trained=True) + model.one_pass(tokens, has_logits=has_logits)
        return _Need(what=f"{what} of {tokens:,} tokens at once", size=size, lower=lower)

    networks = sum(part.size for part in ppo_networks(model, lora=p.ppo.lora is not None))
    yield _Need(what="PPO's four networks", size=networks, lower=sizes)
    yield _Need(
        what=f"the order of {p.pretrain.steps * p.pretrain.batch_size:,} pretraining blocks",
        size=40 * p.pretrain.steps * p.pretrain.batch_size,
        lower="pretrain.steps or pretrain.batch_size",
        on_device=False,
    )
    blocks = p.pretrain.batch_size * p.pretrain.block_tokens
    yield trained("pretraining", blocks, "pretrain.batch_size, pretrain.block_tokens or the model")
    yield trained("SFT", p.sft.batch_size * _SHORTEST, "sft.batch_size or the model")
    pairs = p.reward.batch_size * 2 * _SHORTEST
    yield trained("reward model training", pairs, "reward.batch_size", has_logits=False)
    rows = min(p.sampling.batch_size, p.ppo.rollouts_per_iteration)
    tokens = p.sampling.max_completion_tokens
    yield _Need(
        what=f"sampling {rows:,} completions of up to {tokens:,} tokens",
        size=model.cache(rows, tokens),
        lower="sampling.batch_size or sampling.max_completion_tokens",
    )
    part = min(p.ppo.tokens_per_microbatch, p.ppo.rollouts_per_minibatch * tokens)
    yield trained("a microbatch of PPO", part, "ppo.tokens_per_microbatch or the model")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSizes:
    """A language model's sizes, and the bytes that follow from them."""

    layers: int
    width: int
    vocabulary: int

    @classmethod
    def of(cls, p: PipelineParameters) -> "NetworkSizes":
        """Of the model that is pretrained from scratch."""
        return cls(layers=p.model.layers, width=p.model.width, vocabulary=p.tokenizer.vocab_size)

    @property
    def weights(self) -> int:
        """How many there are; embeddings and output layer are one table."""
        return self.vocabulary * self.width + self.layers * 12 * self.width**2

    def held(self, *, trained: bool) -> int:
        """Bytes of weights, with gradients and Adam's moments if they are trained."""
        return self.weights * (_TRAINED if trained else _FLOAT)

    def one_pass(self, tokens: int, *, has_logits: bool = True) -> int:
        """Bytes that a forward and backward pass keeps: activations, and logits."""
        of_token = self.layers * self.width * _ACTIVATIONS * _FLOAT
        return tokens * (of_token + (self.vocabulary * _FLOAT if has_logits else 0))

    def cache(self, rows: int, tokens: int) -> int:
        """Bytes of sampling: cached keys and values, and the logits of one step."""
        of_row = tokens * 2 * self.layers * self.width * _FLOAT
        return rows * (of_row + self.vocabulary * _FLOAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPart:
    """What one network, or a pass through it, holds."""

    role: str
    what: str
    size: int


def ppo_networks(model: NetworkSizes, *, lora: bool) -> list[MemoryPart]:
    """What PPO's networks hold; with adapters the actor without them is the reference."""
    parts = trained_network("actor", model) if not lora else [_weights("actor", model)]
    parts += trained_network("critic", model)
    return parts + [_weights(role, model) for role in (*(() if lora else ("reference",)), "reward")]


def trained_network(role: str, model: NetworkSizes) -> list[MemoryPart]:
    """Weights, gradients and Adam's two moments."""
    one = model.held(trained=False)
    return [
        _weights(role, model),
        MemoryPart(role=role, what="gradients", size=one),
        MemoryPart(role=role, what="Adam", size=2 * one),
    ]


def _weights(role: str, model: NetworkSizes) -> MemoryPart:
    return MemoryPart(role=role, what="weights", size=model.held(trained=False))
