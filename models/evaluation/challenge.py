"""A challenger against its opponent on the same held-out prompts, measured for the gates.

Beyond the comparison of SFT and PPO: the challenger's KL is to the model that *it* was trained
from, whatever the opponent was trained from, and the gain may be judged by a second reward model
that neither of them was trained against. All models must read the same tokens, or lengths, KL and
diversity would compare unlike things.

Shapes: every array is (prompts, samples).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import DataError, ModelError
from models.evaluation.comparison import compare
from models.evaluation.config import EvaluationConfig, PromotionConfig
from models.evaluation.gates import Diversity, GateEvidence
from models.evaluation.merged_comparison import Comparison
from models.evaluation.samples import Floats, PolicySamples
from models.language.config import SamplingConfig
from models.language.distribution import TokenDistribution
from models.language.folders import load_causal_model, load_tokenizer
from models.language.prompts import encode_to_fit, measure_policies
from models.language.sequences import Sequences, map_chunks, token_logprobs
from models.language.tokenizer import Messages

CHUNK_TOKENS = 16384
"""Tokens that a frozen model is given at once."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Challenge:
    """Both models' samples, and what else was measured on them.

    Attributes:
        champion: The opponent's samples, scored by the reward model and, if there is one, by the
            held-out judge.
        challenger: The challenger's, of the same prompts with the same seeds.
        kl_to_reference: Log-ratio of the challenger to its own reference summed over each of its
            completions, nats: the k1 estimator of the KL divergence, (prompts, samples).
    """

    champion: PolicySamples
    challenger: PolicySamples
    kl_to_reference: Floats


def measure_challenge(
    *,
    champion: Path,
    challenger: Path,
    reference: Path,
    reward: Path,
    judge: Path | None,
    prompts: Sequence[str | Messages],
    samples_per_prompt: int,
    sampling: SamplingConfig,
    seed: int,
    device: str,
) -> Challenge:
    """Sample both models with equal seeds and measure them.

    Args:
        champion: Model folder of the opponent.
        challenger: Model folder.
        reference: Model folder that the challenger was trained from; may be the opponent's.
        reward: Model folder of the reward model that the challenger was trained with.
        judge: Model folder of the held-out second reward model, if there is one.
        prompts: Held-out prompts.
        samples_per_prompt: Completions of each model for each prompt.
        sampling: Temperature and longest completion.
        seed: Of the draws, the same for both models.
        device: Where to run.

    Raises:
        ModelError: The models' tokenizers differ.
    """
    folders = {"champion": champion, "reference": reference, "reward model": reward}
    _refuse_other_tokenizers(challenger, folders | ({} if judge is None else {"judge": judge}))
    first, second = measure_policies(
        sft=champion,
        ppo=challenger,
        reward=reward,
        prompts=prompts,
        samples_per_prompt=samples_per_prompt,
        sampling=sampling,
        seed=seed,
        device=device,
        judge=judge,
    )
    kl = second.kl
    if reference != champion:
        kl = _log_ratios(challenger, reference, prompts, second, sampling, device)
    return Challenge(champion=first, challenger=second, kl_to_reference=kl)


def gather_evidence(
    challenge: Challenge,
    config: PromotionConfig,
    *,
    opponent: str,
    alarms: Mapping[str, int],
    seed: int,
) -> tuple[GateEvidence, Comparison]:
    """Turn samples into what the gates look at; the gold judge goes before the held-out one.

    Args:
        challenge: The samples, with a gold judgement or a held-out judge's scores.
        config: Resamples and how many good completions a comparison of diversity needs.
        opponent: "champion" or "SFT model".
        alarms: Of the challenger's training, by name.
        seed: Root of the bootstrap's seeds.

    Returns:
        The evidence, and the whole comparison behind it.

    Raises:
        DataError: Neither judge has judged.
    """
    settings = EvaluationConfig(
        bootstrap_resamples=config.bootstrap_resamples,
        min_matched_completions=config.min_matched_completions,
    )
    comparison = compare(challenge.champion, challenge.challenger, settings, seed)
    first, second = comparison.sft, comparison.ppo
    if not comparison.independent:
        raise DataError(
            "the gain was judged by nobody whom training never saw; wanted gold judgements or "
            "scores of a held-out judge: train one with reward.judge_share above 0"
        )
    gains = comparison.gains
    kl = float(challenge.kl_to_reference.mean())
    evidence = GateEvidence(
        opponent=opponent,
        judge=comparison.judge,
        gain=gains["gold"] if "gold" in gains else gains["judge_score"],
        prompts=comparison.prompts,
        finite={
            f"the {opponent}'s score": first["score"],
            "the challenger's score": second["score"],
            "the challenger's KL": kl,
        },
        kl_to_reference=kl,
        length_ratio=comparison.ratios["length_ratio"],
        eos_rate=second["eos_rate"],
        eos_rate_opponent=first["eos_rate"],
        diversity=_diversity(comparison),
        alarms=alarms,
    )
    return evidence, comparison


def _refuse_other_tokenizers(challenger: Path, others: Mapping[str, Path]) -> None:
    """Make sure that models read and write the same tokens.

    Args:
        challenger: Model folder.
        others: Model folders by the name that a message gives them.

    Raises:
        ModelError: One has another vocabulary, other merges, another EOS or chat template.
    """
    wanted = _tokens(challenger)
    for name, folder in others.items():
        got = _tokens(folder)
        unlike = [part for part in wanted if got[part] != wanted[part]]
        if unlike:
            raise ModelError(
                f"the {name}'s tokenizer differs from the challenger's in {', '.join(unlike)}; "
                "wanted models that read the same tokens, for lengths, KL and diversity of others "
                "cannot be compared: promote a challenger trained with the same tokenizer, or "
                "register it under another name, where it has no champion yet"
            )


def _tokens(folder: Path) -> dict[str, Any]:
    """What decides how a text becomes token ids."""
    tokenizer = load_tokenizer(folder)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    return {
        "vocabulary": tokenizer.get_vocab(),
        "model": backend["model"],
        "EOS": tokenizer.eos_token_id,
        "chat template": tokenizer.chat_template,
    }


def _diversity(comparison: Comparison) -> Diversity:
    ratios = comparison.ratios
    if "matched_completions" in ratios:
        matched = int(ratios["matched_completions"])
        return Diversity(ratio=ratios["matched_distinct_2_ratio"], matched=matched)
    return Diversity(ratio=ratios["distinct_2_ratio"], matched=None)


def _log_ratios(
    policy: Path,
    reference: Path,
    prompts: Sequence[str | Messages],
    samples: PolicySamples,
    sampling: SamplingConfig,
    device: str,
) -> Floats:
    """Sum the log-ratios of a policy to its reference over each completion, (prompts, samples)."""
    tokenizer = load_tokenizer(policy)
    distribution = TokenDistribution.of(sampling, tokenizer.eos_token_id)
    shape = samples.finished.shape

    def summed(folder: Path) -> Floats:
        model = load_causal_model(folder).to(device).eval()
        encoded = encode_to_fit(tokenizer, model, prompts, sampling)
        sequences = Sequences.from_lists(
            [ids for ids in encoded for _ in range(shape[1])],
            [list(ids) for ids in samples.flat_token_ids()],
            device=device,
        )
        values = map_chunks(
            lambda rows: token_logprobs(model, rows, distribution=distribution).logprobs.sum(1),
            sequences,
            CHUNK_TOKENS,
        )
        return np.asarray(values.double().cpu().numpy().reshape(shape), dtype=np.float64)

    return summed(policy) - summed(reference)
