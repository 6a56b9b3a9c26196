"""One row of a dataset as a model sees it: its tokens, which of them count, and what was cut.

For people who want to see what training will do with their rows. The tokens are those of
`examples`, from which training learns; nothing is tokenised here a second way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tokenizers.decoders import DecodeStream

from models.language.config import Turns
from models.language.examples import encode_demonstrations, encode_pairs
from models.language.frames import ChatFrames
from models.language.tokenizer import encode_contents, encode_prompts, encode_texts, lay_out_prompts

Collection: TypeAlias = Literal["corpus", "demonstrations", "preferences", "prompts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The shortest run of tokens that spells whole characters.

    Attributes:
        counts: Whether the tokens count in the loss. Of a preference, where the loss is of whole
            sides, those of the completion; of a prompt none, since the model continues it.
    """

    ids: list[int]
    text: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One sequence of a row.

    Attributes:
        name: text, completion, chosen, rejected or prompt.
        cut: The part of the prompt that the model does not see, "" where it sees all. Of messages
            that were left out, each in a line of its own after its role.
    """

    name: str
    cut: str
    pieces: list[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """A row as the model sees it.

    Attributes:
        sides: Two of a preference, one of others, none of a row that is dropped.
        dropped: Why training leaves the row out, "" where it does not.
    """

    sides: list[Side]
    dropped: str


def view_row(
    tokenizer: Any,
    collection: Collection,
    row: dict[str, Any],
    *,
    max_tokens: int,
    turns: Turns = "all",
) -> RowView:
    """Show one row of a dataset as training encodes it.

    Args:
        row: Of the collection's canonical columns.
        max_tokens: Most tokens of a row of the stage that reads it; of prompts, most tokens of a
            prompt. A corpus has no limit: its texts are joined and cut into blocks.
        turns: Of the assistant, those that demonstrations teach.

    Raises:
        ModelError: The row has messages, but the tokenizer has no usable chat template.
        DataError: The chat template refuses the messages.
    """
    if collection == "corpus":
        ids = [*encode_texts(tokenizer, [row["text"]])[0], tokenizer.eos_token_id]
        return _view(tokenizer, [("text", "", ids, [True] * len(ids))])
    if collection == "prompts":
        (ids,) = encode_prompts(tokenizer, [row["prompt"]], max_tokens)
        cut = _cut_text(tokenizer, row["prompt"], len(ids))
        return _view(tokenizer, [("prompt", cut, ids, [False] * len(ids))])
    if collection == "demonstrations":
        learned = encode_demonstrations(tokenizer, [row], max_tokens, turns)
        if learned.dropped:
            return _dropped(f"its completion alone fills {max_tokens} tokens")
        (prompt,), (completion,) = learned.prompts, learned.completions
        cut = _cut_text(tokenizer, row["prompt"], len(prompt))
        return _view(tokenizer, [("completion", cut, prompt + completion, learned.loss_mask(0))])
    pairs = encode_pairs(tokenizer, [row], max_tokens)
    if pairs.too_long:
        return _dropped(f"a completion alone fills {max_tokens} tokens")
    if pairs.equal:
        return _dropped("chosen and rejected have the same tokens")
    (prompt,) = pairs.prompts
    cut = _cut_text(tokenizer, row["prompt"], len(prompt))
    sides = [("chosen", pairs.chosen[0]), ("rejected", pairs.rejected[0])]
    return _view(
        tokenizer,
        [
            (name, cut, prompt + ids, [False] * len(prompt) + [True] * len(ids))
            for name, ids in sides
        ],
    )


def _view(tokenizer: Any, sides: list[tuple[str, str, list[int], list[bool]]]) -> RowView:
    return RowView(
        sides=[
            Side(name=name, cut=cut, pieces=list(_pieces(tokenizer, ids, mask)))
            for name, cut, ids, mask in sides
        ],
        dropped="",
    )


def _dropped(reason: str) -> RowView:
    return RowView(sides=[], dropped=reason)


def _pieces(tokenizer: Any, ids: list[int], mask: list[bool]) -> Iterator[Piece]:
    """Spell tokens in order; one that ends within a character waits for the next."""
    stream = DecodeStream(skip_special_tokens=False)
    waiting: list[int] = []
    for at, token in enumerate(ids):
        text = stream.step(tokenizer.backend_tokenizer, token)
        waiting.append(token)
        if text is not None or at + 1 == len(ids) or mask[at + 1] != mask[at]:
            yield Piece(ids=waiting, text=text or tokenizer.decode(waiting), counts=mask[at])
            waiting = []


def _cut_text(tokenizer: Any, prompt: str | list[dict[str, Any]], tokens: int) -> str:
    """Spell what is missing of a prompt that was shortened to so many tokens."""
    (kept,) = lay_out_prompts(tokenizer, [prompt], tokens)
    contents = encode_contents(tokenizer, [prompt], ChatFrames(tokenizer))
    cut = {one.message: one.cut for one in kept.contents}
    missing: list[str] = [
        tokenizer.decode(ids[: cut.get(index, len(ids))]) for index, ids in enumerate(contents)
    ]
    if isinstance(prompt, str):
        return missing[0]
    lines = zip(prompt, missing, strict=True)
    return "\n".join(f"{message['role']}: {text}" for message, text in lines if text)
