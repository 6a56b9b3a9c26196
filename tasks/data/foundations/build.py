"""Write the texts, translations and tasks that models of all families are compared on."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.errors import DataError
from models.randomness import derive_seed
from models.rows import write_json, write_rows
from tasks.data.foundations.config import FoundationsDataConfig
from tasks.data.foundations.folders import (
    ENTAILMENT,
    files_of,
    read_corpus,
    read_opinions,
    read_sentence_pairs,
    read_translation,
)
from tasks.world.captions import (
    write_captions,
    write_entailment,
    write_opinion,
    write_similarity,
)

Row = dict[str, Any]
Sides = Mapping[str, list[Row]]

OPTIONS = 4
"""Of a choice: the true end of a caption and those of others."""
SHORTEST_CONTEXT = 3
"""Words of the beginning of a caption that is to be ended."""
TASKS: dict[str, dict[str, Any]] = {
    "entailment": {
        "kind": "classification",
        "labels": list(ENTAILMENT),
        "prompt": "{0}\nQuestion: {1} Yes, maybe or no?\nAnswer:",
        "answers": [" yes", " maybe", " no"],
    },
    "similarity": {"kind": "regression", "labels": []},
    "polarity": {
        "kind": "classification",
        "labels": ["negative", "positive"],
        "prompt": "{0}\nThis was",
        "answers": [" bad", " good"],
    },
    "choice": {"kind": "choice", "labels": []},
}
"""What each task is, and how it is asked of a model that only continues text."""


def build_foundations(config: FoundationsDataConfig, seed: int, out: Path) -> dict[str, float]:
    """Write all files: corpus, vocabulary, translations, tasks.

        corpus_train, corpus_heldout            {"text", "source"}; held out: captions only
        vocabulary                              {"text"}; what a tokenizer is trained on
        translation_train, translation_heldout  {"source", "target"}
        TASK_train, TASK_heldout                {"texts", "label"}
        tasks.json                              what each task is

    No held-out caption or opinion is in the corpus, and no training row of a task is held out too.

    Returns:
        Rows of each file, as metrics.

    Raises:
        DataError: A folder or file is not what was wanted.
    """
    train, heldout, documents = (
        _captions(config, seed) if config.source == "captions" else (_from_files(config, seed))
    )
    held_captions = [row["source"] for row in heldout["translation"]]
    held = {*held_captions, *(text for row in heldout["polarity"] for text in row["texts"])}
    captions = [row["source"] for row in train["translation"] if row["source"] not in held]
    for name, side, texts, most in (
        ("train", train, captions, config.task_rows),
        ("heldout", heldout, held_captions, config.heldout_rows),
    ):
        rng = random.Random(derive_seed(seed, f"foundations.choice.{name}"))
        side["choice"] = write_choices(texts, most, rng)
    corpus = [{"text": text, "source": "captions"} for text in captions]
    corpus += [
        {"text": text, "source": "opinions"} for text in documents if text.strip() not in held
    ]
    files: dict[str, list[Row]] = {
        "corpus_train": corpus,
        "corpus_heldout": [{"text": text, "source": "captions"} for text in held_captions],
        "vocabulary": [{"text": row["text"]} for row in corpus]
        + [{"text": row["target"]} for row in train["translation"]],
    }
    for task in ("translation", *TASKS):
        known = {str(_content(row)) for row in heldout[task]}
        files[f"{task}_train"] = [row for row in train[task] if str(_content(row)) not in known]
        files[f"{task}_heldout"] = heldout[task]
    for name, rows in files.items():
        if not rows:
            raise DataError(f"{name} has no rows; give more text, or other held-out files")
        write_rows(out / f"{name}.jsonl", rows)
    write_json(out / "tasks.json", TASKS)
    return {f"foundations_data/{name}": float(len(rows)) for name, rows in files.items()}


def write_choices(captions: list[str], most: int, rng: random.Random) -> list[Row]:
    """Beginnings of captions, each with its true end among those of others of like length.

    Returns:
        {"texts": [beginning, end, end, …], "label": the number of the true one}.
    """
    halves = []
    for caption in captions:
        words = caption.split()
        if len(words) >= 2 * SHORTEST_CONTEXT:
            middle = len(words) // 2
            halves.append((" ".join(words[:middle]), " ".join(words[middle:])))
    halves.sort(key=lambda half: (half[1].count(" "), half))
    rows = []
    for at, (beginning, end) in enumerate(halves):
        near = halves[max(0, at - 50) : at + 50]
        others = sorted({other for _, other in near if other != end})
        if len(others) >= OPTIONS - 1:
            label = rng.randrange(OPTIONS)
            ends = rng.sample(others, OPTIONS - 1)
            rows.append({"texts": [beginning, *ends[:label], end, *ends[label:]], "label": label})
    rng.shuffle(rows)
    return rows[:most]


def _captions(
    config: FoundationsDataConfig, seed: int
) -> tuple[dict[str, list[Row]], dict[str, list[Row]], list[str]]:
    """From the embedded generator; opinions make up the rest of the corpus."""

    def draw(name: str, write: Callable[[random.Random], Row], rows: int) -> list[Row]:
        rng = random.Random(derive_seed(seed, f"foundations.{name}"))
        return [write(rng) for _ in range(rows)]

    rng = random.Random(derive_seed(seed, "foundations.captions"))
    captions = write_captions(config.captions + config.heldout_rows, rng)
    writers = {
        "entailment": write_entailment,
        "similarity": write_similarity,
        "polarity": write_opinion,
    }
    train = {name: draw(f"{name}.train", one, config.task_rows) for name, one in writers.items()}
    heldout = {
        name: draw(f"{name}.heldout", one, config.heldout_rows) for name, one in writers.items()
    }
    train["translation"] = captions[: config.captions]
    heldout["translation"] = captions[config.captions :]
    opinions = draw("opinions", write_opinion, config.task_rows)
    return train, heldout, [row["texts"][0] for row in opinions]


def _from_files(
    config: FoundationsDataConfig, seed: int
) -> tuple[dict[str, list[Row]], dict[str, list[Row]], list[str]]:
    files = files_of(config)
    sides: list[dict[str, list[Row]]] = []
    for train in (True, False):
        entailment, similarity = read_sentence_pairs(files["sentence_pairs"], train=train)
        side = {
            "translation": read_translation(files["translation"], train=train),
            "entailment": entailment,
            "similarity": similarity,
            "polarity": read_opinions(files["opinions"], train=train),
        }
        for task, rows in side.items():
            rng = random.Random(derive_seed(seed, f"foundations.{task}.{train}"))
            captions = config.captions if train else config.heldout_rows
            tasks = config.task_rows if train else config.heldout_rows
            most = captions if task == "translation" else tasks
            side[task] = rng.sample(rows, min(most, len(rows)))
        sides.append(side)
    documents = read_corpus(files["opinions"])
    return sides[0], sides[1], documents or [row["texts"][0] for row in sides[0]["polarity"]]


def _content(row: Row) -> Any:
    return row.get("texts") or row["source"]
