"""Where the data comes from: the parameters of the prepare stage.

Imports nothing but configs, so that forms and the command line start fast.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.config import Config
from tasks.world.config import WorldConfig


class DataConfig(Config):
    """One source of data: the embedded world, a folder of files, or datasets of the hub."""

    source: Literal["world", "folder", "hub"] = Field(
        default="world",
        title="Source",
        description="world: the embedded generator; folder: your own files; hub: Hugging Face.",
    )
    folder: str = Field(
        default="",
        title="Folder",
        description="Your files: pretrain, sft, pairs_train, …; from a worker, the absolute path.",
    )
    hub_corpus: str = Field(
        default="", title="Hub corpus", description="For source hub: id of texts; may be empty."
    )
    hub_demonstrations: str = Field(
        default="",
        title="Hub demonstrations",
        description="For source hub: id; empty takes prompt and chosen of the preferences.",
    )
    hub_preferences: str = Field(
        default="", title="Hub preferences", description="For source hub: id; needed."
    )
    hub_prompts: str = Field(
        default="",
        title="Hub prompts",
        description="For source hub: id; empty takes the prompts of the demonstrations.",
    )
    hub_revision: str = Field(
        default="",
        title="Hub revision",
        description="Branch, tag or commit of the hub ids; empty is the main branch.",
    )
    heldout_fraction: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        title="Held-out share",
        description="Where no held-out part is given: the share of prompts (or texts) held out.",
    )
    max_prompt_characters: int = Field(
        default=0,
        ge=0,
        title="Longest prompt",
        description="Characters; rows with a longer prompt are dropped and counted. 0: no bound.",
    )
    world: WorldConfig = Field(
        default=WorldConfig(),
        title="World",
        description="For source world: the sizes of the embedded generator.",
    )

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
