"""The command `quartet presets`: what there is, and the values of one."""

from rich.table import Table

from flows.cli.terminal import add_row, say, wide_console
from flows.parameters import list_presets, preset_rows


def print_presets(name: str) -> None:
    """Print the names of all presets, or every field of one.

    Raises:
        ParameterError: There is no such preset.
    """
    if not name:
        for each, description in list_presets().items():
            say(f"{each:12} {description}")
        return
    rows = preset_rows(name)
    say(f"{name}: {list_presets()[name]}\n")
    table = Table("", "field", "value", "what it is", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:3]:
        column.overflow = "fold"
    for row in rows:
        add_row(table, "*" if row.differs else "", row.field, row.value, row.meaning)
    wide_console().print(table)
