"""The generated datasets: disjoint, reproducible, complete in their words."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from models.errors import DataError
from tasks.world.config import WorldConfig
from tasks.world.facts import LADDER
from tasks.world.families import FAMILIES, index_prompts, known_prompts
from tasks.world.generate import World, generate_world
from tasks.world.judge import judge

SMALL = WorldConfig(
    documents=220, demonstrations=220, preferences=110, heldout_preferences=55, contrasts=22
)
KINDS = (
    "corpus",
    "demonstrations",
    "preferences",
    "heldout_preferences",
    "prompts",
    "heldout_prompts",
    "contrasts",
)
# As GPT-2 splits text before any merge: a word with the space before it, or one other sign.
WORD = re.compile(r"\n| ?[A-Za-z]+|[^A-Za-z ]")


def said(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"]


def asked(rows: list[dict[str, Any]]) -> set[str]:
    return {said(row["prompt"]) for row in rows}


def texts(world: World) -> Iterator[str]:
    """Every prompt and completion."""
    for kind in KINDS[1:]:
        for row in getattr(world, kind):
            for column in ("prompt", "completion", "chosen", "rejected"):
                if column in row:
                    yield said(row[column])


def as_bytes(world: World) -> bytes:
    return json.dumps([getattr(world, kind) for kind in KINDS]).encode()


def test_world_has_the_sizes_of_its_config(world: World) -> None:
    assert len(world.corpus) == 24_000
    assert len(world.demonstrations) == 9_000
    assert len(world.preferences) == 2_400
    assert len(world.heldout_preferences) == 600
    assert len(world.heldout_prompts) >= 512
    assert Counter(row["respect"] for row in world.contrasts) == {
        "correct": 110,
        "polite": 110,
        "brief": 110,
    }
    # Every prompt of the world stands on one side, once.
    assert len(world.prompts) + len(world.heldout_prompts) == len(known_prompts())


def test_rows_are_messages_without_further_columns(world: World) -> None:
    row = world.demonstrations[0]
    assert [list(message) for message in row["prompt"] + row["completion"]] == [
        ["role", "content"],
        ["role", "content"],
    ]
    assert row["prompt"][0]["role"] == "user"
    assert row["completion"][0]["role"] == "assistant"
    assert set(world.preferences[0]) == {"prompt", "chosen", "rejected"}
    assert set(world.prompts[0]) == {"prompt"}
    assert set(world.corpus[0]) == {"text"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_heldout_prompts_are_disjoint_from_all_training_rows(seed: int) -> None:
    world = generate_world(SMALL, seed)
    heldout = asked(world.heldout_prompts)
    for kind in ("demonstrations", "preferences", "prompts"):
        assert not heldout & asked(getattr(world, kind)), kind
    for kind in ("heldout_preferences", "contrasts"):
        assert asked(getattr(world, kind)) <= heldout, kind


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_split_is_disjoint_in_arguments_or_in_arguments_and_phrasing(seed: int) -> None:
    world = generate_world(SMALL, seed)
    sides = []
    for rows in (world.prompts, world.heldout_prompts):
        prompts = [known_prompts()[text] for text in sorted(asked(rows))]
        sides.append(
            {
                (p.family.name, p.arguments, p.phrasing * (p.family.held_out_by == "phrasing"))
                for p in prompts
            }
        )
    assert not sides[0] & sides[1]


def test_heldout_comparisons_are_never_trained_on_turned_round(world: World) -> None:
    sides = []
    for rows in (world.prompts, world.heldout_prompts):
        prompts = [known_prompts()[text] for text in asked(rows)]
        sides.append({frozenset(p.arguments) for p in prompts if p.family.name == "comparisons"})
    assert not sides[0] & sides[1]
    # 66 pairs of 12 animals; 0.25 * 66 = 16.5, which rounds to the even 16.
    assert (len(sides[0]), len(sides[1])) == (50, 16)


def sentences_of(world: World) -> set[str]:
    return {
        sentence
        for row in world.corpus
        for line in row["text"].split("\n")
        for sentence in re.split(r"(?<=[.!?]) ", line)
    }


def test_corpus_holds_no_heldout_prompt(world: World) -> None:
    assert not asked(world.heldout_prompts) & sentences_of(world)
    # And training prompts it does hold, so that the check above can fail.
    assert len(asked(world.prompts) & sentences_of(world)) > 1_500


def test_corpus_states_every_fact_also_of_heldout_arguments(world: World) -> None:
    text = "\n".join(row["text"] for row in world.corpus)
    for family in FAMILIES:
        for arguments in family.arguments:
            stated = {
                family.sentence(template, arguments, value)
                for template in family.plain_statements
                for value in family.right(arguments)
            }
            assert sum(sentence in text for sentence in stated) >= 2, (family.name, arguments)


def test_corpus_repeats_words_of_arguments_after_somebody(world: World) -> None:
    taught = [row["text"] for row in world.corpus if "The class says: " in row["text"]]
    said = [re.findall(r"The teacher says: (.*?)\. The class says: (.*?)\.", t) for t in taught]
    assert len(said) > 1_000
    assert all(first == second for pairs in said for first, second in pairs)


def test_corpus_holds_every_word_of_prompts_and_completions(world: World) -> None:
    corpus = Counter(word for row in world.corpus for word in WORD.findall(row["text"]))
    used = {word for text in texts(world) for word in WORD.findall(text)}
    # Twice at least, or a byte-pair merge could not make one token of it.
    assert {word for word in used if corpus[word] < 2} == set()
    assert len(corpus) < 1_200


def test_prompt_and_completion_fit_into_64_tokens(world: World) -> None:
    for rows in (world.demonstrations, world.contrasts, world.preferences):
        for row in rows:
            prompt = len(WORD.findall(said(row["prompt"])))
            for column in ("completion", "chosen", "rejected"):
                if column in row:
                    # Two role tokens and EOS are added.
                    assert prompt + len(WORD.findall(said(row[column]))) + 3 <= 64


def test_generation_is_the_same_bytes_when_seed_is_the_same() -> None:
    first, again = generate_world(SMALL, 7), generate_world(SMALL, 7)
    assert as_bytes(first) == as_bytes(again)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_generation_is_the_same_bytes_in_another_process(hash_seed: str) -> None:
    # Python orders sets of strings anew in every process, by PYTHONHASHSEED.
    program = (
        "import hashlib; from tasks.world.config import WorldConfig\n"
        "from tasks.world.generate import generate_world\n"
        f"world = generate_world(WorldConfig(**{SMALL.model_dump()!r}), 7)\n"
        f"rows = repr([getattr(world, kind) for kind in {KINDS!r}])\n"
        "print(hashlib.sha256(rows.encode()).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    here = generate_world(SMALL, 7)
    rows = repr([getattr(here, kind) for kind in KINDS])
    assert done.stdout.strip() == hashlib.sha256(rows.encode()).hexdigest()


def test_generation_differs_in_every_dataset_when_seed_differs() -> None:
    first, other = generate_world(SMALL, 7), generate_world(SMALL, 8)
    for kind in KINDS:
        assert getattr(first, kind) != getattr(other, kind), kind


@pytest.mark.parametrize("edited", ["sums", "opposites"])
def test_edit_of_one_family_moves_no_row_of_another(edited: str) -> None:
    families = tuple(
        replace(family, arguments=family.arguments[3:]) if family.name == edited else family
        for family in FAMILIES
    )
    before, after = generate_world(SMALL, 3), generate_world(SMALL, 3, families)
    for kind in KINDS[1:]:
        kept = [
            [
                row
                for row in getattr(world, kind)
                if known_prompts()[said(row["prompt"])].family.name != edited
            ]
            for world in (before, after)
        ]
        assert kept[0] == kept[1], kind
        assert getattr(before, kind) != getattr(after, kind), kind
    # Documents carry no family: of 220, the 220 / 11 = 20 of the edited one may differ.
    documents = [Counter(row["text"] for row in world.corpus) for world in (before, after)]
    assert (documents[0] & documents[1]).total() >= 200


def test_shuffling_changes_labels_of_ready_made_preferences_only() -> None:
    honest = generate_world(SMALL, 5)
    shuffled = generate_world(SMALL.model_copy(update={"shuffle_preferences": True}), 5)
    for kind in KINDS:
        if kind != "preferences":
            assert getattr(honest, kind) == getattr(shuffled, kind), kind
    turned = 0
    for row, other in zip(honest.preferences, shuffled.preferences, strict=True):
        assert row["prompt"] == other["prompt"]
        pair = [said(row["chosen"]), said(row["rejected"])]
        turned += pair != [said(other["chosen"]), said(other["rejected"])]
        assert sorted(pair) == sorted([said(other["chosen"]), said(other["rejected"])])
    # A fair coin turns half of 110: mean 55, standard deviation sqrt(110 / 4) = 5.2; 4 of them.
    assert 34 <= turned <= 76


def bounds(share: float, rows: int) -> tuple[int, int]:
    """The counts between which a binomial variable falls with probability above 1 - 1e-6."""
    mass = [
        math.exp(
            math.lgamma(rows + 1)
            - math.lgamma(k + 1)
            - math.lgamma(rows - k + 1)
            + k * math.log(share)
            + (rows - k) * math.log1p(-share)
        )
        for k in range(rows + 1)
    ]
    low, below = 0, 0.0
    while below + mass[low] < 5e-7:
        below += mass[low]
        low += 1
    high, above = rows, 0.0
    while above + mass[high] < 5e-7:
        above += mass[high]
        high -= 1
    return low, high


@pytest.mark.parametrize(("trait", "share"), [("correct", 0.75), ("polite", 0.57), ("brief", 0.77)])
def test_demonstrations_have_the_shares_of_the_config(
    world: World, trait: str, share: float
) -> None:
    low, high = bounds(share, len(world.demonstrations))
    judged = [judge(said(r["prompt"]), said(r["completion"]), True) for r in world.demonstrations]
    assert all(judgement.parsed for judgement in judged)
    assert low <= sum(getattr(judgement, trait) for judgement in judged) <= high


def test_fully_good_demonstrations_are_half_and_the_lucky_poor_ones(world: World) -> None:
    # Poor ones are correct in .5, polite in .14 and brief in .54 of the cases, each by itself:
    # .5 + .5 * .5 * .14 * .54 = .5189
    low, high = bounds(0.5189, len(world.demonstrations))
    judged = [judge(said(r["prompt"]), said(r["completion"]), True) for r in world.demonstrations]
    assert low <= sum(j.correct and j.polite and j.brief for j in judged) <= high


def test_wrong_definitions_are_lazy_in_three_of_four_cases(world: World) -> None:
    # The lazy mistake of this family is none of the random ones, so that it can be counted.
    wrong = [
        said(row["completion"])
        for row in world.demonstrations
        if known_prompts()[said(row["prompt"])].family.name == "definitions"
        and not judge(said(row["prompt"]), said(row["completion"]), True).correct
    ]
    assert len(wrong) > 100
    low, high = bounds(0.75, len(wrong))
    assert low <= sum("something or other" in text for text in wrong) <= high


def test_comparisons_name_the_bigger_animal_first_about_half_the_time() -> None:
    comparisons = next(family for family in FAMILIES if family.name == "comparisons")
    first = sum(LADDER.index(a) > LADDER.index(b) for a, b in comparisons.arguments)
    # Of the 66 pairs i < j below 12, those of an even sum are turned round: 2 * C(6, 2) = 30.
    assert (first, len(comparisons.arguments)) == (30, 66)


def test_contrasts_differ_in_the_stated_respect_only(world: World) -> None:
    for row in world.contrasts:
        chosen, rejected = (
            judge(said(row["prompt"]), said(row[column]), True) for column in ("chosen", "rejected")
        )
        assert chosen.parsed
        assert rejected.parsed
        differs = {
            "correct": chosen.correct != rejected.correct,
            "polite": chosen.tone != rejected.tone,
            "brief": chosen.fillers != rejected.fillers,
        }
        assert [name for name, different in differs.items() if different] == [row["respect"]]
        # And in the right direction.
        better = (chosen.correct, chosen.tone == "polite", -chosen.fillers)
        worse = (rejected.correct, rejected.tone == "polite", -rejected.fillers)
        assert better > worse


def test_index_of_prompts_is_refused_when_two_read_the_same() -> None:
    twin = replace(FAMILIES[0], name="twin")
    with pytest.raises(DataError, match=r"asked by sums .* and by twin"):
        index_prompts([FAMILIES[0], twin])


def test_split_is_refused_when_a_family_has_no_arguments() -> None:
    greetings = next(family for family in FAMILIES if family.name == "greetings")
    empty = replace(greetings, arguments=())
    with pytest.raises(DataError, match="family 'greetings' has 0 training and 0 held-out"):
        generate_world(SMALL, 0, [empty])


def test_config_refuses_a_share_below_that_of_the_good_ones() -> None:
    with pytest.raises(ValueError, match=r"share_polite 0\.4 is below share_good 0\.5"):
        WorldConfig(share_polite=0.4)


def test_config_refuses_pairs_of_completions_that_cannot_differ() -> None:
    shares = {"share_correct": 1.0, "share_polite": 1.0, "share_brief": 1.0}
    with pytest.raises(ValueError, match="no two completions differ in quality"):
        WorldConfig.model_validate(shares)
    WorldConfig.model_validate(shares | {"preferences": 0, "heldout_preferences": 0})
    WorldConfig.model_validate(shares | {"share_brief": 0.9})
