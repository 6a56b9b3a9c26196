"""What each stage holds in memory: the formulas of `memory`, filled in with its parameters.

Rows are as long as they may become: prompts and demonstrations as long as the data's are in the
median, completions that are sampled as long as their limit. Where the data are not known yet,
prompts are taken to have `PROMPT` tokens.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from flows.planning.costs import Known, uses_critic
from flows.planning.memory import Formulas, MemoryPart, Mode, Scale, peak
from tasks.machine.memory import gpu_memory
from tasks.run.scale import chosen_scale
from tasks.settings import Settings

PROMPT = 64.0
"""Tokens of a prompt where the data are not there to be looked at."""
LOOKED_AT = 16384
"""Tokens of one pass over samples, see `models/evaluation/sampling.py`."""
SCORED = 8192
"""Tokens of one pass over what best-of-n chooses from, see `models/language/scoring.py`."""
BYTES_OF_TOKEN, BYTES_OF_VALUE = 8 + 3 * 4, 2 * 4
"""Of a rollout: its id and three numbers about it; with a critic its value and return as well."""


def memory_of(stage: str, known: Known, scale: Scale = Scale()) -> list[MemoryPart]:
    """What a stage's networks and passes hold; empty where it has none, or their sizes lack."""
    need = NEEDS.get(stage)
    return [] if need is None or known.network is None else need(known, scale)


def stages_with_networks(known: Known) -> list[str]:
    """The stages of a whole run that train or sample, in their order."""
    judged, align = known.get("reward.judge_share") > 0, known.parameters.get("align", "ppo")
    left_out = {
        "pretrain": bool(known.get("base.source")),
        "feedback-samples": known.get("feedback.annotator") != "people",
        "feedback": known.get("feedback.annotator") not in ("simulated", "endpoint"),
        "judge": not judged,
        "ppo": "ppo" not in align,
        "dpo": align != "dpo",
        "best-of-n": "best_of_n" not in align,
    }
    return [stage for stage in NEEDS if not left_out.get(stage)]


def explain_rows(known: Known) -> str:
    """Say how long rows are taken to be."""
    try:
        prompts = f"{known.prompt:.0f} tokens, as in the data"
    except KeyError:
        prompts = f"{PROMPT:.0f} tokens, as the data are not known yet"
    most = known.get("sampling.max_completion_tokens")
    return f"Prompts are taken to have {prompts}; completions that are sampled {most}."


def _row(k: Known) -> float:
    """Tokens of a prompt and a completion of the data."""
    try:
        return k.prompt + k.tokens("completion")
    except KeyError:
        return PROMPT + float(k.get("sampling.max_completion_tokens"))


def _prompt(k: Known) -> float:
    try:
        return k.prompt
    except KeyError:
        return PROMPT


def _formulas(k: Known, scale: Scale, group: str) -> Formulas:
    assert k.network is not None
    return Formulas(model=k.network, mode=Mode.of(k.parameters[group]), scale=scale)


def _frozen(k: Known, scale: Scale) -> Formulas:
    """Of stages that only look: a model as it was published."""
    assert k.network is not None
    return Formulas(model=k.network, scale=replace(scale, half=False))


def _at_once(k: Known, group: str, tokens: float, scale: Scale) -> float:
    """Tokens of one pass, of so many of a step."""
    most = k.parameters[group].get("tokens_per_microbatch") or math.inf
    return min(most, math.ceil(tokens / scale.replicas))


def _pretrain_pass(k: Known, scale: Scale) -> float:
    blocks = float(k.get("pretrain.batch_size") * k.get("pretrain.block_tokens"))
    return _at_once(k, "pretrain", blocks, scale)


def _sft_pass(k: Known, scale: Scale) -> float:
    row = min(_row(k), k.get("sft.max_tokens"))
    return _at_once(k, "sft", k.get("sft.batch_size") * row, scale)


def _reward_pass(k: Known, scale: Scale) -> float:
    row = min(_row(k), k.get("reward.max_tokens"))
    return _at_once(k, "reward", 2 * k.get("reward.batch_size") * row, scale)


def _ppo_pass(k: Known, scale: Scale) -> float:
    row = _prompt(k) + float(k.get("sampling.max_completion_tokens"))
    return _at_once(k, "ppo", k.get("ppo.rollouts_per_minibatch") * row, scale)


PASSES: Mapping[str, Callable[[Known, Scale], float]] = {
    "pretrain": _pretrain_pass,
    "sft": _sft_pass,
    "reward": _reward_pass,
    "ppo": _ppo_pass,
    "dpo": lambda k, scale: _dpo_pass(k, scale),
}
"""Tokens of one pass with a gradient, by the group of parameters."""


def _pretrain(k: Known, scale: Scale) -> list[MemoryPart]:
    f, tokens = _formulas(k, scale, "pretrain"), _pretrain_pass(k, scale)
    return [
        *f.trained("base"),
        f.activations("base", tokens),
        f.whole_logits("base", tokens),
    ]


def _sft(k: Known, scale: Scale) -> list[MemoryPart]:
    f, tokens = _formulas(k, scale, "sft"), _sft_pass(k, scale)
    learned = tokens * (1 - min(0.9, _prompt(k) / _row(k)))
    return [*f.trained("sft"), f.activations("sft", tokens), f.tiled_logits("sft", learned)]


def _reward(k: Known, scale: Scale, role: str) -> list[MemoryPart]:
    f = _formulas(k, scale, "reward")
    return [*f.trained(role), f.activations(role, _reward_pass(k, scale))]


