"""Rules of quality: each with documents on both sides of its bound, counted by hand."""

import random

import pytest

from tasks.data.selection.config import SelectionConfig
from tasks.data.selection.rules import broken_rule, repeated_share, top_pair_share

CONFIG = SelectionConfig()
CAPTION = "A man in a blue shirt is standing on a ladder cleaning a window ."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CAPTION, ""),
        ("two dogs", "too few words"),
        ("", "too few words"),
        ("two dogs run", ""),
        ("a b c d e", "words too short or long"),  # mean 1, below 2
        ("antidisestablishmentarianism is good", ""),  # mean (28 + 2 + 4) / 3 = 11.3
        ("antidisestablishmentarianism was wonderful", "words too short or long"),  # 13.3
        ("12345 67890 abc abcd", "too few letters"),  # 7 of 17
        ("a1b2 c34d e567 fghi jklm nopq rstu", ""),  # 20 of 28 = 0.71, each word has a letter
        ("abcdefghij klm 12 345", "words without letters"),  # 13 of 18 letters; 2 of 4 words
        ("a warm , funny , engaging film .", ""),  # marks are no words
        ("two dogs . . .", "too few words"),
        ("* a single line may begin so", ""),
        ("one two three four five # seven eight", "too many symbols"),  # 1 in 7
        ("one two three four five six seven eight nine # eleven", ""),  # 1 in 10
        ("- one two three four\n* five six seven eight", "bullet points"),
        ("- one two three four\n* five six seven eight\nnine", ""),  # 2 of 3 lines, at most 0.9
        ("here it ends, and begins, and goes\nsome more words are here\nand so on and on…",
         "ellipses"),  # 1 of 3 lines, 1 symbol in 17 words
        ("here it ends, and begins, and goes, and does not end here…", ""),  # one line may
        ("the same line\nthe same line\nanother one", "repeated lines"),  # 1 of 3 repeats
        ("the same line\nanother line\nyet one more\nthe same line", ""),  # 1 of 4
    ],
)  # fmt: skip
def test_a_document_breaks_the_first_rule_that_it_does_not_keep(text: str, reason: str) -> None:
    assert broken_rule(text, CONFIG) == reason


def test_shares_of_repetition_are_counted_by_characters() -> None:
    # "ab cd" twice: 2 * 4 of 4 + 4 + 3 = 11 characters.
    assert top_pair_share(["ab", "cd", "ab", "cd", "xyz"]) == pytest.approx(8 / 11)
    assert top_pair_share(["a", "b", "c", "d"]) == 0.0  # no pair is met twice
    # Of equally frequent pairs the longest: "cd efg" (5), not "b cd" or "efg b".
    assert top_pair_share(["b", "cd", "efg", "b", "cd", "efg"]) == pytest.approx(10 / 12)
    # The run "a b c d e" comes back at the end: 5 of 11 characters.
    assert repeated_share(["a", "b", "c", "d", "e", "f", "a", "b", "c", "d", "e"]) == pytest.approx(
        5 / 11
    )
    assert repeated_share(["a", "b", "c", "d", "e", "f", "a", "b", "c", "d"]) == 0.0
    # Overlapping runs count each word once: "x" ten times, of which the first is no repetition.
    assert repeated_share(["x"] * 10) == pytest.approx(0.9)


def test_long_documents_are_looked_at_for_repeated_words() -> None:
    draw = random.Random(0)
    plain = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(60)]
    assert broken_rule(" ".join(plain), CONFIG) == ""
    again = [*plain[:50], *plain[10:20]]  # 10 of 60 words: above 0.15
    assert broken_rule(" ".join(again), CONFIG) == "repeated runs of words"
    pairs = ["so it"] * 20 + plain[:30]  # 80 of 80 + 180 characters
    assert broken_rule(" ".join(pairs), CONFIG) == "a repeated pair of words"
    assert broken_rule(" ".join(["so it"] * 20), CONFIG) == ""  # 40 words: too short to judge


def test_bounds_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValueError, match="min_words 9 exceeds max_words 8"):
        SelectionConfig(min_words=9, max_words=8)
    assert broken_rule("one two three four", SelectionConfig(max_words=3)) == "too many words"
    assert broken_rule("one two three four", SelectionConfig(max_words=0)) == ""
