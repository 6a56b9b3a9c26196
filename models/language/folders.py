"""Model folders: written complete, and checked where they enter.

Every stage from pretraining on publishes one: config, safetensors, tokenizer, chat template and,
for models that generate, a generation config. So each stage runs alone from any such folder.

Loading is strict: safetensors only, no foreign code, local files only, dropout 0 (PPO needs equal
logprobs from equal weights), finite weights, and a message that names the remedy where a folder is
not what the stage wants. Weights are float32 unless another precision is asked for. Models come
back on the CPU in evaluation mode.
"""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from models.config import Precision
from models.distributed.sharding import gathered_state
from models.distributed.team import current_team
from models.errors import ModelError
from models.families.scorers import reads_whole, score_head
from models.language.reading import (
    known_score_heads,
    read_tokenizer,
    read_weights,
    without_progress_bars,
)
from models.language.screening import read_json
from models.runtime import weights_dtype
from models.unfit import refuse_unfit

IDENTITY_PARTS = ("model", "added_tokens", "normalizer", "pre_tokenizer")
"""What of a tokenizer.json decides the ids of a text."""


def save_model(model: Any, tokenizer: Any, out: Path) -> None:
    """Write a complete model folder: of a team all members call this, and its leader writes."""
    team = current_team()
    model.config.use_cache = True  # trainers turn it off, and generation wants it
    with without_progress_bars(), gathered_state(model) as state:
        model.save_pretrained(out, state_dict=state)  # which writes in the first process only
    if team.leads:
        tokenizer.save_pretrained(out)
    team.wait()


def load_tokenizer(path: Path, *, wants_template: bool = False, wants_pad: bool = True) -> Any:
    """Load a tokenizer folder.

    Args:
        wants_template: Whether prompts are lists of messages.
        wants_pad: Whether EOS and a pad of its own are needed: to train, not to talk.

    Raises:
        ModelError: No tokenizer there, no EOS, no pad of its own, or no chat template.
    """
    _want_files(path, "tokenizer", ["tokenizer.json"])
    tokenizer = read_tokenizer(path)
    unpadded = tokenizer.pad_token_id in (None, tokenizer.eos_token_id)
    if wants_pad and (unpadded or tokenizer.eos_token_id is None):
        raise ModelError(
            f"the tokenizer in {path} has pad {tokenizer.pad_token!r} and EOS "
            f"{tokenizer.eos_token!r}, wanted two different tokens (a shared one would drop EOS "
            "out of the loss); take the model through adoption, which adds a pad: name it as "
            "base.source of `quartet run`, or to `quartet evaluate`"
        )
    if wants_template and not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {path} has no chat template, but the rows hold messages; take the "
            "model through adoption, which adds one, or give rows of plain strings"
        )
    tokenizer.padding_side = "right"
    return tokenizer


