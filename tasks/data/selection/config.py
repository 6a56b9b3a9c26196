"""Which documents of a corpus are worth training on: the parameters of the stage `select`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.config import Config, CountOrZero, PositiveOrZero, Share

Similarity = Annotated[float, Field(ge=0.7, le=1.0)]


class SelectionConfig(Config):
    """Quality rules after Gopher's MassiveText, bounds fit for captions too; and duplicates."""

    min_words: CountOrZero = 3
    """Documents of fewer words are dropped (Gopher: 50)."""
    max_words: CountOrZero = 100_000
    """Documents of more words are dropped; 0 = no bound."""
    min_word_length: PositiveOrZero = 2.0
    """Least mean length of a document's words, in characters (Gopher: 3)."""
    max_word_length: PositiveOrZero = 12.0
    """Greatest mean length of a document's words, in characters (Gopher: 10)."""
    min_letters: Share = 0.6
    """Least share of letters among the characters that are no white space."""
    min_words_with_letters: Share = 0.8
    """Least share of words with a letter in them, not only digits."""
    max_symbols: Share = 0.1
    """Most hash signs and ellipses per word."""
    max_bullet_lines: Share = 0.9
    """Most of the lines that begin with a bullet point; a single line may."""
    max_ellipsis_lines: Share = 0.3
    """Most of the lines that end with an ellipsis; a single line may."""
    max_repeated_lines: Share = 0.3
    """Most of the lines that repeat an earlier one."""
    max_top_pair: Share = 0.2
    """Most of the characters that stand in the most frequent pair of words."""
    max_repeated_fives: Share = 0.15
    """Most of the characters that stand in runs of five words which repeat earlier ones."""
    repetition_words: CountOrZero = 50
    """Pairs and runs of words are looked at in documents of at least so many words."""
    exact_duplicates: bool = True
    """Drop documents whose words repeat an earlier one's, whatever their case and white space."""
    near_duplicates: bool = True
    """Drop documents of ten words and more that nearly repeat an earlier one."""
    similarity: Similarity = 0.8
    """Jaccard index of word triples from which documents are near duplicates."""
    heldout: Literal["report", "drop"] = "report"
    """Training documents that repeat a held-out one, exactly or nearly: count, or drop them too."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        for least, most in (("min_words", "max_words"), ("min_word_length", "max_word_length")):
            low, high = getattr(self, least), getattr(self, most)
            if high and low > high:
                raise ValueError(f"{least} {low} exceeds {most} {high}; lower it or raise {most}")
        return self
