"""A few prepared rows as a model sees them: tokens, which of them count, what was cut.

Without a model there are no tokens: then the pieces are words, and nothing is cut.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataError
from models.language.config import SamplingConfig, Turns
from models.reward.config import RewardStageConfig
from models.rows import Content, last_text, read_json
from models.training.config import SFTStageConfig
from tasks.data.formats import Collection
from tasks.data.inspection.records import TokenLimits

LOOKED_AT = 60
"""Rows of which those to show are chosen, so that a rare cut is among them."""

POSITIONS = ("max_position_embeddings", "n_positions")
"""What a model's context is called in config.json; the second is GPT-2's."""

_WORD = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A token or a word.

    Attributes:
        learned: Whether it counts in the loss.
        special: Whether it is a token of its own, such as EOS or a role.
    """

    text: str
    learned: bool
    special: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One sequence of a row.

    Attributes:
        name: text, completion, chosen, rejected or prompt.
        cut: Beginning of the prompt that the model does not see.
        cut_tokens: Its length.
    """

    name: str
    pieces: Sequence[Piece]
    cut: str = ""
    cut_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """One row.

    Attributes:
        heldout: Whether it is one of the held-out rows.
        number: Of the row among the prepared ones, from 1.
        dropped: Why training leaves it out; empty where it does not.
    """

    collection: Collection
    heldout: bool
    number: int
    sides: Sequence[Side]
    dropped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A model's tokenizer, completed as adoption does, and how much its training takes.

    Attributes:
        name: Of the model, as it was given.
        context: Most tokens that the model takes.
        limits: Most tokens of a row, by collection.
        turns: Of the assistant, those that demonstrations teach.
    """

    name: str
    folder: Path
    tokenizer: Any
    context: int
    limits: Mapping[Collection, int]
    turns: Turns

    def token_limits(self) -> TokenLimits:
        """What counts tokens in an inspection."""
        from models.language.tokenizer import encode_texts  # imports transformers

        return TokenLimits(
            encode=lambda texts: encode_texts(self.tokenizer, texts),
            sft=self.limits["demonstrations"],
            reward=self.limits["preferences"],
            prompts=self.limits["prompts"],
            context=self.context,
        )


def open_reader(
    folder: Path,
    name: str,
    *,
    sft: SFTStageConfig,
    reward: RewardStageConfig,
    sampling: SamplingConfig,
) -> Reader:
    """Read the tokenizer of a model folder.

    Raises:
        ModelError: It is damaged, or not one that training could use.
    """
    from models.adoption.adopt import complete_tokenizer  # imports torch
    from models.language.reading import read_tokenizer

    tokenizer = read_tokenizer(folder)
    complete_tokenizer(tokenizer)
    context = int(tokenizer.model_max_length)
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        stated = [config.get(name) for name in POSITIONS]
        context = min([context, *(one for one in stated if isinstance(one, int))])
    return Reader(
        name=name,
        folder=folder,
        tokenizer=tokenizer,
        context=context,
        limits={
            "corpus": context,
            "demonstrations": min(sft.max_tokens, context),
            "preferences": min(reward.max_tokens, context),
            "prompts": context - min(sampling.max_completion_tokens, context // 2),
        },
        turns=sft.turns,
    )


def show_rows(
    data: Path, collection: Collection, count: int, reader: Reader | None, turns: Turns = "all"
) -> list[ShownRow]:
    """Choose rows of a collection and show them, in their order.

    They are spread evenly over the file; up to a third of them are rows of which something is cut,
    and one is left out of training, where there are such.

    Args:
        data: Folder of prepared datasets.
        count: How many.
        reader: Of the model; None: words are shown.
        turns: Of the assistant, those that demonstrations teach; a reader has its own.

    Raises:
        ModelError: The model's chat template cannot be used.
    """
    heldout = not (data / f"{collection}_train.jsonl").stat().st_size
    path = data / f"{collection}_{'heldout' if heldout else 'train'}.jsonl"
    shown = [_shown(collection, heldout, *row, reader, turns) for row in _spread(path, LOOKED_AT)]
    left_out = [row for row in shown if row.dropped]
    cut = [row for row in shown if any(side.cut for side in row.sides)]
    chosen = [*cut[: max(count // 3, 1)], *left_out[:1]][:count]
    plain = [row for row in shown if row not in chosen and row not in left_out]
    wanted = min(count - len(chosen), len(plain))
    chosen += [plain[at * len(plain) // wanted] for at in range(wanted)]
    chosen += left_out[1 : 1 + count - len(chosen)]
    return sorted(chosen, key=lambda row: row.number)


def _spread(path: Path, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows at even distances, with their numbers."""
    with path.open(encoding="utf-8") as lines:
        rows = sum(1 for _ in lines)
    count = min(count, rows)
    wanted = {at * rows // count for at in range(count)}
    with path.open(encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            if index in wanted:
                yield index + 1, json.loads(line)


def _shown(
    collection: Collection,
    heldout: bool,
    number: int,
    row: dict[str, Any],
    reader: Reader | None,
    turns: Turns,
) -> ShownRow:
    dropped, sides = "", []
    if reader is None:
        sides = _words(collection, row, turns)
    else:
        try:
            sides, dropped = _tokens(collection, row, reader)
        except DataError as error:  # the chat template refuses it
            dropped = str(error)
    return ShownRow(
        collection=collection, heldout=heldout, number=number, sides=sides, dropped=dropped
    )


def _tokens(collection: Collection, row: dict[str, Any], reader: Reader) -> tuple[list[Side], str]:
    from models.language.tokenizer import encode_texts  # imports transformers
    from models.language.views import view_row

    limit, tokenizer = reader.limits[collection], reader.tokenizer
    view = view_row(tokenizer, collection, row, max_tokens=limit, turns=reader.turns)
    special = set(tokenizer.all_special_ids)
    return [
        Side(
            name=side.name,
            pieces=[
                Piece(text=one.text, learned=one.counts, special=special.issuperset(one.ids))
                for one in side.pieces
            ],
            cut=side.cut,
            cut_tokens=len(encode_texts(tokenizer, [side.cut])[0]) if side.cut else 0,
        )
        for side in view.sides
    ], view.dropped


def _words(collection: Collection, row: dict[str, Any], turns: Turns) -> list[Side]:
    if collection == "corpus":
        return [Side(name="text", pieces=_split(row["text"], learned=True))]
    prompt = _turns(row["prompt"], learned=collection == "demonstrations" and turns == "all")
    if collection == "prompts":
        return [Side(name="prompt", pieces=prompt)]
    columns = ("completion",) if collection == "demonstrations" else ("chosen", "rejected")
    return [
        Side(name=column, pieces=[*prompt, *_split(last_text(row[column]), learned=True)])
        for column in columns
    ]


def _turns(prompt: Content, *, learned: bool) -> list[Piece]:
    """The words of a prompt; each message begins with its role.

    Args:
        learned: Whether the assistant's turns are, but those of weight 0.
    """
    if isinstance(prompt, str):
        return _split(prompt, learned=False)
    pieces = []
    for message in prompt:
        pieces.append(Piece(text=f"{message['role']}: ", learned=False, special=True))
        counts = learned and message["role"] == "assistant" and "weight" not in message
        pieces += _split(message["content"], learned=counts)
        pieces.append(Piece(text="\n", learned=False, special=True))
    return pieces


def _split(text: str, *, learned: bool) -> list[Piece]:
    return [Piece(text=word, learned=learned) for word in _WORD.findall(text)]
