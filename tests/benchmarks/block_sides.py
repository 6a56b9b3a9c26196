"""One side of the benchmark of packed blocks; run by `blocks.py`.

The texts are generated: words of one to four syllables drawn as 1 / (rank + 10), half a million of
them, in documents of ten to four hundred words. So words repeat as in natural text, the tokenizer
learns something, and a corpus may have any size.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from quiet import Enough, Rounds, child_arguments, emit_header

BLOCK_TOKENS = 128
VOCABULARY = 8000
WORDS = 500_000
TRAINED_MEGABYTES = 8
SYLLABLES = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "s")]


def main() -> None:
    """Measure one side."""
    arguments = child_arguments("Make packed blocks.")
    megabytes, _, name = arguments.what.partition(":")
    folder = Path(name)
    corpus = folder / f"{megabytes}.jsonl"
    side: Callable[[Path, Path, int], int] = {
        "prepare": _prepare,
        "run_clm": _run_clm,
        "one_map": _one_map,
        "ours": _ours,
        "again": _ours,
        "tokenizer": _tokenizer,
    }[arguments.side]
    if arguments.side != "prepare":
        import models.training.blocks  # noqa: F401 - no part of the first round
    rounds = Rounds(arguments)
    tokens = 0
    while True:
        if arguments.side in ("ours", "tokenizer"):
            shutil.rmtree(folder / "cache", ignore_errors=True)
        rounds.begin()
        tokens = side(folder, corpus, arguments.threads)
        try:
            rounds.end(megabytes=corpus.stat().st_size / 1e6)
        except Enough:
            break
    emit_header(tokens=tokens)


def _prepare(folder: Path, corpus: Path, _threads: int) -> int:
    """Write the texts, and a tokenizer that a few of them train."""
    from models.language.config import TokenizerConfig
    from models.language.tokenizer import train_tokenizer

    generator = np.random.default_rng(0)
    syllables = generator.choice(SYLLABLES, (WORDS, 4)).tolist()
    words = np.array(["".join(row[: 1 + at % 4]) for at, row in enumerate(syllables)])
    shares = np.cumsum(1 / (np.arange(WORDS) + 10))
    for path, size in ((corpus, int(corpus.stem)), (folder / "few.jsonl", TRAINED_MEGABYTES)):
        with path.open("w", encoding="utf-8") as file:
            while file.tell() < size * 1e6:
                drawn = np.searchsorted(shares, generator.random(100_000) * shares[-1])
                ends = np.cumsum(generator.integers(10, 400, 1000))
                for text in np.split(words[drawn], ends[ends < len(drawn)]):
                    file.write('{"text": "' + " ".join(text) + '."}\n')
    config = TokenizerConfig(vocab_size=VOCABULARY)
    train_tokenizer(
        corpus=folder / "few.jsonl", config=config, context=BLOCK_TOKENS, out=folder / "tokenizer"
    )
    return 0


def _ours(folder: Path, corpus: Path, threads: int) -> int:
    import torch

    from models.language.folders import load_tokenizer
    from models.training.blocks import corpus_blocks

    torch.set_num_threads(threads)
    tokenizer = load_tokenizer(folder / "tokenizer")
    blocks = corpus_blocks(tokenizer, corpus, BLOCK_TOKENS, 0, cache=folder / "cache")
    return len(blocks) * BLOCK_TOKENS


def _tokenizer(folder: Path, corpus: Path, threads: int) -> int:
    import torch

    from models.language.config import TokenizerConfig
    from models.language.tokenizer import train_tokenizer

    torch.set_num_threads(threads)
    config = TokenizerConfig(vocab_size=VOCABULARY)
    train_tokenizer(
        corpus=corpus, config=config, context=BLOCK_TOKENS, out=folder / "again",
        cache=folder / "cache",
    )  # fmt: skip
    return 0


def _run_clm(folder: Path, corpus: Path, threads: int) -> int:
    """Two maps, as in transformers' examples/pytorch/language-modeling/run_clm.py."""
    tokenizer, texts = _theirs(folder, corpus)

    def tokenise(rows: dict[str, list[str]]) -> Any:
        return tokenizer([text + tokenizer.eos_token for text in rows["text"]])

    def group(rows: dict[str, list[list[int]]]) -> dict[str, Any]:
        joined = {name: [one for row in lists for one in row] for name, lists in rows.items()}
        total = len(joined["input_ids"]) // BLOCK_TOKENS * BLOCK_TOKENS
        result: dict[str, Any] = {
            name: [flat[at : at + BLOCK_TOKENS] for at in range(0, total, BLOCK_TOKENS)]
            for name, flat in joined.items()
        }
        result["labels"] = result["input_ids"].copy()
        return result

    tokenised = texts.map(tokenise, batched=True, num_proc=threads, remove_columns=["text"])
    return len(tokenised.map(group, batched=True, num_proc=threads)) * BLOCK_TOKENS


def _one_map(folder: Path, corpus: Path, threads: int) -> int:
    """Tokenised and grouped in one map of ids alone, the quickest way that was found."""
    tokenizer, texts = _theirs(folder, corpus)
    eos, left = tokenizer.eos_token_id, []

    def pack(rows: dict[str, list[str]]) -> dict[str, Any]:
        encoded = tokenizer(
            rows["text"], add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        flat = left.copy()
        for ids in encoded["input_ids"]:
            flat += ids
            flat.append(eos)
        total = len(flat) // BLOCK_TOKENS * BLOCK_TOKENS
        left[:] = flat[total:]
        return {"input_ids": [flat[at : at + BLOCK_TOKENS] for at in range(0, total, BLOCK_TOKENS)]}

    packed = texts.map(pack, batched=True, num_proc=threads, remove_columns=["text"])
    return len(packed) * BLOCK_TOKENS


def _theirs(folder: Path, corpus: Path) -> tuple[Any, Any]:
    import datasets

    from models.language.folders import load_tokenizer

    texts = datasets.load_dataset(
        "json", data_files=str(corpus), split="train", cache_dir=str(folder / "arrow")
    )
    datasets.disable_caching()
    datasets.disable_progress_bars()
    return load_tokenizer(folder / "tokenizer"), texts


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
