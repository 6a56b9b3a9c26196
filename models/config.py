"""The base of every config: frozen, nothing unknown, made from plain values."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen set of parameters; an unknown name is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )
