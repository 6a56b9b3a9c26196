"""What a reward model, and a second one as its judge, say of held-out pairs and of SFT samples.

The networks' part of measuring a reward model; what the numbers are worth is `reward_quality`'s.
"""

from pathlib import Path

import numpy as np

from models.errors import DataError
from models.language.folders import load_reward_model, load_tokenizer
from models.language.tokenizer_identity import refuse_other_tokenizer
from models.reward.quality import PairScores
from models.reward.ranking import encode_pairs, pair_margins
from models.rows import read_rows


def score_pairs(*, reward: Path, judge: Path | None, heldout: Path, device: str) -> PairScores:
    """Load a reward model, and a second one of the same tokenizer, and score held-out pairs.

    Args:
        reward: Model folder.
        judge: Model folder of the second reward model.
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
        refuse_other_tokenizer(
            judge, "judge", reward, "reward model", "train both from one SFT model"
        )
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
