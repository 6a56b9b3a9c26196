"""Whether a document is worth training on, judged by itself: length, letters, repetition.

The first rule that a document breaks is the reason why it is dropped. A word is what stands between
white space and has a letter or digit. What differs from the paper: marks of punctuation that stand
alone are no words, since many corpora come so; the bounds are fields; no stop words are wanted,
since languages differ; the share of some lines is looked at where there are several; and of the
rules on repeated lines, paragraphs and runs of words three are kept.

Source: Rae et al., Scaling Language Models: Gopher (2021), appendix A.1.1 and table A1.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from tasks.data.selection.config import SelectionConfig

_BULLET = re.compile(r"\s*[•‣◦▪*\-–—]\s")
_ELLIPSES = ("...", "…")
FIVE = 5


def broken_rule(text: str, config: SelectionConfig) -> str:
    """Name the first rule that a document breaks; empty if it keeps all."""
    words = [word for word in text.split() if any(map(str.isalnum, word))]
    lines = [line for line in text.splitlines() if line.strip()]
    if len(words) < max(1, config.min_words):
        return "too few words"
    if config.max_words and len(words) > config.max_words:
        return "too many words"
    length = sum(map(len, words)) / len(words)
    if not config.min_word_length <= length <= config.max_word_length:
        return "words too short or long"
    shares: tuple[tuple[str, Callable[[], float], float], ...] = (
        ("too few letters", lambda: -_letters(text), -config.min_letters),
        ("words without letters", lambda: -_lettered(words), -config.min_words_with_letters),
        ("too many symbols", lambda: _symbols(text) / len(words), config.max_symbols),
        ("bullet points", lambda: _share(lines, _is_bullet), config.max_bullet_lines),
        ("ellipses", lambda: _share(lines, _is_unended), config.max_ellipsis_lines),
        ("repeated lines", lambda: 1 - len(set(lines)) / len(lines), config.max_repeated_lines),
    )
    if len(words) >= config.repetition_words:
        shares += (
            ("a repeated pair of words", lambda: top_pair_share(words), config.max_top_pair),
            ("repeated runs of words", lambda: repeated_share(words), config.max_repeated_fives),
        )
    return next((reason for reason, measure, most in shares if measure() > most), "")


def top_pair_share(words: Sequence[str]) -> float:
    """Share of the characters of words that stand in the pair of words met most often."""
    pairs = Counter(pairwise(words))
    pair, count = max(pairs.items(), key=lambda one: (one[1], sum(map(len, one[0]))))
    return count * sum(map(len, pair)) / sum(map(len, words)) if count > 1 else 0.0


def repeated_share(words: Sequence[str], run: int = FIVE) -> float:
    """Share of the characters that stand in runs of so many words which repeat earlier ones."""
    seen: set[tuple[str, ...]] = set()
    repeated = [False] * len(words)
    for at in range(len(words) - run + 1):
        one = tuple(words[at : at + run])
        if one in seen:
            repeated[at : at + run] = [True] * run
        seen.add(one)
    characters = sum(len(word) for word, again in zip(words, repeated, strict=True) if again)
    return characters / sum(map(len, words))


def _letters(text: str) -> float:
    joined = "".join(text.split())
    return sum(map(str.isalpha, joined)) / len(joined)


def _lettered(words: Sequence[str]) -> float:
    return sum(any(map(str.isalpha, word)) for word in words) / len(words)


def _symbols(text: str) -> int:
    return sum(map(text.count, ("#", *_ELLIPSES)))


def _is_bullet(line: str) -> bool:
    return _BULLET.match(line) is not None


def _is_unended(line: str) -> bool:
    return line.rstrip().endswith(_ELLIPSES)


def _share(lines: Sequence[str], which: Callable[[str], bool]) -> float:
    return sum(map(which, lines)) / len(lines) if len(lines) > 1 else 0.0
