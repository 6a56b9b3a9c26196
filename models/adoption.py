"""Taking in a model that was trained elsewhere: a base or an SFT model, local or from the hub.

Stands in for tokenizer and pretraining. Models found in the wild mostly lack what this pipeline
relies on: a pad token other than EOS, and role tokens with a chat template. Both are added where
they are missing; the rest of the model stays as it is. New tokens start at the mean of the old
embeddings, the one point that makes a new token neither likelier nor unlikelier than the others.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from models.architectures import parameter_count
from models.errors import ModelError
from models.folders import save_model, without_dropout
from models.tokenizer import CHAT_TEMPLATE, EOS_TOKEN, PAD_TOKEN, ROLE_TOKENS

__all__ = ["adopt_model"]

logger = logging.getLogger(__name__)


def adopt_model(source: str, revision: str | None, out: Path) -> dict[str, float]:
    """Make a foreign causal language model a complete folder of this pipeline.

    Args:
        source: A local folder or a hub id.
        revision: Branch, tag or commit on the hub; for a local folder nothing.
        out: Folder to write.

    Returns:
        Parameters, vocabulary size, context and how many tokens were added.

    Raises:
        ModelError: The source cannot be loaded, has no safetensors, or states no context.
    """
    model, tokenizer = _fetch(source, revision)
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
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.bos_token_id = tokenizer.bos_token_id
    save_model(model, tokenizer, out)
    return {
        "adopt/parameters": float(parameter_count(model)),
        "adopt/vocab_size": float(len(tokenizer)),
        "adopt/context": float(context),
        "adopt/added_tokens": float(len(tokenizer) - known),
    }


def _fetch(source: str, revision: str | None) -> tuple[Any, Any]:
    """Load model and tokenizer, float32, safetensors only, no remote code."""
    local = Path(source).is_dir()
    where = {"local_files_only": local, "revision": None if local else revision}
    try:
        config = without_dropout(AutoConfig.from_pretrained(source, **where))
        model = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=torch.float32, use_safetensors=True, **where
        )
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"no causal language model with safetensors could be loaded from {source!r} (revision "
            f"{revision!r}): {error}; give a folder or a hub id such as HuggingFaceTB/SmolLM2-135M"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{source} has a {type(tokenizer).__name__}, a tokenizer with a tokenizer.json was "
            "wanted; choose a model that has one"
        )
    return model.eval(), tokenizer


def _add_tokens(tokenizer: Any) -> None:
    """Add pad, EOS, roles and template where they are missing."""
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
    if model.get_output_embeddings().weight is not tables[0]:
        tables.append(model.get_output_embeddings().weight)
    for table in tables:
        table[known:wanted] = table[:known].mean(dim=0)
