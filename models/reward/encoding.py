"""Preferences as the batch elements that a reward model learns from, tokenised once."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from models.language.encoded_rows import EncodedRows, encode_rows, token_type
from models.language.examples import encode_pairs, warn_of_dropped
from models.preference_shares import PreferenceShare
from models.rows import Row, prompt_key
from models.training.packed_trainers import batch_elements

ELEMENT = ("sequences", "chosen", "rejected", "margin", "tie")
"""What `batch_elements` makes."""


def encode_preferences(
    tokenizer: Any, path: Path, max_tokens: int, share: PreferenceShare, cache: Path, *,
    by_prompt: bool,
) -> EncodedRows:  # fmt: skip
    """Tokenise a file's pairs as batch elements; warn of dropped ones.

    Args:
        max_tokens: Most tokens of a side.
        share: Of the pairs, those to learn from.
        cache: Folder for what is made from this file, named after the file's contents.
        by_prompt: Whether an element has all pairs of a prompt, wherever they stand.

    Returns:
        The columns of `as_columns`; and counted `pairs`, `prompts`, `ties`, and `equal` and
        `too_long`, which were dropped.

    Raises:
        DataError: Nothing is left, or too little on one side of the split.
    """
    prompts: set[int] = set()

    def encode(rows: list[Row]) -> tuple[Mapping[str, list[Any]], dict[str, int]]:
        pairs = encode_pairs(tokenizer, rows, max_tokens, one_cut=by_prompt)
        seen = len(prompts)
        prompts.update(hash(prompt_key(rows[row])) for row in pairs.rows)
        return as_columns(batch_elements(pairs, by_prompt=by_prompt)), {
            **pairs.counts,
            "prompts": len(prompts) - seen,
        }

    learned = encode_rows(
        path,
        encode,
        {
            "sequences": pa.list_(token_type(tokenizer)),
            "chosen": pa.list_(pa.int32()),
            "rejected": pa.list_(pa.int32()),
            "margin": pa.list_(pa.float64()),
            "tie": pa.list_(pa.bool_()),
            "longest": pa.int32(),
            "tokens": pa.int32(),
        },
        tokenizer=tokenizer,
        settings={
            "max_tokens": max_tokens,
            "by_prompt": by_prompt,
            "share": asdict(share) if share.judge_share else None,  # else no seed matters
        },
        cache=cache,
        takes=share.takes,
        group=prompt_key if by_prompt else None,
    )
    counts = learned.counts
    share.check(counts["taken"], counts["others"])
    warn_of_dropped(path, counts, max_tokens, "reward")
    return learned


def as_columns(elements: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Arrange batch elements as columns, with `tokens` of each and those of its `longest` row."""
    lengths = [list(map(len, one["sequences"])) for one in elements]
    return {
        **{name: [one[name] for one in elements] for name in ELEMENT},
        "longest": list(map(max, lengths)),
        "tokens": list(map(sum, lengths)),
    }
