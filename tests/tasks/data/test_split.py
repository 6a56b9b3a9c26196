"""The split by content: disjoint, complete, the same in any order."""

import hashlib
import random
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.formats import Collection, Row
from tasks.data.split import content_key, group_key, hashed, held_out

rows_of_few_prompts = st.lists(
    st.builds(
        lambda prompt, completion: {"prompt": prompt, "completion": completion},
        st.text(max_size=2),
        st.text(max_size=2),
    ),
    max_size=40,
)
fractions = st.floats(0.01, 0.5)


class Sides(NamedTuple):
    train: list[Row]
    heldout: list[Row]


def split_rows(collection: Collection, rows: list[Row], fraction: float) -> Sides:
    keys = np.array([hashed(group_key(collection, row)) for row in rows], np.uint64)
    held = held_out(keys, fraction)
    return Sides(
        [row for row, is_held in zip(rows, held, strict=True) if not is_held],
        [row for row, is_held in zip(rows, held, strict=True) if is_held],
    )


def prompts(rows: list[Row]) -> set[str]:
    return {row["prompt"] for row in rows}


@given(rows_of_few_prompts, fractions)
def test_split_is_complete_and_disjoint_by_prompt(rows: list[Row], fraction: float) -> None:
    sides = split_rows("demonstrations", rows, fraction)
    assert not prompts(sides.train) & prompts(sides.heldout)
    # Together they are the rows, each side in the order of the rows.
    train, heldout = iter(sides.train), iter(sides.heldout)
    held = prompts(sides.heldout)
    assert [next(heldout if row["prompt"] in held else train) for row in rows] == rows
    assert next(train, None) is None
    assert next(heldout, None) is None


@given(rows_of_few_prompts, fractions)
def test_split_leaves_no_side_empty_when_there_are_two_prompts(
    rows: list[Row], fraction: float
) -> None:
    sides = split_rows("demonstrations", rows, fraction)
    assert bool(sides.train) == bool(rows)
    assert bool(sides.heldout) == (len(prompts(rows)) > 1)


@given(rows_of_few_prompts, fractions, st.randoms(use_true_random=False))
def test_split_is_stable_under_row_order(
    rows: list[Row], fraction: float, order: random.Random
) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)
    there, here = (split_rows("demonstrations", each, fraction) for each in (rows, shuffled))
    assert prompts(there.heldout) == prompts(here.heldout)


def test_split_holds_out_about_the_fraction_and_more_rows_move_none() -> None:
    rows: list[Row] = [{"text": f"text {number}"} for number in range(4000)]
    sides = split_rows("corpus", rows, 0.05)
    # Binomial(4000, .05): mean 200, standard deviation 13.8; five of them are 69.
    assert 131 <= len(sides.heldout) <= 269
    half = split_rows("corpus", rows[:2000], 0.05)
    assert half.heldout == [row for row in sides.heldout if row in rows[:2000]]


def test_split_threshold_is_the_sha256_of_the_canonical_text() -> None:
    # By hand: the key is JSON, the position its first eight digest bytes as a fraction of 2**64.
    digest = hashlib.sha256('"é b"'.encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    rows: list[Row] = [{"prompt": "é b"}, *({"prompt": str(number)} for number in range(50))]
    above, below = position + 1e-9, position - 1e-9
    assert "é b" in prompts(split_rows("prompts", rows, above).heldout)
    assert "é b" not in prompts(split_rows("prompts", rows, below).heldout)


def test_split_holds_out_the_lowest_hash_when_none_is_below_the_fraction() -> None:
    names = [f"prompt {number}" for number in range(5)]
    lowest = min(names, key=lambda name: hashlib.sha256(f'"{name}"'.encode()).hexdigest())
    sides = split_rows("prompts", [{"prompt": name} for name in names], 1e-9)
    assert prompts(sides.heldout) == {lowest}


def test_split_trains_on_the_highest_hash_when_all_are_below_the_fraction() -> None:
    names = [f"prompt {number}" for number in range(5)]
    highest = max(names, key=lambda name: hashlib.sha256(f'"{name}"'.encode()).hexdigest())
    sides = split_rows("prompts", [{"prompt": name} for name in names], 1 - 1e-9)
    assert prompts(sides.train) == {highest}


def test_split_puts_a_prompt_on_the_same_side_in_every_collection() -> None:
    names = [f"prompt {number}" for number in range(300)]
    demonstrations = split_rows(
        "demonstrations", [{"prompt": name, "completion": "c"} for name in names], 0.1
    )
    pairs = split_rows(
        "preferences", [{"prompt": name, "chosen": "c", "rejected": "r"} for name in names], 0.1
    )
    asked = split_rows("prompts", [{"prompt": name} for name in names], 0.1)
    assert prompts(demonstrations.heldout) == prompts(pairs.heldout) == prompts(asked.heldout)


def test_keys_of_messages_ignore_the_order_of_fields() -> None:
    one = {"prompt": [{"role": "user", "content": "é"}]}
    other = {"prompt": [{"content": "é", "role": "user"}]}
    assert group_key("prompts", one) == group_key("prompts", other)


def test_content_key_of_a_pair_is_the_same_in_both_directions() -> None:
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    turned = {"prompt": "p", "chosen": "b", "rejected": "a"}
    assert content_key("preferences", pair) == content_key("preferences", turned)
    assert content_key("preferences", pair) != content_key("preferences", pair | {"prompt": "q"})
