"""The simulated annotator: its reader, its utility, its noise."""

import math
from typing import Any

import pytest

from models.errors import DataError
from models.evaluation.samples import Pair
from models.rows import text_of
from tasks.world.annotator import (
    Impression,
    SimulatedAnnotator,
    preference_probability,
    read,
    utility,
)
from tasks.world.families import known_prompts
from tasks.world.generate import World
from tasks.world.judge import judge

TONES = {"polite": 1, "neutral": 0, "rude": -1}


def said(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"]


def test_reader_and_gold_judge_agree_on_generated_completions(world: World) -> None:
    rows = [(row, "completion") for row in world.demonstrations]
    rows += [(row, side) for row in world.contrasts for side in ("chosen", "rejected")]
    for row, column in rows:
        prompt, completion = said(row["prompt"]), said(row[column])
        impression, judgement = read(prompt, completion), judge(prompt, completion, True)
        assert impression.correct == judgement.correct, (prompt, completion)
        assert impression.tone == TONES[judgement.tone], completion
        assert impression.fillers == judgement.fillers, completion


def test_reader_and_gold_judge_agree_on_every_prompt_of_the_world() -> None:
    for text, prompt in known_prompts().items():
        family = prompt.family
        values = {family.right(prompt.arguments)[-1]: True, family.lazy(prompt.arguments): False}
        for value, right in values.items():
            for wording in family.wordings:
                completion = family.sentence(wording, prompt.arguments, value)
                assert read(text, completion).correct is right, (text, completion)
                assert judge(text, completion, True).correct is right, (text, completion)


def test_reader_is_fooled_where_the_judge_is_not() -> None:
    # Words in any order please a skimming reader: this is what makes over-optimisation possible.
    prompt, garble = "What does a cow say?", "Thank you kind moo a cow thank you."
    assert read(prompt, garble) == Impression(correct=True, tone=1, fillers=0)
    assert not judge(prompt, garble, True).parsed


def test_reader_is_not_satisfied_by_a_completion_that_was_cut_off() -> None:
    prompt = "What does a cow say?"
    assert read(prompt, "A cow says moo.").correct
    assert not read(prompt, "A cow says moo. I could talk about").correct


@pytest.mark.parametrize(
    ("impression", "expected"),
    [
        (Impression(correct=True, tone=1, fillers=0), 3.0),  # 2 + 1
        (Impression(correct=True, tone=-1, fillers=1), 0.2),  # 2 - 1 - .8
        (Impression(correct=False, tone=1, fillers=0), 1.0),
        (Impression(correct=False, tone=-1, fillers=2), -2.6),  # -1 - 1.6
    ],
)
def test_utility_follows_its_formula(impression: Impression, expected: float) -> None:
    assert utility(impression) == pytest.approx(expected, abs=1e-12)


def test_preference_probability_follows_its_formula() -> None:
    best = Impression(correct=True, tone=1, fillers=0)
    neutral = Impression(correct=True, tone=0, fillers=0)
    wordy = Impression(correct=True, tone=1, fillers=1)
    # 1.5 * (3 - 2) = 1.5: 1 / (1 + e^-1.5) = 1 / 1.2231302 = .8175745
    assert preference_probability(best, neutral) == pytest.approx(0.8175745, abs=1e-6)
    assert preference_probability(neutral, best) == pytest.approx(0.1824255, abs=1e-6)
    # 1.5 * .8 = 1.2: 1 / (1 + e^-1.2) = 1 / 1.3011942 = .7685248
    assert preference_probability(best, wordy) == pytest.approx(0.7685248, abs=1e-6)
    assert preference_probability(best, best) == 0.5


def pairs_of(world: World) -> list[Pair]:
    """Two demonstrations of one prompt each, as two samples of one model would be."""
    latest: dict[str, Any] = {}
    pairs = []
    for row in world.demonstrations:
        prompt = said(row["prompt"])
        if prompt in latest and latest[prompt] != row["completion"]:
            pairs.append(Pair(prompt=row["prompt"], first=latest[prompt], second=row["completion"]))
        latest[prompt] = row["completion"]
    return pairs


def first_share(annotator: SimulatedAnnotator, pairs: list[Pair]) -> tuple[float, float, float]:
    """Share of pairs whose better one was chosen, the share expected, and the deviation of it.

    Expected by the formula of the probability, written here once more.
    """
    hits = expected = variance = 0.0
    rated = 0
    preferences = annotator.compare(pairs).preference.tolist()
    for pair, preference in zip(pairs, preferences, strict=True):
        assert preference in (0.0, 1.0)
        prompt = said(pair.prompt)
        worth = []
        for completion in (pair.first, pair.second):
            judgement = judge(prompt, said(completion), True)
            worth.append(2 * judgement.correct + TONES[judgement.tone] - 0.8 * judgement.fillers)
        if worth[0] == worth[1]:
            continue
        probability = 1 / (1 + math.exp(-1.5 * abs(worth[0] - worth[1])))
        rated += 1
        hits += preference == (worth[0] > worth[1])
        expected += probability
        variance += probability * (1 - probability)
    assert rated > 3_000
    return hits / rated, expected / rated, math.sqrt(variance) / rated


def test_annotator_is_as_accurate_as_its_noise_allows(world: World) -> None:
    share, expected, deviation = first_share(SimulatedAnnotator(seed=1), pairs_of(world))
    # Four standard deviations of a sum of independent coins.
    assert share == pytest.approx(expected, abs=4 * deviation)
    # Between .87 of a pool with ties and certainty; the noise is felt.
    assert 0.88 < expected < 0.96


def test_annotator_tosses_a_fair_coin_when_shuffled(world: World) -> None:
    share, _, _ = first_share(SimulatedAnnotator(seed=1, shuffle=True), pairs_of(world))
    # sqrt(.25 / 3000) = .0091; four of them.
    assert share == pytest.approx(0.5, abs=0.037)


def test_annotator_repeats_itself_whatever_else_is_asked(world: World) -> None:
    pairs = pairs_of(world)[:200]
    annotator = SimulatedAnnotator(seed=3)
    at_once = annotator.compare(pairs).preference
    rest = SimulatedAnnotator(seed=3).compare(pairs[120:]).preference
    other = SimulatedAnnotator(seed=4).compare(pairs).preference
    assert at_once[120:].tolist() == rest.tolist()
    assert at_once.tolist() != other.tolist()


def test_annotator_abstains_when_both_completions_are_the_same() -> None:
    same = Pair(prompt="What does a cow say?", first="Moo.", second="Moo.")
    (preference,) = SimulatedAnnotator(seed=0).compare([same]).preference
    assert math.isnan(preference)
    assert same.to_row(preference) is None


def test_rows_have_what_was_given_as_text_and_as_messages() -> None:
    good, bad = "Thank you for asking! A cow says moo.", "Not you again! A cow says woof."
    prompt = "What does a cow say?"
    plain = Pair(prompt=prompt, first=bad, second=good)
    chat = Pair(
        prompt=[{"role": "user", "content": prompt}],
        first=[{"role": "assistant", "content": bad}],
        second=[{"role": "assistant", "content": good}],
    )
    # 1.5 * (3 - -1) = 6: the better one is missed once in 400 times, and not with this seed.
    for pair, preference in zip(
        (plain, chat), SimulatedAnnotator(seed=0).compare([plain, chat]).preference, strict=True
    ):
        wanted = {"prompt": pair.prompt, "chosen": pair.second, "rejected": pair.first}
        assert pair.to_row(preference) == wanted
    assert plain.to_row(1.0) == {"prompt": prompt, "chosen": bad, "rejected": good}
    assert plain.to_row(0.5) is None


def test_annotator_describes_its_utility_and_noise_in_plain_values() -> None:
    assert SimulatedAnnotator(seed=5, shuffle=True).describe() == {
        "annotator": "simulated",
        "utility": "2 * correct + 1 * tone - 0.8 * fillers",
        "noise": "P(prefers A) = sigmoid(1.5 * (utility(A) - utility(B)))",
        "shuffle": True,
        "seed": 5,
    }


def test_text_of_messages_is_the_last_one_of_the_role() -> None:
    talk = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "reply"},
        {"role": "user", "content": "last"},
    ]
    assert text_of(talk, "user") == "last"
    assert text_of(talk, "assistant") == "reply"
    assert text_of("plain", "user") == "plain"
    with pytest.raises(DataError, match="no message of role 'system'"):
        text_of(talk, "system")