def load_causal_model(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Load a causal language model.

    Raises:
        ModelError: The folder is incomplete, damaged, or holds another kind of model.
    """
    wanted = "causal language model"
    return _load(path, AutoModelForCausalLM, wanted, "pretrain, sft or ppo", dtype)


def load_seq2seq_model(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Load a sequence-to-sequence model.

    Raises:
        ModelError: The folder is incomplete, damaged, or holds another kind of model.
    """
    wanted = "sequence-to-sequence model"
    return _load(path, AutoModelForSeq2SeqLM, wanted, "translate or BART's pretrain", dtype)


def load_reward_model(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Load a reward model: a trunk, and a score head with one output, which is float32 always.

    Raises:
        ModelError: The folder is incomplete, damaged, or holds another kind of model.
    """
    wanted = "reward model with one label"
    model = _load(path, AutoModelForSequenceClassification, wanted, "reward", dtype)
    if model.config.num_labels != 1 or score_head(model) is None:
        raise ModelError(
            f"{path} holds a {type(model).__name__} with {model.config.num_labels} labels, a "
            "reward model with one label was wanted; give the folder of a reward stage"
        )
    score_head(model).float()
    return model


def load_frozen(
    load: Callable[[Path, torch.dtype], Any],
    path: Path,
    device: str | torch.device,
    precision: Precision = "auto",
) -> Any:
    """Load a network that only samples, scores or is measured, in bfloat16 where a GPU has it.

    Args:
        load: `load_causal_model` or `load_reward_model`.
    """
    return load(path, weights_dtype(str(device), precision)).to(device)


def new_reward_model(path: Path, dtype: torch.dtype = torch.float32, *, seed: int) -> Any:
    """Put a fresh score head, float32, on the trunk of a causal language model, a BERT or a BART.

    Args:
        path: Folder of an SFT model, or of a pretrained BERT or BART.
        seed: Of the head's weights, drawn from N(0, 1 / sqrt(width + 1)).

    Raises:
        ModelError: The folder is incomplete or damaged, or a BERT's tokenizer has no CLS.

    Source:
        Stiennon et al., Learning to summarize from human feedback (2020), section 3.4;
        the head's scale from its released code.
    """
    model = reward_model_on(load_trunk(path, dtype))
    draw_head(model, seed=seed)
    return model


def draw_head(model: Any, *, seed: int, std: float | None = None) -> None:
    """Draw the weights of a classifier's head, in place, from N(0, std).

    Args:
        std: 1 / sqrt(width + 1) if None.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in score_head(model).parameters():
            if weight.dim() > 1:
                spread = 1.0 / math.sqrt(weight.shape[1] + 1) if std is None else std
                weight.normal_(0.0, spread, generator=generator)


def trunk_type(path: Path) -> str:
    """Read the type of a folder's network, such as llama or bert, without loading it.

    Raises:
        ModelError: The folder has no config, or a damaged one.
    """
    _want_files(path, "model", ["config.json"])
    return str(read_json(path, "config.json").get("model_type"))


def load_trunk(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Load a pretrained model that a head can be put on: a causal one, a BERT or a BART.

    Raises:
        ModelError: The folder is incomplete or damaged, or a BERT's tokenizer has no CLS.
    """
    kind = trunk_type(path)
    if kind == "bart":
        return load_seq2seq_model(path, dtype)
    if kind != "bert":
        return load_causal_model(path, dtype)
    model = _load(path, AutoModelForPreTraining, "BERT with its heads", "pretrain", dtype)
    model.config.cls_token_id = load_tokenizer(path).cls_token_id
    if model.config.cls_token_id is None:
        raise ModelError(
            f"the tokenizer in {path} has no CLS token, which BERT is scored at; train one with "
            "tokenizer.mask=true, and the BERT on it"
        )
    return model


def reward_model_on(causal: Any, *, labels: int = 1) -> Any:
    """Put a head of zeros on the trunk of a language model, sharing its weights.

    Both may learn only where these weights are frozen.

    Args:
        labels: Outputs of the head; a reward model has one.
    """
    config = copy.deepcopy(causal.config)
    config.num_labels = labels
    if not reads_whole(causal):
        known_score_heads(config)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = AutoModelForSequenceClassification.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    trunk = causal.base_model
    shared: dict[int, Any] = {id(weight): weight for weight in trunk.parameters()}
    setattr(
        model,
        model.base_model_prefix,
        copy.deepcopy(trunk, shared | {id(causal.config): model.config}),
    )
    head = score_head(model).to_empty(device=causal.device)
    for weight in head.parameters():
        torch.nn.init.zeros_(weight)
    return model.eval()


def _load(path: Path, loader: Any, wanted: str, stage: str, dtype: torch.dtype) -> Any:
    _want_files(path, "model", ["config.json", "*.safetensors", "tokenizer.json"])
    return read_weights(
        loader, path, wanted, remedy=f"give the folder of a {stage} stage", dtype=dtype
    )


def _want_files(path: Path, what: str, patterns: list[str]) -> None:
    if not path.is_dir():
        raise ModelError(f"{path} is no folder, a {what} folder was wanted; check the path")
    refuse_unfit(str(path), {one.name for one in path.iterdir()}, path)
    for pattern in patterns:
        if not any(path.glob(pattern)):
            raise ModelError(
                f"{path} has no {pattern}, a complete {what} folder was wanted (config, "
                "safetensors weights, tokenizer); copy it again, or convert its weights to "
                "safetensors"
            )


def tokenizer_identity(folder: Path) -> dict[str, Any]:
    """What decides the ids of texts and prompts, part by part.

    Raises:
        ModelError: The folder holds no tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    parts = json.loads(tokenizer.backend_tokenizer.to_str())  # as it encodes, not as it is written
    return {
        **{name: parts.get(name) for name in IDENTITY_PARTS},
        "chat template": tokenizer.chat_template,
        "EOS": tokenizer.eos_token_id,
    }


def same_tokenizer(first: Path, second: Path) -> bool:
    """Whether two model folders give the same ids to the same text and prompt."""
    return first == second or tokenizer_identity(first) == tokenizer_identity(second)


def refuse_other_tokenizer(folder: Path, who: str, other: Path, whose: str, remedy: str) -> None:
    """Make sure that two models read the same tokens.

    `who` and `whose` name the models in `folder` and `other` in the message.

    Raises:
        ModelError: They do not.
    """
    one, two = tokenizer_identity(folder), tokenizer_identity(other)
    unlike = [part for part in one if one[part] != two[part]]
    if unlike:
        raise ModelError(
            f"the {who} {folder} has another tokenizer than the {whose} (other "
            f"{', '.join(unlike)}); wanted the same, since both read the same token ids: {remedy}"
        )
