"""The networks of both sides: from the same seed the same weights, and a digest that proves it.

Runs in the project's environment and in the peer's; imports torch and transformers only.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from workloads import BOS_ID, CONTEXT, EOS_ID, FIRST_WORD_ID, PAD_ID, SIZES, Size, word

SPECIAL_TOKENS = {"<pad>": PAD_ID, "<s>": BOS_ID, "</s>": EOS_ID}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """PPO's four networks, all with the actor's trunk."""

    actor: Any
    critic: Any
    reference: Any
    reward_model: Any


def causal_model(size: Size, eos_boost: float | None = None) -> Any:
    """Make a causal language model in float32.

    Args:
        size: Of the trunk.
        eos_boost: A constant direction is put into every row of the (tied) embedding, and EOS's
            row gets so much more of it: EOS becomes likelier by about the same everywhere.
    """
    torch.manual_seed(0)
    model = LlamaForCausalLM(_config(size))
    if eos_boost is not None:
        with torch.no_grad():
            weight = model.model.embed_tokens.weight
            weight[:, 0] = 1.0
            weight[EOS_ID, 0] = 1.0 + eos_boost
    return model


def roles(size_name: str, eos_boost: float | None = None) -> Roles:
    """Make the four networks."""
    size = SIZES[size_name]
    actor = causal_model(size, eos_boost)
    reference = LlamaForCausalLM(_config(size))
    reference.load_state_dict(actor.state_dict())
    return Roles(
        actor=actor,
        critic=_scorer(size, actor, seed=1),
        reference=reference,
        reward_model=_scorer(size, actor, seed=2),
    )


def adapter(rank: int, kind: str) -> Any:
    """What LoRA puts on every linear layer of a trunk; `kind` is peft's CAUSAL_LM or SEQ_CLS."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=kind)


def tokenizer(size_name: str) -> Any:
    """Make a tokenizer of one token a word, padding on the left as decoding wants it."""
    last = SIZES[size_name].vocabulary
    vocabulary = SPECIAL_TOKENS | {word(index): index for index in range(FIRST_WORD_ID, last)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        model_max_length=CONTEXT,
    )


def digest(network: Any) -> str:
    """Hash the weights, so that the parent can see that both sides start from the same."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


class TokenCounter:
    """Counts the tokens, padding included, that a trunk is trained on."""

    def __init__(self, trunk: Any) -> None:
        """Watch a trunk's forward passes that a gradient is wanted of."""
        self.tokens = 0
        trunk.register_forward_pre_hook(self._count, with_kwargs=True)

    def take(self) -> int:
        """The count since the last call."""
        tokens, self.tokens = self.tokens, 0
        return tokens

    def _count(self, module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return
        embedded = named.get("inputs_embeds")
        ids = named.get("input_ids", given[0] if given else None)
        if ids is not None:
            self.tokens += ids.numel()
        elif embedded is not None:
            self.tokens += embedded.shape[:-1].numel()


def _scorer(size: Size, actor: Any, seed: int) -> Any:
    config = _config(size)
    config.num_labels = 1
    torch.manual_seed(seed)
    scorer = LlamaForSequenceClassification(config)
    scorer.model.load_state_dict(actor.model.state_dict())
    return scorer


def _config(size: Size) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        rms_norm_eps=1e-5,
    )
