"""Policies at work: completions of a model for prompts, and what the other models say of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.errors import ModelError, ParameterError
from models.evaluation.samples import PolicySamples
from models.language.config import SamplingConfig
from models.language.distribution import TokenDistribution
from models.language.folders import load_causal_model, load_reward_model, load_tokenizer
from models.language.generation import Completion, sample_completions
from models.language.scoring import SequenceScorer
from models.language.sequences import Sequences, map_chunks, token_logprobs
from models.language.tokenizer import Messages, decode_completion, encode_prompts
from models.randomness import derive_seed

logger = logging.getLogger(__name__)

NO_LIMIT = 2**31 - 1

CHUNK_TOKENS = 16384
"""Tokens that a frozen model is given at once."""


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
    context: int = model.config.max_position_embeddings
    room = context - sampling.max_completion_tokens
    if room < 1:
        raise ParameterError(
            f"sampling.max_completion_tokens {sampling.max_completion_tokens} leaves no room for a "
            f"prompt in the model's context of {context}; choose at most {context - 1}"
        )
    whole = encode_prompts(tokenizer, prompts, NO_LIMIT)
    too_long = [index for index, ids in enumerate(whole) if len(ids) > room]
    if too_long:
        logger.warning(
            "%d of %d prompts are too long: got up to %d tokens, wanted at most the %d that the "
            "context of %d leaves beside sampling.max_completion_tokens; they lose their "
            "beginning. Raise model.context, or drop them with data.max_prompt_characters",
            len(too_long), len(whole), max(len(whole[index]) for index in too_long), room, context,
        )  # fmt: skip
        cut = encode_prompts(tokenizer, [prompts[index] for index in too_long], room)
        for index, ids in zip(too_long, cut, strict=True):
            whole[index] = ids
    return whole


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
    network = load_causal_model(model).to(device)
    encoded = encode_to_fit(tokenizer, network, prompts, sampling)
    completions = _sample(network, tokenizer, encoded, sampling, seed)
    return [
        SampledText(
            text=decode_completion(tokenizer, completion.token_ids), finished=completion.finished
        )
        for completion in completions
    ]


def measure_policies(
    *,
    sft: Path,
    ppo: Path,
    reward: Path,
    prompts: Sequence[str | Messages],
    samples_per_prompt: int,
    sampling: SamplingConfig,
    seed: int,
    device: str,
    judge: Path | None = None,
) -> tuple[PolicySamples, PolicySamples]:
    """Sample SFT model and PPO policy with equal seeds and score both; SFT is the reference.

    Args:
        sft: Model folder.
        ppo: Model folder of the trained actor.
        reward: Model folder of the reward model.
        prompts: Held-out prompts.
        samples_per_prompt: Completions of each model for each prompt.
        sampling: Temperature and longest completion.
        seed: Of the draws, the same for both models.
        device: Where to run.
        judge: Model folder of the held-out reward model, where there is one.

    Returns:
        Samples of the SFT model and of the PPO policy.

    Raises:
        ModelError: A reward model has another tokenizer.
        ParameterError: The longest completion leaves no room for any prompt.
    """
    tokenizer = load_tokenizer(sft)
    reference = load_causal_model(sft).to(device).eval()
    actor = load_causal_model(ppo).to(device).eval()
    refuse_other_tokenizer(reward, "reward model", tokenizer, "SFT model")
    scorers = {"score": SequenceScorer(load_reward_model(reward).to(device), CHUNK_TOKENS)}
    if judge is not None:
        refuse_other_tokenizer(judge, "judge", tokenizer, "SFT model")
        scorers["judge_score"] = SequenceScorer(load_reward_model(judge).to(device), CHUNK_TOKENS)
    encoded = encode_to_fit(tokenizer, reference, prompts, sampling)
    repeated = [ids for ids in encoded for _ in range(samples_per_prompt)]

    def measure(policy: Any) -> PolicySamples:
        completions = _sample(policy, tokenizer, repeated, sampling, seed)
        return _measure(
            policy, reference, scorers, tokenizer, repeated, completions,
            samples_per_prompt, TokenDistribution.of(sampling, tokenizer.eos_token_id),
        )  # fmt: skip

    return measure(reference), measure(actor)


def refuse_other_tokenizer(folder: Path, who: str, tokenizer: Any, whose: str) -> None:
    """Make sure that a reward model reads token ids as the texts that they were made from.

    Args:
        folder: Of the reward model.
        who: What a message calls it, such as "judge".
        tokenizer: Of the model that the token ids come from.
        whose: What a message calls that one.

    Raises:
        ModelError: It has another vocabulary.
    """
    other = load_tokenizer(folder)
    if tokenizer.get_vocab() != other.get_vocab():
        raise ModelError(
            f"the {who} {folder} has another tokenizer (of {len(other)} tokens) than the {whose} "
            f"(of {len(tokenizer)}); wanted the same, as both read the same token ids: train "
            "reward model and judge from this run's SFT model"
        )


def _sample(
    network: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    sampling: SamplingConfig,
    seed: int,
) -> list[Completion]:
    return sample_completions(
        network,
        prompts,
        sampling=sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(derive_seed(seed, "policies.sampling")),
    )


def _measure(
    policy: Any,
    reference: Any,
    scorers: Mapping[str, SequenceScorer],
    tokenizer: Any,
    prompts: list[list[int]],
    completions: list[Completion],
    samples_per_prompt: int,
    distribution: TokenDistribution,
) -> PolicySamples:
    """Score completions and sum their log-ratios to the reference; arrays (prompts, samples).

    Scorers are the reward models by the name of the array that holds their scores.
    """
    token_ids = [completion.token_ids for completion in completions]
    sequences = Sequences.from_lists(prompts, token_ids, device=policy.device)
    shape = (-1, samples_per_prompt)
    whole = [[*prompt, *ids] for prompt, ids in zip(prompts, token_ids, strict=True)]
    scores = {name: scorer.score(whole).reshape(shape) for name, scorer in scorers.items()}
    kl = torch.zeros(len(completions), device=policy.device)
    if policy is not reference:
        kl = _summed_logprobs(policy, sequences, distribution)
        kl = kl - _summed_logprobs(reference, sequences, distribution)
    texts = [decode_completion(tokenizer, ids) for ids in token_ids]
    finished = np.array([completion.finished for completion in completions])
    return PolicySamples(
        texts=grouped(texts, samples_per_prompt),
        token_ids=grouped(token_ids, samples_per_prompt),
        finished=finished.reshape(shape),
        score=scores["score"],
        kl=kl.double().cpu().numpy().reshape(shape),
        judge_score=scores.get("judge_score"),
    )


def _summed_logprobs(
    model: Any, sequences: Sequences, distribution: TokenDistribution
) -> torch.Tensor:
    """Log-probability of each whole completion, (batch,)."""
    return map_chunks(
        lambda rows: token_logprobs(model, rows, distribution=distribution).logprobs.sum(1),
        sequences,
        CHUNK_TOKENS,
    )


def grouped(flat: list[Any], size: int) -> list[list[Any]]:
    """Cut a list of all samples, prompt by prompt, into `size` samples for each prompt."""
    return [flat[start : start + size] for start in range(0, len(flat), size)]
