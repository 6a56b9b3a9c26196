"""PTX: the pretraining loss, mixed into the actor's own optimiser step.

It keeps what pretraining taught and reward does not ask for.

Source: Ouyang et al., Training language models to follow instructions (2022), equation 2. Their
coefficient of 27.8 made others diverge; start near 0.1.
"""

from typing import Any

import torch

from models.distributed.team import current_team
from models.language.sequences import Sequences, token_logprobs
from models.ppo.microbatches import microbatches
from models.training.blocks import BlockTable

BLOCK_TOKENS = 128


def ptx_backward(
    actor: Any,
    blocks: BlockTable,
    *,
    rows: int,
    coefficient: float,
    max_tokens: int,
    generator: torch.Generator,
) -> float:
    """Draw blocks and add the gradient of coefficient * mean next-token loss to the actor's.

    Every member of a team draws the same blocks and adds the gradient of its chunks.

    Args:
        blocks: (blocks, block) token ids of the corpus.
        rows: How many blocks to draw, with repetition.

    Returns:
        The loss, nats per token.
    """
    drawn = blocks[torch.randint(len(blocks), (rows,), generator=generator)].to(actor.device)
    count = torch.full((rows,), drawn.shape[1] - 1, device=drawn.device)
    sequences = Sequences(
        input_ids=drawn, prompt_lengths=torch.ones_like(count), completion_lengths=count
    )
    tokens = rows * (drawn.shape[1] - 1)
    total = 0.0
    for _, part, weight in microbatches(sequences, max_tokens):
        loss = -token_logprobs(actor, part).logprobs.sum() / tokens
        (weight * coefficient * loss).backward()  # type: ignore[no-untyped-call]
        total += weight * loss.item()
    return current_team().total(torch.tensor(total, dtype=torch.float64)).item()
