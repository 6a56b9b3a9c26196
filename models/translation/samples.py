"""Held-out rows through a trained model: what it makes of each source, beside the reference."""

from dataclasses import dataclass
from pathlib import Path

from models.language.folders import load_frozen, load_seq2seq_model, load_tokenizer
from models.rows import read_rows
from models.translation.alignment import Alignment, align_texts
from models.translation.config import TranslationConfig
from models.translation.decoding import translate_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Translations:
    """What a model made of held-out rows.

    Attributes:
        rows: Each with `source`, `target` (the reference) and `translation`.
        alignments: Of the first of them; none of a model without attention.
    """

    rows: list[dict[str, str]]
    alignments: list[Alignment]


def translate_rows(
    *, model: Path, heldout: Path, config: TranslationConfig, seed: int, device: str
) -> Translations:
    """Translate a file's rows with the model in a folder."""
    tokenizer = load_tokenizer(model)
    network = load_frozen(load_seq2seq_model, model, device, config.precision)
    given = read_rows(heldout)
    sources = [row["source"] for row in given]
    made = translate_texts(network, tokenizer, sources, config.decoding, seed=seed)
    shown = config.alignments
    return Translations(
        rows=[
            {"source": row["source"], "target": row["target"], "translation": translation}
            for row, translation in zip(given, made, strict=True)
        ],
        alignments=align_texts(network, tokenizer, sources[:shown], made[:shown]),
    )
