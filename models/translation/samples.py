"""Held-out rows through a trained model: what it makes of each source, beside the reference."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.language.folders import load_frozen, load_seq2seq_model, load_tokenizer
from models.rows import read_rows
from models.translation.alignment import align_texts
from models.translation.config import TranslationConfig
from models.translation.decoding import translate_texts


def translate_rows(
    *, model: Path, heldout: Path, config: TranslationConfig, seed: int, device: str
) -> list[dict[str, Any]]:
    """Translate a file's rows with the model in a folder.

    Returns:
        Rows of `source`, `target` (the reference) and `translation`; the first
        `config.alignments` also with the `alignment` of the translation, where the model has
        attention.
    """
    tokenizer = load_tokenizer(model)
    network = load_frozen(load_seq2seq_model, model, device, config.precision)
    given = read_rows(heldout)
    sources = [row["source"] for row in given]
    made = translate_texts(network, tokenizer, sources, config.decoding, seed=seed)
    rows: list[dict[str, Any]] = [
        {"source": row["source"], "target": row["target"], "translation": translation}
        for row, translation in zip(given, made, strict=True)
    ]
    shown = config.alignments
    for row, alignment in zip(
        rows, align_texts(network, tokenizer, sources[:shown], made[:shown]), strict=False
    ):
        row["alignment"] = asdict(alignment)
    return rows
