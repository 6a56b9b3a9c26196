"""A baseline without a network: logistic regression on the words of each text.

It knows which words stand in which text of a row, and nothing of their order or of what the texts
have to do with each other.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from models.heads.measures import majority_accuracy

WORD = r"(?u)\b\w+\b"


def bag_of_words_accuracy(
    learned: Sequence[Mapping[str, Any]], heldout: Sequence[Mapping[str, Any]]
) -> float:
    """Held-out accuracy of scikit-learn's logistic regression on counts of words.

    Deterministic. Words are those of at least one letter or digit, in lower case.

    Args:
        learned: Rows of `texts` and `label` of a classification; so is `heldout`.

    Returns:
        A share; that of the most frequent label where there is one class only, or no word.
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    labels = [row["label"] for row in learned]
    expected = [row["label"] for row in heldout]
    columns = []
    for number in range(len(learned[0]["texts"])):
        counts = CountVectorizer(token_pattern=WORD, binary=True)
        texts = [[row["texts"][number] for row in rows] for rows in (learned, heldout)]
        if any(re.search(WORD, text) for text in texts[0]):
            columns.append((counts.fit_transform(texts[0]), counts.transform(texts[1])))
    if len(set(labels)) < 2 or not columns:
        return majority_accuracy(labels, expected)
    known, unknown = (hstack(parts).tocsr() for parts in zip(*columns, strict=True))
    classifier = LogisticRegression(max_iter=1000)
    return float(classifier.fit(known, labels).score(unknown, expected))
