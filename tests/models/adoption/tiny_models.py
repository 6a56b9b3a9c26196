"""Tiny random models of many architectures, with weights far from uniform, so that faults show."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": None,
    "pad_token_id": None,
}  # fmt: skip

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 5.0,
               "final_logit_softcapping": 3.0},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 3.0},
    "mistral": {"sliding_window": 4},
    "phi": {},
    "phi3": {},
    "gpt2": {},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "granite": {"logits_scaling": 0.5},
    "cohere": {"logit_scale": 0.5},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "nemotron": {},
    "bloom": {},
    "mamba": {"state_size": 4},
}  # fmt: skip
"""Architectures and what of their configs differs from `SIZES`."""


def build(kind: str, tokenizer: Any, **changes: Any) -> Any:
    """A causal language model of a kind, in evaluation mode."""
    ids = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, **SIZES | ids | KINDS[kind] | changes)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.25)
    return model.eval()


def save(kind: str, tokenizer: Any, out: Path, **changes: Any) -> Path:
    """The folder of such a model, as one would come from elsewhere."""
    build(kind, tokenizer, **changes).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out
