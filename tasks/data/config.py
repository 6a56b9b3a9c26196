"""Where the data comes from: the parameters of the prepare stage.

Imports nothing but configs, so that forms and the command line start fast.
"""

from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from models.config import Config, CountOrZero, Share
from tasks.world.config import WorldConfig

TextMode: TypeAlias = Literal["ask", "lines", "documents"]


NAMED = (
    "corpus", "demonstrations", "preferences", "prompts",
    "heldout_preferences", "heldout_prompts",
)  # fmt: skip
"""Fields that name sources."""
_HERE = "."
"""The folder that a preset for own files begins with: nobody has named it."""


class DataConfig(Config):
    """One source of data: the embedded world, a folder of files, or sources named one by one."""

    source: Literal["world", "folder", "sources"] = "world"
    """world: the embedded generator; folder: files named by kind; sources: the fields below."""
    folder: str = ""
    """Your files (pretrain, sft, pairs_train, …), for source folder; absolute path for workers."""
    corpus: str = ""
    """Texts to pretrain on: files, globs, folders, hub ids NAME[@REVISION]; weight as NAME=0.7."""
    demonstrations: str = ""
    """For SFT, named likewise; empty = each prompt of the preferences with its best completion."""
    preferences: str = ""
    """For the reward model: files, globs, folders or hub ids, separated by commas."""
    prompts: str = ""
    """To roll out in PPO: files, globs, folders or hub ids; empty = those of the demonstrations."""
    heldout_preferences: str = ""
    """Held-out preferences, named likewise; empty = a share is held out."""
    heldout_prompts: str = ""
    """Held-out prompts, named likewise; empty = a share is held out."""
    format: str = ""
    """Name of the format of your files (see tasks/README.md); empty = recognised."""
    encoding: str = ""
    """Encoding of your text files, such as gb18030; empty = detected."""
    text: TextMode = "ask"
    """What a .txt file holds: one text per line, or one running text; ask = refuse if unclear."""
    ties: Literal["drop", "half"] = "drop"
    """Preferences where neither is better: dropped and counted, or both orders at half weight."""
    fold_system: bool = False
    """Put the system message's text at the beginning of the first user message."""
    join_turns: bool = False
    """Join neighbouring messages of one role into one."""
    heldout_fraction: float = Field(0.05, gt=0, le=0.5)
    """Share of prompts (or texts) held out if no held-out part is given."""
    unreadable_share: Share = 0.5
    """A file of which a larger share of rows cannot be converted stops the run."""
    max_prompt_characters: CountOrZero = 0
    """Rows with a longer prompt are dropped and counted; 0 = no limit."""
    world: WorldConfig = WorldConfig()
    """For source world: the sizes of the embedded generator."""

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        if self.source != "folder" and self.folder not in ("", _HERE):
            raise ValueError(
                f"folder {self.folder!r} is given but source is {self.source!r}, which reads no "
                "folder; set data.source=folder or leave data.folder out"
            )
        named = [name for name in NAMED if getattr(self, name)]
        if self.source != "sources" and named:
            raise ValueError(
                f"{named[0]} is given but source is {self.source!r}, which reads no named sources; "
                f"set data.source=sources or leave data.{named[0]} out"
            )
        if self.source == "folder" and not self.folder:
            raise ValueError(
                "source 'folder' was chosen but folder is empty; wanted the directory of your "
                "files; set data.folder=DIR"
            )
        if self.source == "sources" and not self.preferences:
            raise ValueError(
                "source 'sources' was chosen but preferences is empty; wanted at least the "
                "source of preferences; set data.preferences=FILE or OWNER/NAME"
            )
        return self
