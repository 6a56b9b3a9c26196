"""The corpus as packed blocks, for pretraining and for PPO's pretraining mix."""

from pathlib import Path
from typing import Any

import torch

from models.errors import DataError
from models.language.tokenizer import encode_texts
from models.randomness import derive_seed
from models.rows import read_rows


def corpus_blocks(encoder: Any, path: Path, block_tokens: int, seed: int) -> torch.Tensor:
    """Shuffle documents, join them with EOS and cut (blocks, block) int64; the rest is dropped.

    Args:
        encoder: The tokenizer.
        path: Row file with `text`.
        block_tokens: Tokens of a block.
        seed: Root seed, of the shuffle.

    Raises:
        DataError: The corpus fills no block.
    """
    documents = encode_texts(encoder, [row["text"] for row in read_rows(path)])
    generator = torch.Generator().manual_seed(derive_seed(seed, "pretrain.documents"))
    stream: list[int] = []
    for index in torch.randperm(len(documents), generator=generator).tolist():
        stream += [*documents[index], encoder.eos_token_id]
    count = len(stream) // block_tokens
    if not count:
        raise DataError(
            f"{path} holds {len(stream)} tokens, wanted at least one block of {block_tokens}; "
            "give more text or lower block_tokens"
        )
    return torch.tensor(stream[: count * block_tokens]).view(count, block_tokens)
