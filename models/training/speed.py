"""A short measurement of learning and sampling, on random tokens and a small piece of a network.

The fastest step counts, and on a CPU its processor time: what else the machine does at the moment
should not be kept as its speed.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.language.config import SamplingConfig
from models.language.generation import sample_completions
from models.runtime import computes_mixed

BATCH, BLOCK = 16, 64
SAMPLED_ROWS, SAMPLED_TOKENS = 64, 16
WIDE, WIDEST = 512, 1024
"""Beyond the one a single layer is measured, which is as fast; beyond the other a narrower one."""
SECONDS = 1.0
"""How long each is measured."""
FLOPS_PER_WEIGHT = 6
"""Per token learned from, 2 per token sampled. Source: Kaplan et al. 2020, section 2.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Operations per second, 6 for each weight and token that is learned from and 2 for others."""

    training: float
    sampling: float


def measure_speeds(
    *, layers: int, width: int, feed_forward: int, vocabulary: int, device: str
) -> Speeds:
    """Measure how fast a Llama of a size learns and samples.

    Args:
        device: "cpu" or an accelerator that torch sees.
    """
    if width > WIDE:
        layers, vocabulary = 1, min(vocabulary, width)
    if width > WIDEST:
        feed_forward, width = feed_forward * WIDEST // width, WIDEST
        vocabulary = min(vocabulary, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=feed_forward,
            num_hidden_layers=layers,
            num_attention_heads=1,
            max_position_embeddings=BLOCK,
            tie_word_embeddings=True,
        )
        model = LlamaForCausalLM(config).to(device)
        tokens = torch.randint(vocabulary, (BATCH, BLOCK)).to(device)
    weights: int = sum(parameter.numel() for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters())

    def learn() -> None:
        with _half(device):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def draw() -> None:
        with _half(device):
            sample_completions(
                model,
                [[1]] * SAMPLED_ROWS,
                sampling=SamplingConfig(max_completion_tokens=SAMPLED_TOKENS),
                eos_token_id=-1,
                generator=torch.Generator().manual_seed(0),
            )

    return Speeds(
        training=FLOPS_PER_WEIGHT * weights * BATCH * BLOCK / _fastest(learn, device),
        sampling=2 * weights * SAMPLED_ROWS * SAMPLED_TOKENS / _fastest(draw, device),
    )


def _half(device: str) -> Any:
    """As trainers compute where precision is left open."""
    mixed = computes_mixed(device, "auto")
    return torch.autocast("cuda", dtype=torch.bfloat16) if mixed else nullcontext()


def _fastest(step: Callable[[], None], device: str) -> float:
    """Seconds of the fastest of several steps."""
    on_cpu = device == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    started = time.perf_counter()
    steps: list[float] = []
    while len(steps) < 3 or time.perf_counter() - started < SECONDS:
        before = clock()
        step()
        if not on_cpu:
            torch.cuda.synchronize()
        steps.append(clock() - before)
    threads = torch.get_num_threads() if on_cpu else 1  # whose times are summed, waiting included
    return min(steps) / threads
