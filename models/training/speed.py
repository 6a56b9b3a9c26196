"""A short measurement of training: optimiser steps of a small batch on random tokens.

The fastest step counts: what else a machine does at the moment makes the others slower.
"""

import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

BATCH, BLOCK = 16, 64
SECONDS = 1.0
"""How long is measured."""
FLOPS_PER_WEIGHT = 6
"""Per token. Source: Kaplan et al. 2020, section 2.1."""


def measure_training(layers: int, width: int, vocabulary: int, device: str) -> float:
    """Measure the operations per second of training a Llama of a size, 6 per weight and token.

    Args:
        device: "cpu" or an accelerator that torch sees.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=-(-width * 8 // 3 // 16) * 16,
            num_hidden_layers=layers,
            num_attention_heads=1,
            max_position_embeddings=BLOCK,
            tie_word_embeddings=True,
        )
        model = LlamaForCausalLM(config).to(device)
        tokens = torch.randint(vocabulary, (BATCH, BLOCK), device=device)
    optimizer = torch.optim.AdamW(model.parameters())
    started = time.perf_counter()
    steps: list[float] = []
    while len(steps) < 3 or time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device != "cpu":
            torch.cuda.synchronize()
        steps.append(time.perf_counter() - before)
    weights: int = sum(parameter.numel() for parameter in model.parameters())
    return FLOPS_PER_WEIGHT * weights * BATCH * BLOCK / min(steps)
