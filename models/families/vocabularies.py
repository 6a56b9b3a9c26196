"""How a tokenizer's vocabulary is learned: byte-level BPE, WordPiece or Unigram.

What differs from the papers: all three work on bytes behind the same cut into words, so no text is
unknown and every text comes back exactly. BERT's WordPiece lowercases, cuts at punctuation and
has an unknown token; T5's and ALBERT's Unigram works on characters. Unigram's pieces are those of
the library's trainer, but its scores, which differ from run to run in the second digit, are counted
here: each piece's share of the tokens in the best segmentation of the corpus (hard EM).

Sources: Sennrich et al., Neural machine translation of rare words with subword units (2016), for
BPE; Schuster and Nakajima, Japanese and Korean voice search (2012), for WordPiece, learned here by
BPE's merges as in the tokenizers library; Kudo, Subword regularization (2018), for Unigram.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

from models.rows import iterate_rows

logger = logging.getLogger(__name__)

VocabularyKind: TypeAlias = Literal["byte_bpe", "wordpiece", "unigram"]

CONTINUES = "##"
"""Begins each WordPiece that does not begin a word."""
LONGEST_WORD = 100
"""Characters of a word that WordPiece cuts; longer ones are several words to it."""
NEVER = -1000.0
"""Score of Unigram's special tokens, which no text spells."""
DISTINCT_BYTES = 12_000_000
"""Of the distinct words, cut at spaces; BPE's training was seen to take 90 times as much memory."""


def learn_vocabulary(
    kind: VocabularyKind,
    texts: Callable[[], Iterator[str]],
    *,
    size: int,
    min_frequency: int,
    special_tokens: Sequence[str],
) -> Tokenizer:
    """Learn a vocabulary and give the tokenizer that cuts texts by it.

    Args:
        texts: Gives the corpus from its beginning, each time it is asked.
        size: Most tokens, the special ones (first) and the 256 bytes included.
        min_frequency: How often a pair must occur to be merged; without effect on Unigram.
    """
    learn = {"byte_bpe": _byte_bpe, "wordpiece": _wordpiece, "unigram": _unigram}[kind]
    return learn(texts, size, min_frequency, list(special_tokens))


def _byte_bpe(
    texts: Callable[[], Iterator[str]], size: int, min_frequency: int, special: list[str]
) -> Tokenizer:
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer=trainer)
    return backend


def _wordpiece(
    texts: Callable[[], Iterator[str]], size: int, min_frequency: int, special: list[str]
) -> Tokenizer:
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Split("#", "isolated"),  # so that no other token looks like "##x"
            pre_tokenizers.FixedLength(length=LONGEST_WORD),
        ]
    )
    learner = Tokenizer(WordPiece(unk_token=special[0]))
    learner.pre_tokenizer = cut
    # A byte that begins no word, or always does so, must still have both of its tokens.
    single = sorted(pre_tokenizers.ByteLevel.alphabet())
    single += [CONTINUES + byte for byte in single if byte != "#"]
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=special + single,
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    learner.train_from_iterator(texts(), trainer=trainer)
    backend = Tokenizer(
        WordPiece(
            learner.get_vocab(),
            unk_token=special[0],  # which no text becomes
            max_input_chars_per_word=LONGEST_WORD,
            continuing_subword_prefix=CONTINUES,
        )
    )
    backend.pre_tokenizer = cut
    backend.decoder = decoders.Sequence(
        [decoders.Replace(Regex(f"^{CONTINUES}"), ""), decoders.ByteLevel()]
    )
    backend.add_special_tokens(special)
    return backend


def _unigram(
    texts: Callable[[], Iterator[str]], size: int, _: int, special: list[str]
) -> Tokenizer:
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner = Tokenizer(Unigram())
    learner.pre_tokenizer = cut
    trainer = UnigramTrainer(
        vocab_size=size - len(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts(), trainer=trainer)
    words = Counter(word for text in texts() for word, _ in cut.pre_tokenize_str(text))
    scores = _scores(sorted(learner.get_vocab()), dict(sorted(words.items())))
    backend = Tokenizer(Unigram([*((token, NEVER) for token in special), *scores]))
    backend.pre_tokenizer = cut
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    return backend


def _scores(pieces: list[str], words: dict[str, int]) -> list[tuple[str, float]]:
    """Give log probabilities of pieces: by bytes that each could cover, then by its real use."""
    known, longest = set(pieces), max(map(len, pieces))
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + longest) + 1):
                if word[start:end] in known:
                    counts[word[start:end]] += times * (end - start)
    segment = Tokenizer(Unigram(_log_shares(pieces, counts)))
    used: Counter[str] = Counter()
    for found, times in zip(segment.encode_batch(list(words)), words.values(), strict=True):
        for piece in found.tokens:
            used[piece] += times
    return _log_shares(pieces, used)


def _log_shares(pieces: list[str], counts: Counter[str]) -> list[tuple[str, float]]:
    """One is added to each count, so that no piece is impossible."""
    total = sum(counts.values()) + len(pieces)
    return [(piece, math.log((counts[piece] + 1) / total)) for piece in pieces]


def training_texts(corpus: Path) -> Iterator[str]:
    """Stream the texts of a row file: all of them, or part where they have too many words.

    BPE's training holds every distinct word and its count. These grow slowly in languages with
    spaces (5 MB in 100 MB of English prose) and with the corpus in those without. Where they would
    take more than about a gigabyte, every second document is taken, every fourth, and so on; the
    log says so.
    """
    stride = 1
    while _too_many_words(corpus, stride):
        stride *= 2
    if stride > 1:
        logger.warning(
            "the vocabulary is learned from 1 in %d documents of %s: its distinct words would not "
            "fit into a gigabyte",
            stride, corpus.name,
        )  # fmt: skip
    return _every(corpus, stride)


def _every(corpus: Path, stride: int) -> Iterator[str]:
    return (row["text"] for row in islice(iterate_rows(corpus), 0, None, stride))


def _too_many_words(corpus: Path, stride: int) -> bool:
    if corpus.stat().st_size <= stride * DISTINCT_BYTES:
        return False
    words: set[str] = set()
    size = 0
    for text in _every(corpus, stride):
        fresh = set(text.split()) - words
        words |= fresh
        size += sum(len(word.encode()) for word in fresh)
        if size > DISTINCT_BYTES:
            return True
    return False
