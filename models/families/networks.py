"""Networks from scratch: transformers' own, built from a few sizes.

Called by pretraining. What differs from the papers: input and output embeddings are tied but in
LLaMA's published shapes, the SwiGLU width is 8/3 of the model's rounded up to a multiple of 16
unless it is given, biases are Llama's (none), and there is no dropout anywhere, because PPO needs
the same logprobs from the same weights. A decoder of two parts begins with EOS, which also parts
documents.

Sources: Jiang et al., Mixtral of Experts (2024), section 2, with the load-balancing loss of Fedus
et al., Switch Transformers (2021), equations 4 to 6, and its weight of 0.01; Vaswani et al.,
Attention is all you need (2017), which is Marian's network with ReLU.
"""

import math
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    MixtralConfig,
    MixtralForCausalLM,
)

from models.families.config import YARDSTICKS, ArchitectureConfig
from models.yardsticks.building import build_yardstick

BALANCE_COEF = 0.01
"""Weight of the load-balancing loss of a mixture of experts."""


def build_model(config: ArchitectureConfig, tokenizer: Any, *, seed: int) -> Any:
    """Build a network with random float32 weights.

    Args:
        seed: Of the weights; the global random state stays untouched.

    Returns:
        A model of transformers on the CPU, in evaluation mode: a causal language model, of `bert`
        a `BertForPreTraining`, of `bart` a `BartForConditionalGeneration`, of `transformer` a
        `MarianMTModel`, or one of `models/yardsticks/`.
    """
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    build = {
        "llama": _build_llama,
        "gpt2": _build_gpt2,
        "mixtral": _build_mixtral,
        "bert": _build_bert,
        "bart": _build_bart,
        "transformer": _build_transformer,
        **dict.fromkeys(YARDSTICKS, _build_yardstick),
    }[config.family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config, len(tokenizer), ids)
    return model.float().eval()


def parameter_count(model: Any) -> int:
    """Count parameters; tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _build_llama(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return LlamaForCausalLM(LlamaConfig(**_llama_sizes(config, vocab_size), **ids))


def _build_mixtral(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return MixtralForCausalLM(
        MixtralConfig(
            **_llama_sizes(config, vocab_size),
            num_local_experts=config.experts,
            num_experts_per_tok=config.experts_per_token,
            output_router_logits=True,
            router_aux_loss_coef=BALANCE_COEF,
            **ids,
        )
    )


def _llama_sizes(config: ArchitectureConfig, vocab_size: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.inner_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.shared_heads,
        "max_position_embeddings": config.context,
        "tie_word_embeddings": config.tied,
        "attention_dropout": 0.0,
    }


def _build_gpt2(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            n_positions=config.context,
            n_inner=config.feed_forward or None,
            tie_word_embeddings=config.tied,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            summary_first_dropout=0.0,
            **ids,
        )
    )


def _build_bert(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return BertForPreTraining(
        BertConfig(
            vocab_size=vocab_size,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.inner_width,
            max_position_embeddings=config.context,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=_spread(config),
            **ids,
        )
    )


def _build_bart(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return BartForConditionalGeneration(BartConfig(**_seq2seq_sizes(config, vocab_size, ids)))


def _build_transformer(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return MarianMTModel(
        MarianConfig(
            **_seq2seq_sizes(config, vocab_size, ids),
            activation_function="relu",
            scale_embedding=True,
        )
    )


def _seq2seq_sizes(
    config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]
) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "d_model": config.width,
        "encoder_layers": config.layers,
        "decoder_layers": config.layers,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.inner_width,
        "decoder_ffn_dim": config.inner_width,
        "max_position_embeddings": config.context,
        "dropout": 0.0,
        "init_std": _spread(config),
        "decoder_start_token_id": ids["eos_token_id"],
        "forced_eos_token_id": None,
        **ids,
    }


def _build_yardstick(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return build_yardstick(
        config.family,
        vocab_size=vocab_size,
        width=config.width,
        layers=config.layers,
        context=config.context,
        ids=ids,
    )


def _spread(config: ArchitectureConfig) -> float:
    """Standard deviation of the first weights of BERT, BART and the Transformer of 2017.

    BERT's 0.02 at its width, and as 1 / sqrt(width) at others: with 0.02 narrow networks, which
    normalise after each layer, take long before they attend to anything.
    """
    return 0.02 * math.sqrt(768 / config.width)
