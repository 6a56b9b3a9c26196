"""Held-out prompts of a prepare stage, drawn for a measurement."""

import random
from pathlib import Path
from typing import Any

from models.errors import DataError
from models.rows import read_rows
from tasks.results.digests import canonical_json


def draw_heldout_prompts(path: Path, count: int, seed: int) -> list[Any]:
    """Draw different prompts, since intervals take prompts for independent.

    Args:
        path: Rows with `prompt`.
        count: At most as many as there are; all of them keep their order.
        seed: Of the draw.

    Raises:
        DataError: There are none.
    """
    different = {canonical_json(row["prompt"]): row["prompt"] for row in read_rows(path)}
    if not different:
        raise DataError(
            f"{path.name} holds no held-out prompts; measuring models needs some: give "
            "prompts_test, or raise data.heldout_fraction"
        )
    prompts = list(different.values())
    return prompts if count >= len(prompts) else random.Random(seed).sample(prompts, count)
