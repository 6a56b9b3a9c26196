"""The base of every config: frozen, nothing unknown, made from plain values."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import ComputedFieldInfo, FieldInfo

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]

WORDS = {
    "approx": "approximate",
    "coef": "coefficient",
    "ema": "EMA",
    "eos": "EOS",
    "gae": "GAE",
    "grad": "gradient",
    "heldout": "held-out",
    "kl": "KL",
    "lora": "LoRA",
    "max": "maximum",
    "min": "minimum",
    "ppo": "PPO",
    "ptx": "PTX",
    "sft": "SFT",
    "std": "standard deviation",
    "url": "URL",
    "vocab": "vocabulary",
}


def make_title(name: str, _: FieldInfo | ComputedFieldInfo) -> str:
    """Make a form's title of a field's name: `kl_coef` becomes "KL coefficient"."""
    title = " ".join(WORDS.get(word, word) for word in name.split("_"))
    return title[:1].upper() + title[1:]


class Config(BaseModel):
    """A frozen set of parameters; an unknown name is an error.

    A field's description is the docstring under it; its title is made from its name.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        field_title_generator=make_title,
    )
