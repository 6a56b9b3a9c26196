"""Rows of datasets as tokens: demonstrations for SFT, pairs for reward models.

A row that is too long loses the beginning of its prompt, never any of its completion. A row whose
completion alone leaves no room for a prompt is dropped and counted: cut, it would teach to end
without EOS.

In a conversation the assistant's earlier turns stand in the prompt. They are learned from like the
last one: each token of their contents, and EOS where the chat template writes it directly behind
them, as the model is to write it. Not learned from are a turn that lost its beginning, and one with
`weight` 0, which is how OpenAI's fine-tuning files exclude it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataError
from models.language.config import Turns
from models.language.frames import PromptTokens
from models.language.tokenizer import encode_completions, encode_prompts, lay_out_prompts
from models.rows import prompt_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """Tokenised rows.

    Attributes:
        prompts: Token ids, at least one each, possibly without their beginning.
        completions: Token ids, EOS last.
        turns: Of each prompt, the places of earlier turns to learn from: ids[start:end].
        dropped: Rows whose completion alone was too long.
    """

    prompts: list[list[int]]
    completions: list[list[int]]
    turns: list[list[tuple[int, int]]]
    dropped: int

    def loss_mask(self, row: int) -> list[bool]:
        """Which tokens of a row's prompt and completion count in the loss."""
        mask = [False] * len(self.prompts[row]) + [True] * len(self.completions[row])
        for start, end in self.turns[row]:
            mask[start:end] = [True] * (end - start)
        return mask


def encode_demonstrations(
    tokenizer: Any, rows: list[dict[str, Any]], max_tokens: int, turns: Turns = "all"
) -> Demonstrations:
    """Tokenise rows so that each fits, its completion whole and with EOS.

    Args:
        rows: With `prompt` and `completion`, both strings or both lists of messages.
        max_tokens: Most tokens of a row; at least one of them is the prompt's.
        turns: Whether the assistant's turns within a prompt are learned from too.
    """
    completions = encode_completions(tokenizer, [row["completion"] for row in rows])
    kept = [index for index, ids in enumerate(completions) if len(ids) < max_tokens]
    prompts = lay_out_prompts(
        tokenizer,
        [rows[index]["prompt"] for index in kept],
        [max_tokens - len(completions[index]) for index in kept],
    )
    return Demonstrations(
        prompts=[prompt.ids for prompt in prompts],
        completions=[completions[index] for index in kept],
        turns=[
            _written(prompt, rows[index]["prompt"]) if turns == "all" else []
            for index, prompt in zip(kept, prompts, strict=True)
        ],
        dropped=len(rows) - len(kept),
    )


