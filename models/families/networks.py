"""Networks from scratch: transformers' own Llama and GPT-2, built from a few sizes.

Called by pretraining. What differs from the papers: input and output embeddings are tied, the
SwiGLU width is 8/3 of the model's rounded up to a multiple of 16, biases are Llama's (none), and
there is no dropout anywhere, because PPO needs the same logprobs from the same weights.
"""

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from models.families.config import ArchitectureConfig
from models.yardsticks.building import build_yardstick

YARDSTICKS = ("feedforward", "rnn", "lstm", "rnn_encoder_decoder", "rnnsearch")


def build_model(config: ArchitectureConfig, tokenizer: Any, *, seed: int) -> Any:
    """Build a causal language model with random float32 weights.

    Args:
        seed: Of the weights; the global random state stays untouched.

    Returns:
        A model of transformers on the CPU, in evaluation mode.
    """
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    build = {
        "llama": _build_llama,
        "gpt2": _build_gpt2,
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
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=config.width,
            intermediate_size=-(-config.width * 8 // 3 // 16) * 16,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            attention_dropout=0.0,
            **ids,
        )
    )


def _build_gpt2(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            n_positions=config.context,
            tie_word_embeddings=True,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            summary_first_dropout=0.0,
            **ids,
        )
    )


def _build_yardstick(config: ArchitectureConfig, vocab_size: int, ids: dict[str, Any]) -> Any:
    return build_yardstick(
        config.family,
        vocab_size=vocab_size,
        width=config.width,
        layers=config.layers,
        context=config.context,
        ids=ids,
    )
