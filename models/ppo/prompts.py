"""The prompts that PPO samples from: tokenised once, read where they lie."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from models.errors import DataError
from models.language.config import SamplingConfig
from models.language.encoded_rows import encode_rows, token_type
from models.language.generation import fit_prompts, room_for_prompts, warn_of_cut_prompts
from models.rows import Row


class Prompts(Sequence[list[int]]):
    """Token ids of each prompt, in a file that is mapped into memory."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        """Hold a column of lists of numbers."""
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, at: int) -> list[int]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[int]]: ...
    def __getitem__(self, at: int | slice) -> list[int] | list[list[int]]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        ids: list[int] = self._ids[at].as_py()
        return ids


def read_prompts(
    path: Path, tokenizer: Any, model: Any, sampling: SamplingConfig, cache: Path
) -> Prompts:
    """Encode a file's prompts so that the longest completion still fits the model's context.

    Prompts that are too long lose their beginning, and a warning says how many.

    Args:
        cache: Folder for what is made from this file, named after the file's contents.

    Raises:
        DataError: There are none.
        ParameterError: The longest completion leaves no room for any prompt.
    """
    room = room_for_prompts(model, sampling)

    def encode(rows: list[Row]) -> tuple[Mapping[str, Sequence[Any]], dict[str, int]]:
        ids, whole = fit_prompts(tokenizer, [row["prompt"] for row in rows], room)
        return {"ids": ids, "whole": whole}, {}

    types = {"ids": token_type(tokenizer), "whole": pa.int32()}
    encoded = encode_rows(
        path, encode, types, tokenizer=tokenizer, settings={"room": room}, cache=cache
    )
    if not len(encoded.rows):
        raise DataError(f"{path.name} holds no prompts; PPO needs at least one to sample from")
    warn_of_cut_prompts(encoded.numbers("whole"), room, model)
    return Prompts(encoded.rows.data.column("ids"))
