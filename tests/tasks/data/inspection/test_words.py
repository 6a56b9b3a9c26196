"""Words, triples and the identity of texts against plain Python."""

import re

import numpy as np
import pytest

from tasks.data.inspection.words import LONGEST, identify, split_words, triples

TEXTS = ["Hello,  World again", "one two three four", "", " \n ", "ab", "naïve café", "中文好"]


def counts(texts: list[str]) -> list[int]:
    return split_words(texts).counts.tolist()


def test_words_are_runs_of_letters_marks_and_single_han_characters() -> None:
    # "hello" "," "world" "again"; four words; none; none; one; two; three characters.
    assert counts(TEXTS) == [4, 4, 0, 0, 1, 2, 3]
    assert counts(["don't", "3+4=7", "ภาษา", "हिन्दी भाषा", "snake_case"]) == [3, 5, 4, 2, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, World", "hello ,\n world"),
        ("STRASSE", "straße"),
        ("ﬁne", "fine"),  # a ligature, by NFKC
    ],
)
def test_texts_are_equal_whatever_their_case_and_spaces(one: str, other: str) -> None:
    first, second = identify(split_words([one, other])).tolist()
    assert first == second != 0


def test_texts_with_other_words_or_another_order_are_different() -> None:
    texts = ["3 + 4", "3 - 4", "4 + 3", "3 + 4 + 3", "34", "a b", "ab", "b a", "a", "A!"]
    found = identify(split_words(texts))
    assert len(set(found.tolist())) == len(texts)
    assert identify(split_words(["", " "])).tolist() == [0, 0]


def test_very_long_texts_are_known_by_their_beginning_and_length() -> None:
    long = "word " * (LONGEST // 5 + 1)  # of 100,005 characters
    one, same, longer = identify(
        split_words([long + "a", long.upper() + "A", long + "ab"])
    ).tolist()
    assert one == same != longer


def test_the_identity_of_a_text_does_not_depend_on_its_neighbours() -> None:
    together = identify(split_words(TEXTS)).tolist()
    assert together == [int(identify(split_words([text]))[0]) for text in TEXTS]


def test_triples_are_those_of_a_plain_loop() -> None:
    # Words as letters, so that a plain loop can count them.
    texts = ["a b c d e", "a b c", "a b", "a", "", "b c d e f"]
    found = triples(split_words(texts))
    names: dict[tuple[str, ...], set[int]] = {}
    for index, text in enumerate(texts):
        words = re.findall(r"\w", text)
        wanted = [tuple(words[i : i + 3]) for i in range(max(len(words) - 2, min(len(words), 1)))]
        assert found.counts[index] == len(wanted)
        for triple, number in zip(wanted, found.of(index).tolist(), strict=True):
            names.setdefault(triple, set()).add(number)
    assert all(len(numbers) == 1 for numbers in names.values())  # one number a triple
    assert len({number for numbers in names.values() for number in numbers}) == len(names)


def test_some_texts_are_taken_out_of_many() -> None:
    words = split_words(["a b", "", "c", "d e f"])
    taken = words.of_texts(np.array([True, True, False, True]))
    assert taken.counts.tolist() == [2, 0, 3]
    assert taken.of(2).tolist() == words.of(3).tolist()
    fewer = words.keep(np.array([False, True, True, True, False, False]))
    assert fewer.counts.tolist() == [1, 0, 1, 1]
