"""The command `quartet presets`: what there is, and the values of one."""

from dataclasses import dataclass

from pydantic import BaseModel
from rich.table import Table

from flows.cli.foundations import FOUNDATIONS
from flows.cli.terminal import add_row, say, wide_console
from flows.fields import flat, group_of
from flows.parameters import list_presets, load_preset
from models.config import make_title
from tasks.stages.foundations.config import FoundationsParameters


def print_presets(name: str) -> None:
    """Print the names of all presets, or every field of one.

    Raises:
        ParameterError: There is no such preset.
    """
    if not name:
        for each, description in _described().items():
            say(f"{each:20} {description}")
        return
    rows = _rows(name)
    say(f"{name}: {_described()[name]}\n")
    table = Table("", "field", "value", "what it is", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:3]:
        column.overflow = "fold"
    for row in rows:
        add_row(table, "*" if row.differs else "", row.field, row.value, row.meaning)
    wide_console().print(table)


def _described() -> dict[str, str]:
    """Presets of the pipeline, and the comparison of families."""
    return list_presets() | {
        FOUNDATIONS: "Families of models from n-grams to BART on one corpus, and which claims held."
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One field of a preset, as people read it."""

    field: str
    value: str
    meaning: str
    differs: bool


def _rows(name: str) -> list[_Row]:
    """Every field of a preset; those that differ from the defaults come first.

    Raises:
        ParameterError: There is no such preset.
    """
    compares = name == FOUNDATIONS
    parameters = FoundationsParameters() if compares else load_preset(name)
    values = flat(parameters.model_dump(mode="json"))
    plain = flat(type(parameters)().model_dump(mode="json"))
    rows = [
        _Row(
            field=field,
            value="" if value is None else str(value),
            meaning=_meaning(type(parameters), field),
            differs=plain.get(field) != value,
        )
        for field, value in values.items()
        if field != "preset"
    ]
    return sorted(rows, key=lambda row: not row.differs)


def _meaning(parameters: type[BaseModel], path: str) -> str:
    """Title and first sentence of a field's description."""
    model: type[BaseModel] | None = parameters
    *groups, last = path.split(".")
    for name in groups:
        model = group_of(model, name) if model is not None else None
    if model is None or last not in model.model_fields:
        return ""
    field = model.model_fields[last]
    title = field.title or make_title(last, field)
    described = " ".join((field.description or "").split())
    return f"{title}: {described.partition('. ')[0]}".rstrip(": ")
