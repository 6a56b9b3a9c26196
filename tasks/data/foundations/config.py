"""Where the texts, translations and tasks of `foundations` come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.config import Config

Rows = Annotated[int, Field(ge=100, le=10_000_000)]

FOLDERS = ("translation", "sentence_pairs", "opinions")
"""Fields that name folders of files."""


class FoundationsDataConfig(Config):
    """The embedded captions, or folders of files."""

    source: Literal["captions", "files"] = "captions"
    """captions: the embedded generator; files: the folders below."""
    translation: str = ""
    """Folder with train.en, train.fr, test.en, test.fr (or other languages), packed or not: a
    sentence per line, which are the captions to pretrain on too."""
    sentence_pairs: str = ""
    """Folder with a train and a test table of sentence pairs with entailment and relatedness, as
    SICK has them."""
    opinions: str = ""
    """Folder with train and test files of texts with label 0 or 1, or of pairs chosen / rejected;
    a file pretrain, else the training texts, are added to the corpus."""
    captions: Rows = 12_000
    """Most captions to pretrain on and to translate."""
    task_rows: Rows = 3_000
    """Most training rows of each task."""
    heldout_rows: Rows = 1_000
    """Most held-out captions, and held-out rows of each task."""

    @model_validator(mode="after")
    def _folders_are_named(self) -> Self:
        named = [name for name in FOLDERS if getattr(self, name)]
        if self.source == "files" and len(named) < len(FOLDERS):
            missing = [name for name in FOLDERS if name not in named]
            raise ValueError(
                f"source is files but {', '.join(missing)} is empty; wanted three folders: set "
                f"{' and '.join(f'data.{name}=DIR' for name in missing)}"
            )
        if self.source == "captions" and named:
            raise ValueError(
                f"{named[0]} is given but source is captions, which reads no files; set "
                f"data.source=files or leave data.{named[0]} out"
            )
        return self
