"""Refuse parameters that this machine's memory cannot hold, before anything starts.

What is counted is the least that a stage needs, by the formulas of `memory`, with rows of
`SHORTEST` tokens and nothing kept by malloc. The real need is higher, so what is refused here is
sure to fail; the other way round nothing is promised. Only stages that run are counted. Of an
existing model that is no folder the sizes are not known yet: then only rows and rollouts are.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from flows.parameters import PipelineParameters
from flows.planning.costs import Known
from flows.planning.memory import FLOAT, Formulas, Mode, Scale, least
from flows.planning.needs import ppo_roles, scale_of, stages_with_networks
from flows.planning.sizes import NetworkSizes, sizes_in
from models.errors import ParameterError
from tasks.machine.memory import gpu_memory, main_memory
from tasks.settings import Settings

_GIB = 2**30
_SHORTEST = 16
"""Tokens of a training row, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What is to be held at one time, in bytes, and the parameters that lower it."""

    what: str
    size: int
    lower: str
    on_device: bool = True


def memory_here(settings: Settings) -> int:
    """The bytes that each process of a stage may take: of its GPU, else its part of the RAM."""
    gpu = gpu_memory(settings.device)
    return main_memory() // max(1, settings.processes) if gpu is None else gpu


def stages_of_pipeline(p: PipelineParameters) -> set[str]:
    """The stages of a whole run that take memory."""
    return {"prepare", *stages_with_networks(Known(parameters=p.model_dump(mode="json")))}


def check_memory(
    parameters: PipelineParameters, settings: Settings, stages: Collection[str] | None = None
) -> None:
    """Refuse parameters that need more memory than there is.

    Args:
        stages: Names of those that run; None for the whole pipeline's.

    Raises:
        ParameterError: With what is needed, what there is, and what to lower.
    """
    main = main_memory()
    gpu = gpu_memory(settings.device)
    stages = stages_of_pipeline(parameters) if stages is None else stages
    for need in _needs(parameters, scale_of(settings), stages):
        on_gpu = need.on_device and gpu is not None
        there = memory_here(settings) if need.on_device else main
        if need.size > there:
            raise ParameterError(
                f"not enough memory for {need.what}: wanted at least {need.size / _GIB:,.1f} GiB, "
                f"got {there / _GIB:,.1f} GiB {'on the GPU' if on_gpu else 'on this machine'}; "
                f"lower {need.lower}"
            )


def _needs(p: PipelineParameters, scale: Scale, stages: Collection[str]) -> Iterator[_Need]:
    scale = replace(scale, gpu=True)  # what malloc keeps is not sure to be kept
    if "prepare" in stages:
        yield from _world(p)
    if "feedback" in stages or "feedback-samples" in stages:
        yield from _feedback(p)
    if "ppo" in stages:
        yield _rollouts(p)
    scratch = "pretrain" in stages and not p.base.source
    model = sizes_in(p.base.source) if p.base.source else None
    if scratch:
        model = NetworkSizes.from_scratch(p.model, p.tokenizer.vocab_size)
    if model is not None and "ppo" in stages:
        yield from _ppo(p, model, scale)
    if model is not None:
        yield from _fine_tuning(p, model, scale, stages)
    if scratch:
        yield from _pretraining(p, scale)


def _world(p: PipelineParameters) -> Iterator[_Need]:
    world = p.data.world
    if p.data.source == "world":
        pairs = world.preferences + world.heldout_preferences + 2 * world.contrasts
        yield _Need(
            what="the generated world",
            size=500 * world.documents + 800 * world.demonstrations + 1200 * pairs,
            lower="data.world.documents, data.world.demonstrations or data.world.preferences",
            on_device=False,
        )


def _feedback(p: PipelineParameters) -> Iterator[_Need]:
    feedback = p.feedback
    if feedback.annotator == "people":
        pairs = feedback.prompts * feedback.completions * (feedback.completions - 1) // 2
        yield _Need(
            what=f"feedback of up to {pairs:,} pairs of people",
            size=1200 * pairs,
            lower="feedback.prompts or feedback.completions",
            on_device=False,
        )
    elif feedback.annotator != "none":
        yield _Need(
            what=f"feedback of {feedback.preferences:,} pairs",
            size=1200 * feedback.preferences,
            lower="feedback.preferences",
            on_device=False,
        )


def _rollouts(p: PipelineParameters) -> _Need:
    rollouts, tokens = p.ppo.rollouts_per_iteration, p.sampling.max_completion_tokens
    return _Need(
        what=f"an iteration of {rollouts:,} rollouts of up to {tokens:,} tokens",
        size=rollouts * tokens * (6 if p.ppo.uses_critic else 5) * FLOAT,  # ids, logprobs, values
        lower="ppo.rollouts_per_iteration or sampling.max_completion_tokens",
    )


def _pretraining(p: PipelineParameters, scale: Scale) -> Iterator[_Need]:
    model = NetworkSizes.from_scratch(p.model, p.tokenizer.vocab_size)
    f = Formulas(model=model, mode=Mode.of(p.pretrain.model_dump()), scale=scale)
    yield _Need(
        what=f"the order of {p.pretrain.steps * p.pretrain.batch_size:,} pretraining blocks",
        size=48 * p.pretrain.steps * p.pretrain.batch_size,
        lower="pretrain.steps or pretrain.batch_size",
        on_device=False,
    )
    blocks = p.pretrain.batch_size * p.pretrain.block_tokens // scale.replicas
    tokens = min(p.pretrain.tokens_per_microbatch, blocks)
    logits = f.logits("base", tokens, kept=True)
    parts = [*f.trained("base"), f.activations("base", tokens), logits]
    yield _Need(
        what=f"pretraining of {tokens:,} tokens at once",
        size=least(parts),
        lower="pretrain.tokens_per_microbatch, pretrain.block_tokens or the model",
    )


def _fine_tuning(
    p: PipelineParameters, model: NetworkSizes, scale: Scale, stages: Collection[str]
) -> Iterator[_Need]:
    for stage, name, group, tokens in (
        ("sft", "SFT", p.sft, p.sft.batch_size * _SHORTEST),
        ("reward", "reward model training", p.reward, p.reward.batch_size * 2 * _SHORTEST),
    ):
        if stage in stages:
            f = Formulas(model=model, mode=Mode.of(group.model_dump()), scale=scale)
            tokens = min(group.tokens_per_microbatch, tokens // scale.replicas)
            yield _Need(
                what=f"{name} of {tokens:,} tokens at once",
                size=least([*f.trained("model"), f.activations("model", tokens)]),
                lower=f"{stage}.tokens_per_microbatch or the model",
            )


def _ppo(p: PipelineParameters, model: NetworkSizes, scale: Scale) -> Iterator[_Need]:
    ppo = Formulas(model=model, mode=Mode.of(p.ppo.model_dump()), scale=scale)
    roles = ppo_roles(ppo, Mode.of(p.reward.model_dump()), critic=p.ppo.uses_critic)
    smaller = "model.layers, model.width or tokenizer.vocab_size" if not p.base.source else ""
    yield _Need(
        what=f"PPO's {'four' if p.ppo.uses_critic else 'three'} networks",
        size=least(roles),
        lower=smaller or "the model's size, or set ppo.lora.rank=16",
    )
    rows = min(p.sampling.batch_size, p.ppo.rollouts_per_iteration // scale.replicas)
    tokens = p.sampling.max_completion_tokens
    yield _Need(
        what=f"sampling {rows:,} completions of up to {tokens:,} tokens",
        size=least(ppo.sampled("actor", rows, 1, tokens)),
        lower="sampling.batch_size or sampling.max_completion_tokens",
    )
    shortest = p.ppo.rollouts_per_minibatch * p.sampling.min_completion_tokens
    part = min(p.ppo.tokens_per_microbatch, shortest) // scale.replicas
    yield _Need(
        what=f"a microbatch of PPO of {part:,} tokens at once",
        size=least([*roles, ppo.activations("actor", part), ppo.logits("actor", part)]),
        lower="ppo.tokens_per_microbatch or the model",
    )
