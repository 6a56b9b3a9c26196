"""A gain on a pretrained model, seen by judges that no stage knows; and controls without one.

    python tests/benchmarks/real_gain.py MODEL DATA [--home FOLDER] [--seeds 0 1 2]
        [--labels given shuffled short word] [path.to.field=value ...]

MODEL is a folder with a causal model, DATA one with texts that people liked or not: sft, pretrain,
prompts_train, prompts_test, pairs_train and pairs_test. The pairs of a quarter of the prompts, and
their demonstrations, are kept from every stage: a bag of words learns from them which completions
people prefer. Each run is preset `reviews-pretrained`, judged by a held-out reward model and by
VADER.

The controls change what the pairs prefer: nothing (shuffled, in training only), the shorter
completion, or the one that holds the word "the", in training and held-out pairs alike. Prints a row
a run: a gain that counts has both intervals above 0.
"""

import argparse
import gzip
import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from alignment import interval, run

from models.rows import read_rows, write_rows
from models.statistics.intervals import paired_bootstrap

Row: TypeAlias = dict[str, Any]

HEADER = (
    "labels", "seed", "outcome", "judge, raw", "judge, at equal length", "VADER, at equal length",
    "bag of words", "length ratio", "distinct-2 ratio", "ends, SFT to policy", "KL, nats",
)  # fmt: skip
KEPT = 0.25
"""Share of the prompts whose pairs only the bag of words learns from."""
PAIRS = "pairs_train.jsonl"


def _swapped(row: Row) -> Row:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def _by(key: Callable[[str], float], row: Row) -> Row | None:
    """The pair with the side on top that has more of something; None where both have as much."""
    chosen, rejected = key(row["chosen"]), key(row["rejected"])
    return None if chosen == rejected else row if chosen > rejected else _swapped(row)


def _has_word(text: str) -> float:
    return float("the" in text.lower().split())


def relabelled(rows: Sequence[Row], labels: str, *, training: bool) -> list[Row]:
    """Pairs as one of the controls wants them."""
    if labels == "shuffled" and training:
        draw = random.Random(0)
        return [_swapped(row) if draw.random() < 0.5 else row for row in rows]
    if labels in ("short", "word"):
        key = _has_word if labels == "word" else lambda text: -float(len(text.split()))
        return [one for row in rows if (one := _by(key, row)) is not None]
    return list(rows)


def make_data(data: Path, labels: str, folder: Path) -> list[Row]:
    """Write a data folder with relabelled pairs, and give those that are kept from every stage."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {path.name.removesuffix(".gz"): _rows_of(path) for path in sorted(data.iterdir())}
    prompts = sorted({row["prompt"] for row in tables[PAIRS]})
    hidden = set(random.Random(0).sample(prompts, int(KEPT * len(prompts))))
    kept = [row for row in tables[PAIRS] if row["prompt"] in hidden]
    for name, rows in tables.items():
        if name in (PAIRS, "sft.jsonl"):
            rows = [row for row in rows if row["prompt"] not in hidden]
        if name.startswith("pairs"):
            rows = relabelled(rows, labels, training=name == PAIRS)
        write_rows(folder / name, rows)
    return kept


def _rows_of(path: Path) -> list[Row]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def bag_of_words(pairs: Sequence[Row]) -> Callable[[Sequence[str]], np.ndarray[Any, Any]]:
    """Learn which completions are preferred, from their words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [row[side] for row in pairs for side in ("chosen", "rejected")]
    learned = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    learned.fit(texts, [1, 0] * len(pairs))
    return lambda some: np.asarray(learned.predict_proba(some)[:, 1])


def shift(samples: Sequence[Row], score: Callable[[Sequence[str]], Any]) -> str:
    """How a score of completions moved from SFT to the policy, by prompts."""
    scores = score([row["completion"] for row in samples])
    sides: dict[str, list[float]] = {"sft": [], "ppo": []}
    for row, one in zip(samples, scores, strict=True):
        sides[row["model"]].append(float(one))
    each = 1 + max(row["sample"] for row in samples)
    first, second = (np.array(sides[side]).reshape(-1, each) for side in ("sft", "ppo"))
    return str(paired_bootstrap(first, second, 2000, 0))


def cells(result: Mapping[str, Any], home: Path, score: Callable[[Sequence[str]], Any]) -> Row:
    """The numbers of a run that came to its end, by column."""
    final, stage = result["final"], result["stages"][-1]
    samples = read_rows(home / "store" / stage["name"] / stage["digest"] / "samples.jsonl")

    reason = "" if result["verdict"]["accepted"] else f": {result['verdict']['reasons'][0]}"
    return {
        "outcome": f"{'rejected' if reason else 'accepted'}{reason}",
        "judge, raw": interval(final, "judge_score_gain"),
        "judge, at equal length": interval(final, "judge_score_controlled_gain"),
        "VADER, at equal length": interval(final, "vader_score_controlled_gain"),
        "bag of words": shift(samples, score),
        "length ratio": f"{final['final/length_ratio']:.2f}",
        "distinct-2 ratio": f"{final['final/distinct_2_ratio']:.2f}",
        "ends, SFT to policy": " to ".join(
            f"{final[f'final/eos_rate_{model}']:.2f}" for model in ("sft", "ppo")
        ),
        "KL, nats": f"{final['final/kl_to_reference']:.1f}",
    }


def main() -> None:
    """Run every kind of labels with every seed and print the table."""
    parser = argparse.ArgumentParser(description="A gain that is real, on a pretrained model.")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--home", type=Path, help="Home folder whose stages are reused.")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--labels", nargs="*", default=["given", "shuffled", "short", "word"])
    parser.add_argument("settings", nargs="*", help="path.to.field=value")
    given = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = given.home or Path(scratch) / "home"
        for labels in given.labels:
            folder = home / "data" / labels
            score = bag_of_words(make_data(given.data, labels, folder))
            settings = [f"base.source={given.model}", f"data.folder={folder}", *given.settings]
            settings.append('evaluate.judges=["vader"]')
            for seed in given.seeds:
                found: Row = {"labels": labels, "seed": seed}
                try:
                    words = ("run", "reviews-pretrained")
                    found |= cells(run(home, words, [*settings, f"seed={seed}"]), home, score)
                except SystemExit as stopped:
                    found["outcome"] = f"stopped: {str(stopped).strip().splitlines()[-1]}"
                print(f"| {' | '.join(str(found.get(one, '')) for one in HEADER)} |", flush=True)


if __name__ == "__main__":
    main()
