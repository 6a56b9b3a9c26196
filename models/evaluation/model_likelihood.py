"""How well any model predicts held-out texts and demonstrations: perplexity and bits per byte.

Texts are read as they stand; of demonstrations only completion and EOS are predicted, after their
prompt, as in SFT. Models with different tokenizers are compared by bits per byte, for whose bytes
an EOS counts none.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.evaluation.texts import text_likelihood
from models.language.folders import load_causal_model, load_tokenizer
from models.language.likelihood import bits_per_byte, held_out_loss, perplexity
from models.language.tokenizer import Messages, encode_completions, encode_prompts

logger = logging.getLogger(__name__)


def measure_likelihood(
    model: Path,
    *,
    texts: Sequence[str],
    demonstrations: Sequence[tuple[str | Messages, str]],
    device: str,
) -> dict[str, float]:
    """Measure one model.

    Args:
        model: Its folder.
        texts: Plain texts.
        demonstrations: Prompts with a completion each.
        device: Where to run.

    Returns:
        perplexity_texts and bits_per_byte_texts where there are texts, perplexity_demonstrations
        and bits_per_byte_demonstrations where there are demonstrations.

    Source:
        See `models/language/likelihood.py` and `models/evaluation/texts.py` for the formulas.
    """
    tokenizer = load_tokenizer(model)
    network = load_causal_model(model).to(device)
    measured: dict[str, float] = {}
    if any(texts):
        found = text_likelihood(network, tokenizer, texts)
        measured["perplexity_texts"] = found.perplexity
        measured["bits_per_byte_texts"] = found.bits_per_byte
    if demonstrations:
        measured |= _of_demonstrations(model, network, tokenizer, demonstrations)
    return measured


def _of_demonstrations(
    model: Path,
    network: Any,
    tokenizer: Any,
    demonstrations: Sequence[tuple[str | Messages, str]],
) -> dict[str, float]:
    context: int = network.config.max_position_embeddings
    completions = encode_completions(tokenizer, [text for _, text in demonstrations])
    fitting = [index for index, ids in enumerate(completions) if len(ids) < context]
    if len(fitting) < len(completions):
        logger.warning(
            "%d of %d demonstrations fill the context of %d tokens of %s and are left out; its "
            "perplexity is of fewer texts than other models'",
            len(completions) - len(fitting), len(completions), context, model,
        )  # fmt: skip
    if not fitting:
        return {}
    kept = [completions[index] for index in fitting]
    prompts = encode_prompts(
        tokenizer,
        [demonstrations[index][0] for index in fitting],
        [context - len(ids) for ids in kept],
    )
    loss = held_out_loss(network, prompts, kept)
    byte_count = sum(len(demonstrations[index][1].encode()) for index in fitting)
    return {
        "perplexity_demonstrations": perplexity(loss.nll_sum, loss.token_count),
        "bits_per_byte_demonstrations": bits_per_byte(loss.nll_sum, byte_count),
    }