def _ppo(k: Known, scale: Scale) -> list[MemoryPart]:
    f, ppo, tokens = _formulas(k, scale, "ppo"), k.parameters["ppo"], _ppo_pass(k, scale)
    completion, prompt = float(k.get("sampling.max_completion_tokens")), _prompt(k)
    row, share = prompt + completion, completion / (prompt + completion)
    judged = min(float(ppo["tokens_per_microbatch"]), ppo["rollouts_per_iteration"] * row)
    rows = min(k.get("sampling.batch_size"), ppo["rollouts_per_iteration"] / scale.replicas)
    critic = uses_critic(ppo)
    of_token = BYTES_OF_TOKEN + (BYTES_OF_VALUE if critic else 0)
    rollout = int(ppo["rollouts_per_iteration"] * row * of_token)
    return [
        *ppo_roles(f, Mode.of(k.parameters.get("reward", {})), critic=critic),
        f.activations("actor", tokens),
        f.logits("actor", tokens * share),
        *([f.activations("critic", tokens)] if critic else []),
        *f.looked_at("reference", judged, judged * share),
        *f.sampled("actor", rows, prompt, row),
        MemoryPart(role="actor", what="rollout", size=rollout),
        *([f.average("actor")] if ppo.get("ema_decay") else []),
    ]


def ppo_roles(f: Formulas, reward: Mode, *, critic: bool) -> list[MemoryPart]:
    """PPO's networks, without their passes.

    With adapters the reference is the actor's trunk and the critic's is the reward model's; where
    that was trained as an adapter as well, one trunk serves all.

    Args:
        reward: How the reward model was trained.
        critic: Whether there is one.
    """
    same = replace(f, mode=replace(f.mode, rank=reward.rank))
    if not f.mode.rank:
        values = f.trained("critic")
        frozen = [f.weights("reference"), f.weights("reward")]
    elif not reward.rank:
        values, frozen = f.adapter_alone("critic"), [f.weights("reward")]
    else:
        values, frozen = same.adapter_alone("critic"), [same.adapter_alone("reward")[0]]
    return [*f.trained("actor"), *(values if critic else []), *frozen]


def scale_of(settings: Settings) -> Scale:
    """Where stages of this machine run, and in how many processes.

    Raises:
        ParameterError: There are fewer GPUs than processes, or these cannot be grouped as wanted.
    """
    on_gpu = gpu_memory(settings.device) is not None
    chosen = chosen_scale(settings, "cuda" if on_gpu else "cpu")
    alone = Scale(
        gpu=on_gpu,
        half=on_gpu,
        side_by_side=not on_gpu and (settings.threads or os.cpu_count() or 1) > 1,
    )
    return Scale.among(chosen.processes, chosen.sharding, chosen.tensor_parallel, like=alone)


def _sampling(k: Known, scale: Scale, samples: float, *, kl: bool) -> list[MemoryPart]:
    """A policy that completes prompts, and a second model that looks at so many samples.

    Args:
        kl: Whether the KL to a reference is measured: then logits are looked at.
    """
    f, prompt = _frozen(k, scale), _prompt(k)
    longest = float(k.get("sampling.max_completion_tokens"))
    rows, row = float(k.get("sampling.batch_size")), prompt + longest
    tokens = min(LOOKED_AT, samples * row)
    seen = f.looked_at("policy", tokens, tokens * longest / row if kl else 0.0)
    return [
        f.weights("policy"),
        *f.sampled("policy", rows, prompt, row),
        *seen,
        f.weights("reward"),
    ]


def _dpo_pass(k: Known, scale: Scale) -> float:
    row = min(_row(k), k.get("dpo.max_tokens"))
    return _at_once(k, "dpo", 2 * k.get("dpo.batch_size") * row, scale)


def _dpo(k: Known, scale: Scale) -> list[MemoryPart]:
    f, tokens = _formulas(k, scale, "dpo"), _dpo_pass(k, scale)
    learned = tokens * (1 - min(0.9, _prompt(k) / _row(k)))
    return [*f.trained("policy"), f.activations("policy", tokens), f.logits("policy", learned)]


def _best_of_n(k: Known, scale: Scale) -> list[MemoryPart]:
    """It samples first and trains then: the larger of both."""
    row = _prompt(k) + float(k.get("sampling.max_completion_tokens"))
    sampled = _sampling(k, scale, SCORED / row, kl=False)
    return max(sampled, _sft(k, scale), key=lambda parts: peak(parts, scale))


def _evaluation(k: Known, scale: Scale) -> list[MemoryPart]:
    samples = float(k.get("evaluate.prompts") * k.get("evaluate.samples_per_prompt"))
    return _sampling(k, scale, samples, kl=True)


def _quality(k: Known, scale: Scale) -> list[MemoryPart]:
    samples = float(k.get("reward_quality.prompts") * k.get("reward_quality.best_of"))
    return _sampling(k, scale, samples, kl=False)


NEEDS: Mapping[str, Callable[[Known, Scale], list[MemoryPart]]] = {
    "pretrain": _pretrain,
    "sft": _sft,
    "feedback-samples": lambda k, scale: _sampling(k, scale, 0.0, kl=False),
    "feedback": lambda k, scale: _sampling(k, scale, 0.0, kl=False),
    "reward": lambda k, scale: _reward(k, scale, "reward"),
    "judge": lambda k, scale: _reward(k, scale, "judge"),
    "reward-quality": _quality,
    "ppo": _ppo,
    "dpo": _dpo,
    "best-of-n": _best_of_n,
    "evaluate": _evaluation,
}
