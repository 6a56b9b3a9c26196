"""The space that some tokenizers put before a text, and texts in the midst without it.

SentencePiece and its descendants (Llama-2, TinyLlama, Mistral) begin a text with a space that it
does not have. Where a text is encoded piece by piece, only its first piece may get one.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import torch
from tokenizers import Tokenizer

from models.progress import told
from models.token_files import plain_backend

AddedSpace: TypeAlias = Literal["never", "first", "always"]

AT_ONCE = 64
"""Texts that one thread encodes at once."""

_INSIDE: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()
"""Of tokenizers, their libraries' objects that put no space before a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """How a text is joined to what stands before it, by a tokenizer that puts spaces before texts.

    Attributes:
        lead: A space of the template's that is part of the text's first token.
        begins: Whether the text gets the tokenizer's own space, if it has one.
    """

    lead: str = ""
    begins: bool = True


def added_space(tokenizer: Any) -> AddedSpace:
    """Where a tokenizer puts a space that no text has, as SentencePiece does.

    Returns:
        "never"; "first", before a text; or "always", behind each added token in it too.
    """
    steps = [one for part in _steps(tokenizer.backend_tokenizer).values() for one in part]
    if any(
        one["type"] == "Prepend"
        or one.get("add_prefix_space")
        or one.get("prepend_scheme") == "always"
        for one in steps
    ):
        return "always"
    return "first" if any(one.get("prepend_scheme") == "first" for one in steps) else "never"


def _steps(backend: Any) -> dict[str, list[dict[str, Any]]]:
    """What a text goes through before it is cut into tokens, each part's steps in order."""
    parts = {"normalizer": backend.normalizer, "pre_tokenizer": backend.pre_tokenizer}
    return {
        name: _flat(json.loads(part.__getstate__()))
        for name, part in parts.items()
        if part is not None
    }


def _flat(step: dict[str, Any]) -> list[dict[str, Any]]:
    inner = step.get("normalizers", step.get("pretokenizers"))
    return [step] if inner is None else [part for one in inner for part in _flat(one)]


def encode_joined(tokenizer: Any, texts: Sequence[str], joins: Sequence[Join]) -> list[list[int]]:
    """Encode texts, each joined to what is before it; no part becomes a special token."""
    pairs = list(zip(joins, texts, strict=True))
    begun = [one.lead + text for one, text in pairs if one.begins]
    inner = [one.lead + text for one, text in pairs if not one.begins]
    if inner:
        _inside_backend(tokenizer, special=False)  # made once, not on each thread
    found = {
        True: iter(_on_threads(partial(_encode_plainly, plain_backend(tokenizer)), begun)),
        False: iter(_on_threads(partial(encode_inside, tokenizer), inner) if inner else []),
    }
    return [next(found[one.begins]) for one in joins]


def decode_joined(
    tokenizer: Any, token_ids: Sequence[Sequence[int]], joins: Sequence[Join]
) -> list[str]:
    """Decode texts, each joined to what is before it: `encode_joined` the other way round.

    Libraries take a space at the beginning for the tokenizer's own; here it may be the text's.
    """
    before: list[int] = []
    if added_space(tokenizer) != "never":
        before = plain_backend(tokenizer).encode("a", add_special_tokens=False).ids
    decode = partial(tokenizer.decode, clean_up_tokenization_spaces=False)
    start = len(decode(before))
    texts = []
    for ids, join in zip(token_ids, joins, strict=True):
        text: str = decode([*before, *ids])[start:]
        own = " " if before and join.begins else ""
        texts.append(text.removeprefix(own).removeprefix(join.lead))
    return texts


def _encode_plainly(backend: Any, texts: Sequence[str]) -> list[list[int]]:
    encoded = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [one.ids for one in encoded]


def _on_threads(
    encode: Callable[[Sequence[str]], list[list[int]]], texts: Sequence[str]
) -> list[list[int]]:
    parts = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
    if len(parts) < 2:
        return encode(texts)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = told(pool.map(encode, parts), "tokenising", len(parts), f"times {AT_ONCE} texts")
        return [ids for part in found for ids in part]


def encode_inside(
    tokenizer: Any, texts: Sequence[str], *, special: bool = False
) -> list[list[int]]:
    """Encode texts that another text stands before: without the space of the beginning.

    Args:
        special: Whether the names of special tokens become these.
    """
    backend = _inside_backend(tokenizer, special=special)
    added = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}
    again = added_space(tokenizer) == "always"
    found = []
    encoded = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    for text, ids in zip(texts, (one.ids for one in encoded), strict=True):
        cut = next((at for at, token in enumerate(ids) if again and token in added), None)
        if cut is not None:  # what is behind an added token has the space again
            start = backend.encode(text, add_special_tokens=False).offsets[cut][0]
            ids = ids[:cut] + _encode_whole(tokenizer, text[start:], special)
        found.append(ids)
    return found


def _encode_whole(tokenizer: Any, text: str, special: bool) -> list[int]:
    ids: list[int]
    if special:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        ids = plain_backend(tokenizer).encode(text, add_special_tokens=False).ids
    return ids


def _inside_backend(tokenizer: Any, *, special: bool) -> Any:
    """A copy of a tokenizer's own library's object without the space, kept with the tokenizer."""
    backend = tokenizer.backend_tokenizer
    steps = _steps(backend)
    state = (special, str(steps), str(backend.get_added_tokens_decoder()))
    kept = _INSIDE.setdefault(tokenizer, {})
    if state not in kept:
        spec = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
        lists = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}
        for name, part in steps.items():
            left = [_without_space(one) for one in part if one["type"] != "Prepend"]
            spec[name] = {"type": "Sequence", lists[name]: left}
        made = Tokenizer.from_str(json.dumps(spec))
        made.encode_special_tokens = not special
        kept[state] = made
    return kept[state]


def _without_space(step: dict[str, Any]) -> dict[str, Any]:
    without = {"prepend_scheme": "never", "add_prefix_space": False}
    return step | {name: value for name, value in without.items() if name in step}
