"""Taking in a model that was trained elsewhere: a language or a reward model.

Stands in for the stages that would have trained it. Models found in the wild mostly lack what this
pipeline relies on: a pad token other than EOS, and role tokens with a chat template. Both are added
where they are missing; the rest of the model stays as it is. New tokens start at the mean of the
old embeddings, the one point that makes a new token neither likelier nor unlikelier than the
others.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from models.adoption.agreement import end_turns_as_the_template, keep_short_factors
from models.adoption.merging import merge_adapter
from models.adoption.proof import prove_language_model, prove_reward_head, prove_scores
from models.errors import DataError, ModelError
from models.families.networks import parameter_count
from models.language.folders import save_model
from models.language.frames import ChatFrames
from models.language.reading import (
    foreign_errors,
    read_tokenizer,
    read_weights,
    refuse_short_embeddings,
    without_progress_bars,
)
from models.language.scoring import (
    SCORE_MOMENTS,
    ScoreMoments,
    read_score_moments,
    write_score_moments,
)
from models.language.screening import READ_ENDINGS, shards_of
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


def adopt_model(
    source: str, revision: str | None, out: Path, *, adapter: Path | None = None
) -> dict[str, float]:
    """Make a causal language model, a local folder or a hub id, a complete folder of this pipeline.

    `revision` is a branch, tag or commit on the hub.

    Args:
        adapter: Folder of a LoRA adapter that is merged into it, if given.

    Returns:
        Parameters, vocabulary size, context and how many tokens were added.

    Raises:
        ModelError: The source cannot be loaded, has no safetensors, or states no context.
    """
    model, tokenizer = _fetch(_folder(source, revision), AutoModelForCausalLM)
    if adapter is not None:
        model = merge_adapter(model, adapter, source)
    metrics = _complete(source, model, tokenizer)
    try:
        model.generation_config.validate(strict=True)
    except (TypeError, ValueError) as error:
        logger.warning("generation_config.json of %s is not valid and left out: %s", source, error)
        model.generation_config = GenerationConfig()
    for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    prove_language_model(model, source)
    prove_reward_head(model, source)
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
    folder = _folder(source, revision)
    model, tokenizer = _fetch(folder, AutoModelForSequenceClassification)
    if model.config.num_labels != 1 or not hasattr(model, "score"):
        raise ModelError(
            f"{source} is a {type(model).__name__} with {model.config.num_labels} labels"
            f"{'' if hasattr(model, 'score') else ' and no head named score'}, a reward model with "
            "exactly one label and a score head was wanted; take one on a decoder such as Llama, "
            "or train one here from preferences"
        )
    metrics = _complete(source, model, tokenizer)
    prove_scores(model, source)
    moments = _moments(folder)
    save_model(model, tokenizer, out)
    write_score_moments(out, moments)
    return metrics


def _moments(folder: Path) -> ScoreMoments:
    """The moments beside the weights, or those that leave scores as they are."""
    if (folder / SCORE_MOMENTS).exists():
        return read_score_moments(folder)
    logger.warning(
        "%s has no %s: PPO will not normalise its scores; if they are far from mean 0 and "
        "deviation 1, change ppo.kl_coef in proportion",
        folder, SCORE_MOMENTS,
    )  # fmt: skip
    return ScoreMoments(mean=0.0, std=1.0, raw_std=1.0, samples=0)


def _complete(source: str, model: Any, tokenizer: Any) -> dict[str, float]:
    context = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(context, int) or context < 1:
        raise ModelError(
            f"{source} has max_position_embeddings {context}, a model with a known context was "
            "wanted; take a decoder such as Llama, GPT-2, Qwen or SmolLM"
        )
    context = keep_short_factors(source, model.config)
    vocabulary = tokenizer.get_vocab()
    end_turns_as_the_template(source, model, tokenizer)
    complete_tokenizer(tokenizer)
    added = {word: one for word, one in tokenizer.get_vocab().items() if word not in vocabulary}
    _refuse_shared_ids(source, tokenizer, added)
    _make_room(model, set(vocabulary.values()), set(added.values()))
    _refuse_unusable_template(source, tokenizer)
    tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.bos_token_id = tokenizer.bos_token_id
    return {
        "adopt/parameters": float(parameter_count(model)),
        "adopt/vocab_size": float(len(tokenizer)),
        "adopt/context": float(context),
        "adopt/added_tokens": float(len(added)),
    }


def download_model(source: str, revision: str | None) -> Path:
    """Fetch the files of a hub's model that loading reads, and return their folder.

    Raises:
        ModelError: The hub does not give them.
    """
    remedy = f"give an existing folder, or a hub id such as {EXAMPLES[AutoModelForCausalLM]}"
    what = f"{source!r} (revision {revision!r}) is no folder here, and as a model of the hub"
    fetch = partial(snapshot_download, source, revision=revision)
    with without_progress_bars(), foreign_errors(what, remedy):
        found = fetch(
            allow_patterns=[f"*{ending}" for ending in READ_ENDINGS],
            ignore_patterns=["*/*"],  # of folders inside only what the index of weights names
        )
        if inner := [name for name in set(shards_of(Path(found)).values()) if "/" in name]:
            fetch(allow_patterns=sorted(inner))
    return Path(found)


def _folder(source: str, revision: str | None) -> Path:
    return Path(source) if Path(source).is_dir() else download_model(source, revision)


def _fetch(folder: Path, loader: Any) -> tuple[Any, Any]:
    """Load model and tokenizer, float32, safetensors only, no foreign code, no weight made up."""
    remedy = "choose another model, or the role that this one fits"
    model = read_weights(loader, folder, WORDS[loader], remedy=remedy)
    tokenizer = read_tokenizer(folder)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{folder} has a {type(tokenizer).__name__}, a tokenizer with a tokenizer.json was "
            "wanted; choose a model that has one"
        )
    refuse_short_embeddings(folder, tokenizer, model, added=True)
    return model, tokenizer


def complete_tokenizer(tokenizer: Any) -> None:
    """Add what this pipeline relies on where it is missing: EOS, pad, role tokens and template."""
    if tokenizer.eos_token_id is None:
        tokenizer.add_special_tokens({"eos_token": EOS_TOKEN})
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    if not tokenizer.chat_template:
        others = [token for token in tokenizer.extra_special_tokens if token not in ROLE_TOKENS]
        tokenizer.add_special_tokens({"extra_special_tokens": [*others, *ROLE_TOKENS]})
        tokenizer.chat_template = CHAT_TEMPLATE


def _refuse_shared_ids(source: str, tokenizer: Any, added: dict[str, int]) -> None:
    """Make sure that new tokens have ids of their own; libraries take the number of tokens."""
    ids = list(tokenizer.get_vocab().values())
    if shared := [word for word, one in added.items() if ids.count(one) > 1]:
        raise ModelError(
            f"the token ids of {source} have holes ({len(ids)} tokens, the highest id is {max(ids)}"
            f"), so that new tokens would share theirs ({', '.join(shared)}); give the tokenizer a "
            "pad token and a chat template of its own, or fill the holes in tokenizer.json"
        )


def _refuse_unusable_template(source: str, tokenizer: Any) -> None:
    """Make sure that the chat template renders one message of a user."""
    try:
        ChatFrames(tokenizer).of(("user",))
    except (DataError, ModelError) as error:
        raise ModelError(
            f"the chat template of {source} cannot be used ({error}); repair chat_template in the "
            "tokenizer's files, or remove it: adoption then adds one"
        ) from error


@torch.no_grad()
def _make_room(model: Any, old: set[int], new: set[int]) -> None:
    """Give tokens without an embedding one, the mean of the old ones; spare rows are used first.

    Tokens may have been added to the tokenizer before, without rows of their own.

    Args:
        old: Ids of the tokens that there were; there may be holes.
        new: Ids of the added ones.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    known, wanted = min(max(old) + 1, rows), max(old | new) + 1
    if wanted > rows:
        model.resize_token_embeddings(wanted, mean_resizing=False)
        logger.info("embeddings grew from %d to %d rows", rows, wanted)
    fresh = sorted(new | {one for one in old if one >= rows})
    tables = [model.get_input_embeddings().weight]
    head = model.get_output_embeddings()  # a reward model has none
    if head is not None and head.weight is not tables[0]:
        tables.append(head.weight)
    if getattr(head, "bias", None) is not None:
        tables.append(head.bias)
    for table in tables:
        table[fresh] = table[:known].mean(dim=0)
