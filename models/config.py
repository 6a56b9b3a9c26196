"""The base of every config: frozen, nothing unknown, made from plain values, every number bounded.

A field's bounds are what could make sense anywhere; what one machine's memory holds is less, and
checked before a run.
"""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import ComputedFieldInfo, FieldInfo
from pydantic_core import PydanticCustomError

Precision = Literal["auto", "float32", "bfloat16"]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000_000)]
Steps = Annotated[int, Field(ge=1, le=100_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Tokens = Annotated[int, Field(ge=1, le=1_048_576)]
BlockTokens = Annotated[int, Field(ge=16, le=1_048_576)]
Resamples = Annotated[int, Field(ge=100, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]  # people write 1e9 for "never"
PositiveOrZero = Annotated[float, Field(ge=0, le=1e9)]
LearningRate = Annotated[float, Field(gt=0, le=100)]
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
        hide_input_in_errors=True,  # it may be an address with a password
        protected_namespaces=(),
        use_attribute_docstrings=True,
        field_title_generator=make_title,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic takes: true and false as 1 and 0, texts that are no UTF-8."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        kinds = {wanted, *get_args(wanted)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise PydanticCustomError("number", "Input should be a number, not true or false")
        if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            raise PydanticCustomError("text", "Input should be UTF-8 text without null characters")
        return value
