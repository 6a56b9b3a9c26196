"""A short measurement of training: optimiser steps of a small batch on random tokens.

The fastest step counts, and on a CPU its processor time: what else the machine does at the moment
should not be kept as its speed.
"""

import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

BATCH, BLOCK = 16, 64
WIDE = 512
SECONDS = 1.0
"""How long is measured."""
FLOPS_PER_WEIGHT = 6
"""Per token. Source: Kaplan et al. 2020, section 2.1."""


def measure_training(layers: int, width: int, vocabulary: int, device: str) -> float:
    """Measure the operations per second of training a Llama of a size, 6 per weight and token.

    Of a wide network one layer and a few tokens' embeddings are measured: they are as fast, and
    fit everywhere.

    Args:
        device: "cpu" or an accelerator that torch sees.
    """
    if width > WIDE:
        layers, vocabulary = 1, min(vocabulary, width)
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
        tokens = torch.randint(vocabulary, (BATCH, BLOCK)).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    on_cpu = device == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    started = time.perf_counter()
    steps: list[float] = []
    while len(steps) < 3 or time.perf_counter() - started < SECONDS:
        before = clock()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if not on_cpu:
            torch.cuda.synchronize()
        steps.append(clock() - before)
    weights: int = sum(parameter.numel() for parameter in model.parameters())
    threads = torch.get_num_threads() if on_cpu else 1  # whose times are summed, waiting included
    return FLOPS_PER_WEIGHT * weights * BATCH * BLOCK * threads / min(steps)
