"""Fields by their dotted names, as people set them: `ppo.kl_coef=0.1`; errors in one line.

Imports no torch, so that the command line answers at once and the run form opens fast.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from models.errors import ParameterError

Model = TypeVar("Model", bound=BaseModel)

LONGEST_SHOWN = 200


def validated(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate values; all of pydantic's errors make one line.

    Raises:
        ParameterError: Each field, its value and what is wanted.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParameterError("; ".join(_explain(one) for one in error.errors())) from error


def given_fields(model: type[BaseModel], settings: Iterable[str]) -> dict[str, Any]:
    """Plain values, groups nested, of ``path.to.field=value``.

    Raises:
        ParameterError: A field is unknown, or a value cannot be read.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        set_field(model, values, setting)
    return values


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested groups by dotted name; a group that is off is one value, None."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found


def set_field(model: type[BaseModel], values: dict[str, Any], setting: str) -> None:
    """Set one ``path=value`` in nested plain values.

    Raises:
        ParameterError: The model has no such field, or the value cannot be read.
    """
    path, equals, text = setting.partition("=")
    if not equals:
        raise ParameterError(
            f"--set got {shown_value(setting)}, wanted path.to.field=value, such as ppo.kl_coef=0.1"
        )
    if path.strip() == "preset":
        raise ParameterError("preset cannot be set; give it as the argument of `quartet run`")
    *groups, field = path.strip().split(".")
    for depth, name in enumerate([*groups, field]):
        if name not in model.model_fields:
            where = ".".join(groups[:depth]) or "the top level"
            raise ParameterError(
                f"unknown field {shown_value(path)}{closest(name, model.model_fields)}; fields of "
                f"{where} are: {', '.join(model.model_fields)}"
            )
        group = group_of(model, name)
        if group is None and depth < len(groups):
            raise ParameterError(
                f"{path!r} goes into a field that has no fields of its own; drop what follows it"
            )
        if group is not None and depth == len(groups):
            may_be_off = type(None) in get_args(model.model_fields[name].annotation)
            if may_be_off and text.strip() == "null":
                values[name] = None
                return
            fields = ", ".join(f"{path}.{name}" for name in group.model_fields)
            off = f"; or {path}=null to switch it off" if may_be_off else ""
            raise ParameterError(f"{path!r} is a group, not a field; set one of: {fields}{off}")
        if group is not None:
            model = group
            if values.get(name) is None:  # not set yet, or off
                values[name] = {}
            values = values[name]
    is_text = model.model_fields[field].annotation is str  # 2024 may be a folder's name
    try:
        values[field] = text if is_text else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ParameterError(
            f"{path}: the value {shown_value(text)} cannot be read ({why}); wanted a number, "
            "a word or a list in YAML"
        ) from error


def group_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field that is a group; None for a plain value."""
    annotation = model.model_fields[name].annotation
    for inner in (annotation, *get_args(annotation)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _explain(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":  # ours: it names everything itself
        return f"{where}: {message}" if where else message
    return f"{where}: got {shown_value(error['input'])}, {message[0].lower()}{message[1:]}"


def shown_value(value: Any) -> str:
    """A value as messages show it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of more than 4,300 digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def closest(name: str, possible: Iterable[str]) -> str:
    """A question after the one name that is much like another."""
    close = difflib.get_close_matches(name, list(possible), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