def _written(prompt: PromptTokens, given: str | list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Where earlier turns of the assistant lie that are whole and not excluded."""
    if isinstance(given, str):
        return []
    return [
        (max(one.start, 1), one.end + one.closed)  # nothing predicts the very first token
        for one in prompt.contents
        if given[one.message]["role"] == "assistant"
        and given[one.message].get("weight") != 0
        and not one.cut
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Tokenised preferences; row i of each list belongs to one pair.

    Attributes:
        prompts: Token ids, the same before both completions.
        chosen: Completions, EOS last.
        rejected: Completions, EOS last.
        margins: By how much chosen is better; 0 where nothing is said, and of ties.
        ties: Whether neither completion is better; which one stands as chosen means nothing then.
        prompt_numbers: The same for pairs of one prompt, from 0.
        rows: Which row of the file each pair came from.
        equal: Rows dropped because both completions have the same tokens.
        too_long: Rows dropped because a completion alone was too long.
    """

    prompts: list[list[int]]
    chosen: list[list[int]]
    rejected: list[list[int]]
    margins: list[float]
    ties: list[bool]
    prompt_numbers: list[int]
    rows: list[int]
    equal: int
    too_long: int

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are, how many of them are ties, and how many were dropped."""
        return {
            "pairs": len(self),
            "ties": sum(self.ties),
            "equal": self.equal,
            "too_long": self.too_long,
        }

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The pairs with the `tokens` of both rows and those of the `longest`."""
        lengths = [
            [len(prompt) + len(completion) for completion in sides]
            for prompt, *sides in zip(self.prompts, self.chosen, self.rejected, strict=True)
        ]
        return {
            "prompt": self.prompts,
            "chosen": self.chosen,
            "rejected": self.rejected,
            "tie": self.ties,
            "longest": list(map(max, lengths)),
            "tokens": list(map(sum, lengths)),
        }

    @property
    def chosen_sequences(self) -> list[list[int]]:
        """Prompt and chosen completion."""
        return [p + c for p, c in zip(self.prompts, self.chosen, strict=True)]

    @property
    def rejected_sequences(self) -> list[list[int]]:
        """Prompt and rejected completion."""
        return [p + c for p, c in zip(self.prompts, self.rejected, strict=True)]

    @property
    def sequences(self) -> list[list[int]]:
        """Those of both sides, all chosen ones first."""
        return self.chosen_sequences + self.rejected_sequences


def warn_of_dropped(path: Path, counts: Mapping[str, int], max_tokens: int, stage: str) -> None:
    """Warn of a file's pairs that were dropped.

    Args:
        counts: Of `Pairs`.
        stage: Whose limit dropped what was too long.

    Raises:
        DataError: None is left.
    """
    kept, equal, too_long = (counts[name] for name in ("pairs", "equal", "too_long"))
    given = kept + equal + too_long
    if not kept:
        raise DataError(
            f"{path} has {given} pairs, {equal} of them with equal completions and "
            f"{too_long} too long for {max_tokens} tokens; wanted at least one to use: give "
            f"pairs that differ, or raise {stage}.max_tokens or the context"
        )
    if equal or too_long:
        logger.warning(
            "of %d pairs in %s, %d were dropped as equal and %d as too long for %d tokens",
            given, path, equal, too_long, max_tokens,
        )  # fmt: skip


def encode_pairs(
    tokenizer: Any, rows: list[dict[str, Any]], max_tokens: int, *, one_cut: bool = False
) -> Pairs:
    """Tokenise preferences so that both sides fit, completions whole and with EOS.

    Both sides see the same prompt: it is cut from the left to the room that the longer completion
    leaves.

    Args:
        max_tokens: Most tokens of a side; at least one of them is the prompt's.
        one_cut: Whether all pairs of a prompt see the same of it: what the longest of all their
            completions leaves room for.
    """
    chosen = encode_completions(tokenizer, [row["chosen"] for row in rows])
    rejected = encode_completions(tokenizer, [row["rejected"] for row in rows])
    longest = [max(len(c), len(r)) for c, r in zip(chosen, rejected, strict=True)]
    fitting = [index for index in range(len(rows)) if longest[index] < max_tokens]
    kept = [index for index in fitting if chosen[index] != rejected[index]]
    numbers: dict[str, int] = {}
    prompt_numbers = [numbers.setdefault(prompt_key(rows[index]), len(numbers)) for index in kept]
    taken = [longest[index] for index in kept]
    if one_cut:
        most = [0] * len(numbers)
        for number, tokens in zip(prompt_numbers, taken, strict=True):
            most[number] = max(most[number], tokens)
        taken = [most[number] for number in prompt_numbers]
    ties = [bool(rows[index].get("tie")) for index in kept]
    return Pairs(
        prompts=encode_prompts(
            tokenizer,
            [rows[index]["prompt"] for index in kept],
            [max_tokens - tokens for tokens in taken],
        ),
        chosen=[chosen[index] for index in kept],
        rejected=[rejected[index] for index in kept],
        margins=[
            0.0 if tie else float(rows[index].get("margin", 0.0))
            for index, tie in zip(kept, ties, strict=True)
        ],
        ties=ties,
        prompt_numbers=prompt_numbers,
        rows=kept,
        equal=len(fitting) - len(kept),
        too_long=len(rows) - len(fitting),
    )
