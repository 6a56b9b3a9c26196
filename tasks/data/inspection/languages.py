"""In which languages a sample of texts is written."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from tasks.data.inspection.records import UNSURE, Languages

MOST_TEXTS = 1_000
"""Of one side of a collection: a share of one half is then known within three points."""
_CHARACTERS = 300
"""Of a text; more add time and no certainty."""
_SURE = 0.5
"""Probability below which a text's language stays open: most texts of one to three words."""


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # reads its model

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_SURE)


def find_languages(texts: Iterable[str]) -> Languages:
    """Find the languages of texts, the most frequent first."""
    names: Counter[str] = Counter()
    scripts: Counter[str] = Counter()
    for text in texts:
        name, _ = _identifier().classify(text[:_CHARACTERS])
        names[name] += 1
        if name == UNSURE:
            scripts[script_of(text[:_CHARACTERS])] += 1
    total = names.total()
    return Languages(
        texts=total,
        shares={name: count / total for name, count in names.most_common()},
        scripts={name: count / total for name, count in scripts.most_common()},
    )


def script_of(text: str) -> str:
    """The script of most letters of a text, such as `latin`, `cyrillic` or `cjk`."""
    words = (unicodedata.name(one, "").split(maxsplit=1) for one in text if one.isalpha())
    found = Counter(name[0].lower() for name in words if name)
    return found.most_common(1)[0][0] if found else "no letters"
