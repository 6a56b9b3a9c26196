"""Scores of held-out pairs and of SFT samples, by a reward model and by a held-out one.

The part of measuring a reward model that runs the networks; `quality` and `best_of_n` measure.
"""

from pathlib import Path

import numpy as np
import torch

from models.errors import DataError
from models.evaluation.samples import PolicySamples
from models.language.config import SamplingConfig
from models.language.folders import load_causal_model, load_reward_model, load_tokenizer
from models.language.generation import sample_completions
from models.language.prompts import encode_to_fit, grouped, refuse_other_tokenizer
from models.language.scoring import SequenceScorer
from models.language.tokenizer import Messages, decode_completion
from models.randomness import derive_seed
from models.reward.quality import PairScores
from models.reward.ranking import encode_pairs, pair_margins
from models.rows import read_rows
from models.statistics.intervals import Floats


def score_pairs(*, reward: Path, judge: Path | None, heldout: Path, device: str) -> PairScores:
    """Score held-out pairs with a reward model, and with a held-out one of the same tokenizer.

    Args:
        reward: Model folder.
        judge: Model folder of the held-out reward model.
        heldout: Rows with `prompt`, `chosen` and `rejected`.
        device: Where to run.

    Raises:
        ModelError: A folder is not a complete reward model, or the tokenizers differ.
        DataError: There is no pair, or none that differs and fits the context.
    """
    rows = read_rows(heldout)
    conversational = bool(rows) and not isinstance(rows[0]["prompt"], str)
    model = load_reward_model(reward).to(device)
    tokenizer = load_tokenizer(reward, wants_template=conversational)
    if judge is not None:
        refuse_other_tokenizer(judge, "judge", tokenizer, "reward model")
    pairs = encode_pairs(tokenizer, rows, model.config.max_position_embeddings)
    if not len(pairs):
        raise DataError(
            f"{heldout.name} has {len(rows)} pairs, {pairs.equal} with equal completions and "
            f"{pairs.too_long} too long for the reward model; wanted at least one to measure on: "
            "give preferences_test, or raise data.heldout_fraction"
        )
    numbers: dict[str, int] = {}
    prompts = [numbers.setdefault(str(rows[row]["prompt"]), len(numbers)) for row in pairs.rows]
    longer = [len(c) - len(r) for c, r in zip(pairs.chosen, pairs.rejected, strict=True)]
    judge_margins = None
    if judge is not None:
        judge_margins = pair_margins(load_reward_model(judge).to(device), pairs).double().numpy()
    return PairScores(
        margins=pair_margins(model, pairs).double().numpy(),
        longer=np.array(longer, float),
        prompts=np.array(prompts, np.intp),
        judge_margins=judge_margins,
    )


def sample_and_score(
    *,
    sft: Path,
    reward: Path,
    judge: Path | None,
    prompts: list[str | Messages],
    best_of: int,
    sampling: SamplingConfig,
    seed: int,
    device: str,
) -> PolicySamples:
    """Sample the SFT model, several completions per prompt, and score them with both reward models.

    Args:
        sft: Model folder.
        reward: Model folder of the reward model, of the same tokenizer.
        judge: Model folder of the held-out reward model, of the same tokenizer.
        prompts: Held-out prompts.
        best_of: Completions per prompt.
        sampling: Temperature and longest completion.
        seed: Of the draws.
        device: Where to run.

    Raises:
        ModelError: A reward model has another tokenizer than the SFT model.
    """
    tokenizer = load_tokenizer(sft)
    refuse_other_tokenizer(reward, "reward model", tokenizer, "SFT model")
    if judge is not None:
        refuse_other_tokenizer(judge, "judge", tokenizer, "SFT model")
    model = load_causal_model(sft).to(device)
    encoded = encode_to_fit(tokenizer, model, prompts, sampling)
    repeated = [ids for ids in encoded for _ in range(best_of)]
    completions = sample_completions(
        model,
        repeated,
        sampling=sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(derive_seed(seed, "best_of_n.sampling")),
    )
    token_ids = [one.token_ids for one in completions]
    sequences = [[*p, *c] for p, c in zip(repeated, token_ids, strict=True)]
    shape = (len(prompts), best_of)

    def scored(folder: Path) -> Floats:
        scorer = SequenceScorer(load_reward_model(folder).to(device))
        return scorer.score(sequences).reshape(shape)

    return PolicySamples(
        texts=grouped([decode_completion(tokenizer, ids) for ids in token_ids], best_of),
        token_ids=grouped(token_ids, best_of),
        finished=np.array([one.finished for one in completions]).reshape(shape),
        score=scored(reward),
        judge_score=None if judge is None else scored(judge),
        kl=np.zeros(shape),
    )
