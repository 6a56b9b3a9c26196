"""Taking in a model that was trained elsewhere: a language or a reward model.

Stands in for the stages that would have trained it. Models found in the wild mostly lack what this
pipeline relies on: a pad token other than EOS, and role tokens with a chat template. Both are added
where they are missing; the rest of the model stays as it is. New tokens start at the mean of the
old embeddings, the one point that makes a new token neither likelier nor unlikelier than the
others.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.utils import cached_file

from models.errors import ModelError
from models.language.architectures import parameter_count
from models.language.folders import read_weights, save_model
from models.language.scoring import (
    SCORE_MOMENTS,
    ScoreMoments,
    read_score_moments,
    write_score_moments,
)
from models.language.tokenizer import CHAT_TEMPLATE, EOS_TOKEN, PAD_TOKEN, ROLE_TOKENS

logger = logging.getLogger(__name__)

WORDS = {
    AutoModelForCausalLM: "causal language model",
    AutoModelForSequenceClassification: "sequence classifier with one label",
}
EXAMPLES = {
    AutoModelForCausalLM: "HuggingFaceTB/SmolLM2-135M",
    AutoModelForSequenceClassification: "Skywork/Skywork-Reward-V2-Qwen3-0.6B",
}


def adopt_model(source: str, revision: str | None, out: Path) -> dict[str, float]:
    """Make a causal language model, a local folder or a hub id, a complete folder of this pipeline.

    `revision` is a branch, tag or commit on the hub.

    Returns:
        Parameters, vocabulary size, context and how many tokens were added.

    Raises:
        ModelError: The source cannot be loaded, has no safetensors, or states no context.
    """
    model, tokenizer = _fetch(source, revision, AutoModelForCausalLM)
    metrics = _complete(source, model, tokenizer)
    for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    save_model(model, tokenizer, out)
    return metrics


def adopt_reward_model(source: str, revision: str | None, out: Path) -> dict[str, float]:
    """Make a foreign reward model a complete folder of this pipeline.

    One that was not trained here has no moments of its scores; PPO then takes them as they are.

    Returns:
        The same numbers as for a language model.

    Raises:
        ModelError: The source cannot be loaded, has no safetensors, states no context, or is no
            sequence classifier with one label and a trained `score` head.
    """
    model, tokenizer = _fetch(source, revision, AutoModelForSequenceClassification)
    if model.config.num_labels != 1 or not hasattr(model, "score"):
        raise ModelError(
            f"{source} is a {type(model).__name__} with {model.config.num_labels} labels"
            f"{'' if hasattr(model, 'score') else ' and no head named score'}, a reward model with "
            "exactly one label and a score head was wanted; take one on a decoder such as Llama, "
            "or train one here from preferences"
        )
    metrics = _complete(source, model, tokenizer)
    moments = _moments(source, revision)
    save_model(model, tokenizer, out)
    write_score_moments(out, moments)
    return metrics


def _moments(source: str, revision: str | None) -> ScoreMoments:
    """The moments beside the weights, or those that leave scores as they are."""
    found = cached_file(
        source, SCORE_MOMENTS, revision=revision, _raise_exceptions_for_missing_entries=False
    )
    if found is not None:
        return read_score_moments(Path(found).parent)
    logger.warning(
        "%s has no %s: PPO will not normalise its scores; if they are far from mean 0 and "
        "deviation 1, change ppo.kl_coef in proportion",
        source, SCORE_MOMENTS,
    )  # fmt: skip
    return ScoreMoments(mean=0.0, std=1.0, raw_std=1.0, samples=0)


def _complete(source: str, model: Any, tokenizer: Any) -> dict[str, float]:
    context = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(context, int):
        raise ModelError(
            f"{source} states no max_position_embeddings, a model with a known context was "
            "wanted; take a decoder such as Llama, GPT-2, Qwen or SmolLM"
        )
    known = len(tokenizer)
    _add_tokens(tokenizer)
    _make_room(model, known, len(tokenizer))
    tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.bos_token_id = tokenizer.bos_token_id
    return {
        "adopt/parameters": float(parameter_count(model)),
        "adopt/vocab_size": float(len(tokenizer)),
        "adopt/context": float(context),
        "adopt/added_tokens": float(len(tokenizer) - known),
    }


def _fetch(source: str, revision: str | None, loader: Any) -> tuple[Any, Any]:
    """Load model and tokenizer, float32, safetensors only, no remote code, no weight made up."""
    local = Path(source).is_dir()
    where = {"local_files_only": local, "revision": None if local else revision}
    try:
        remedy = "choose another model, or the role that this one fits"
        model = read_weights(loader, source, WORDS[loader], remedy=remedy, **where)
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"no {WORDS[loader]} with safetensors could be loaded from {source!r} (revision "
            f"{revision!r}): {error}; give a folder or a hub id such as {EXAMPLES[loader]}"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{source} has a {type(tokenizer).__name__}, a tokenizer with a tokenizer.json was "
            "wanted; choose a model that has one"
        )
    return model, tokenizer


def _add_tokens(tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        tokenizer.add_special_tokens({"eos_token": EOS_TOKEN})
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    if not tokenizer.chat_template:
        others = [token for token in tokenizer.extra_special_tokens if token not in ROLE_TOKENS]
        tokenizer.add_special_tokens({"extra_special_tokens": [*others, *ROLE_TOKENS]})
        tokenizer.chat_template = CHAT_TEMPLATE


@torch.no_grad()
def _make_room(model: Any, known: int, wanted: int) -> None:
    """Give new tokens embeddings, each the mean of the known ones; spare rows are used first."""
    rows = model.get_input_embeddings().weight.shape[0]
    if wanted > rows:
        model.resize_token_embeddings(wanted, mean_resizing=False)
        logger.info("embeddings grew from %d to %d rows", rows, wanted)
    tables = [model.get_input_embeddings().weight]
    head = model.get_output_embeddings()  # a reward model has none
    if head is not None and head.weight is not tables[0]:
        tables.append(head.weight)
    for table in tables:
        table[known:wanted] = table[:known].mean(dim=0)
