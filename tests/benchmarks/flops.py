"""How many FLOPs a PPO iteration needs, and how many this machine multiplies in a second.

    python tests/benchmarks/flops.py gemm --threads 2

The count, for rows of p prompt and c completion tokens, real tokens only:

    layers      2 * (4 * width^2 + 3 * width * feed_forward) * layers     a token
    attention   4 * width * layers                                 a pair of token and key,
                n * (n + 1) / 2 pairs for n tokens: causal
    head        2 * width * vocabulary                             a completion token

    forward(n)  n tokens through the layers and attention: twice the parameters without embedding
    sampling    forward(p + c - 1), head: each token is fed once, but for the last
    judging     actor, reference: forward(p + c - 1), head; critic: forward(p + c - 1);
                reward model: forward(p + c)
    training    an epoch: three times (backward is two forwards) the actor's and the critic's; twice
                where only adapters learn, for frozen weights have no gradients

Norms, softmax, optimiser and the score heads are left out: below a percent; so are adapters: of
rank 16 at width 576 they add a twentieth to the layers. Completions enter with their mean length,
which makes the attention a little smaller than it is: the floor stays a floor.
"""

import time
from collections.abc import Sequence

from quiet import child_arguments, emit, wait_for_quiet
from workloads import SIZES, Size, Workload

MATRIX = 1024
MEASURED_SECONDS = 3.0


def iteration_flops(
    workload: Workload, prompt_lengths: Sequence[int], completion_tokens: float
) -> float:
    """Count the FLOPs that one iteration needs.

    Args:
        workload: Gives the model.
        prompt_lengths: Of each row.
        completion_tokens: Of all rows together.
    """
    size = SIZES[workload.size]
    completion = completion_tokens / len(prompt_lengths)
    cut = sum(_forward(size, prompt + completion - 1) for prompt in prompt_lengths)
    whole = sum(_forward(size, prompt + completion) for prompt in prompt_lengths)
    head = 2.0 * size.width * size.vocabulary * completion_tokens
    actor, critic, reward_model = cut + head, cut, whole
    sampling = actor
    judging = 2 * actor + critic + reward_model
    passes = 3 if workload.lora_rank is None else 2
    training = workload.epochs * passes * (actor + critic)
    return sampling + judging + training


def pretraining_flops(size: Size, block_tokens: int) -> float:
    """Count the FLOPs that a token of a block needs: forward and backward, with the head."""
    return 3 * (_forward(size, block_tokens) / block_tokens + 2.0 * size.width * size.vocabulary)


def _forward(size: Size, tokens: float) -> float:
    layer = 4 * size.width**2 + 3 * size.width * size.feed_forward
    pairs = tokens * (tokens + 1) / 2
    return size.layers * (2.0 * layer * tokens + 4.0 * size.width * pairs)


def main() -> None:
    """Print the best rate of square fp32 matrices, in FLOPs a second (with one thread: of CPU)."""
    import torch

    arguments = child_arguments("Measure the rate of matrix multiplication.")
    torch.set_num_threads(arguments.threads)
    one, other = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
    if arguments.threads > 1:
        wait_for_quiet()
    best = float("inf")
    until = time.monotonic() + MEASURED_SECONDS
    while time.monotonic() < until:
        started = time.perf_counter()
        for _ in range(4):
            torch.mm(one, other)
        best = min(best, (time.perf_counter() - started) / 4)
    emit({"flops_per_second": 2 * MATRIX**3 / best})


if __name__ == "__main__":
    main()
