"""Where the data comes from: the parameters of the prepare stage.

Imports nothing but configs, so that forms and the command line start fast.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.config import Config, CountOrZero
from tasks.world.config import WorldConfig


class DataConfig(Config):
    """One source of data: the embedded world, a folder of files, or datasets of the hub."""

    source: Literal["world", "folder", "hub"] = "world"
    """world: the embedded generator; folder: your own files; hub: Hugging Face."""
    folder: str = ""
    """Your files (pretrain, sft, pairs_train, …), for source folder; absolute path for workers."""
    hub_corpus: str = ""
    """For source hub: dataset id of texts; may be empty."""
    hub_demonstrations: str = ""
    """For source hub: dataset id; empty = prompt and chosen of the preferences."""
    hub_preferences: str = ""
    """For source hub: dataset id; required."""
    hub_prompts: str = ""
    """For source hub: dataset id; empty = the prompts of the demonstrations."""
    hub_revision: str = ""
    """Branch, tag or commit of the hub ids; empty = the main branch."""
    heldout_fraction: float = Field(0.05, gt=0, le=0.5)
    """Share of prompts (or texts) held out if no held-out part is given."""
    max_prompt_characters: CountOrZero = 0
    """Rows with a longer prompt are dropped and counted; 0 = no limit."""
    world: WorldConfig = WorldConfig()
    """For source world: the sizes of the embedded generator."""

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        if self.source != "folder" and self.folder:
            raise ValueError(
                f"folder {self.folder!r} is given but source is {self.source!r}, which reads no "
                "folder; set data.source=folder or leave data.folder out"
            )
        if self.source == "folder" and not self.folder:
            raise ValueError(
                "source 'folder' was chosen but folder is empty; wanted the directory of your "
                "files; set data.folder=DIR"
            )
        if self.source == "hub" and not self.hub_preferences:
            raise ValueError(
                "source 'hub' was chosen but hub_preferences is empty; wanted at least the id of "
                "a preference dataset; set data.hub_preferences=OWNER/NAME"
            )
        return self
