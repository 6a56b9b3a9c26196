"""Whether two models read the same tokens: one identity, used wherever ids pass between models."""

import json
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.language.folders import load_tokenizer

PARTS = ("model", "added_tokens", "normalizer", "pre_tokenizer")
"""What of a tokenizer.json decides the ids of a text."""


def tokenizer_identity(folder: Path) -> dict[str, Any]:
    """What decides the ids of texts and prompts, part by part.

    Raises:
        ModelError: The folder holds no tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    parts = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return {
        **{name: parts.get(name) for name in PARTS},
        "chat template": tokenizer.chat_template,
        "EOS": tokenizer.eos_token_id,
    }


def same_tokenizer(first: Path, second: Path) -> bool:
    """Whether two model folders give the same ids to the same text and prompt."""
    return first == second or tokenizer_identity(first) == tokenizer_identity(second)


def refuse_other_tokenizer(folder: Path, who: str, other: Path, whose: str, remedy: str) -> None:
    """Make sure that two models read the same tokens.

    Args:
        folder: Of the one model.
        who: What a message calls it.
        other: Folder of the other.
        whose: What a message calls that one.
        remedy: What to do about it.

    Raises:
        ModelError: They do not.
    """
    one, two = tokenizer_identity(folder), tokenizer_identity(other)
    unlike = [part for part in one if one[part] != two[part]]
    if unlike:
        raise ModelError(
            f"the {who} {folder} has another tokenizer than the {whose} (other "
            f"{', '.join(unlike)}); wanted the same, since both read the same token ids: {remedy}"
        )
