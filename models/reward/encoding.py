"""Preferences as the batch elements that a reward model learns from, tokenised once."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from models.errors import DataError
from models.language.encoded_rows import EncodedRows, encode_rows, token_type
from models.language.examples import encode_pairs
from models.preference_shares import PreferenceShare
from models.rows import Row, prompt_key
from models.training.packed_trainers import batch_elements

ELEMENT = ("sequences", "chosen", "rejected", "margin", "tie")
"""What `batch_elements` makes."""

logger = logging.getLogger(__name__)


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
            "pairs": len(pairs),
            "prompts": len(prompts) - seen,
            "ties": sum(pairs.ties),
            "equal": pairs.equal,
            "too_long": pairs.too_long,
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
    warn_of_dropped(path, counts["pairs"], counts["equal"], counts["too_long"], max_tokens)
    return learned


def as_columns(elements: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Arrange batch elements as columns, with `tokens` of each and those of its `longest` row."""
    lengths = [list(map(len, one["sequences"])) for one in elements]
    return {
        **{name: [one[name] for one in elements] for name in ELEMENT},
        "longest": list(map(max, lengths)),
        "tokens": list(map(sum, lengths)),
    }


def warn_of_dropped(path: Path, kept: int, equal: int, too_long: int, max_tokens: int) -> None:
    """Warn of pairs that were dropped; raise if none is left."""
    given = kept + equal + too_long
    if not kept:
        raise DataError(
            f"{path} has {given} pairs, {equal} of them with equal completions and "
            f"{too_long} too long for {max_tokens} tokens; wanted at least one to use: give "
            "pairs that differ, or raise reward.max_tokens or the context"
        )
    if equal or too_long:
        logger.warning(
            "of %d pairs in %s, %d were dropped as equal and %d as too long for %d tokens",
            given, path, equal, too_long, max_tokens,
        )  # fmt: skip
