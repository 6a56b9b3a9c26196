"""Where the base model comes from, if it is not pretrained here."""

from pydantic import Field

from models.config import Config


class BaseModelConfig(Config):
    """An existing base model; empty: pretrain one from scratch."""

    source: str = Field(
        default="",
        title="Base model",
        description="Stage, models:/NAME@ALIAS, folder or hub id; empty pretrains from scratch.",
    )
    revision: str = Field(
        default="",
        title="Revision",
        description="Branch, tag or commit of a hub id; empty is the main branch.",
    )

    @property
    def name(self) -> str:
        """Source and revision in one word, id@revision."""
        return f"{self.source}@{self.revision}" if self.revision else self.source
