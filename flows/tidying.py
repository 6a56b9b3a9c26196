"""The flow that keeps a home from growing: what nothing refers to, and old weights nobody needs."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.lifecycle import conclude_sentence, concluding, name_run
from tasks.reports.style import table
from tasks.run.reporting import run_logger, show_markdown
from tasks.settings import load_settings
from tasks.upkeep.garbage import find_garbage, remove_garbage
from tasks.upkeep.retention import find_old, remove_old
from tasks.upkeep.sweeping import Item, in_mib

OLDER_THAN_DAYS = 7.0
"""Younger unfinished work and caches are kept."""


@flow(name="tidy", flow_run_name=name_run, persist_result=False)
@concluding(conclude_sentence)
def tidy_flow(
    keep_days: Annotated[float, Field(ge=0, title="Days")] = 90.0,
    accepted: Annotated[bool, Field(title="Accepted policies too")] = False,
    remove: Annotated[bool, Field(title="Remove")] = False,
) -> str:
    """Show what can go, with sizes, and remove it if told: what nothing refers to, old weights.

    Args:
        keep_days: Weights and samples that runs of so many days name are kept, and all that they
            were made from.
        accepted: Whether weights of accepted policies may go too; models with an alias and what is
            pinned by the tag quartet.pinned never do.
        remove: Whether to remove what is shown; else it is only shown, in this run's artifact.
    """
    settings = load_settings()
    garbage = find_garbage(settings, older_than_days=OLDER_THAN_DAYS)
    old = find_old(settings, keep_days=keep_days, accepted=accepted)
    for notice in garbage.notices:
        run_logger().info(notice)
    items = [*garbage.items, *old]
    said = f"{len(items)} can go, {in_mib(items)}"
    if remove:
        gone = remove_garbage(settings, garbage)
        gone += remove_old(settings, old, keep_days=keep_days, accepted=accepted)
        said = f"removed {len(gone)} of {len(items)}, {in_mib(gone)}"
        items = gone
    run_logger().info(said)
    show_markdown("tidy", f"# {said}\n\n{_listing(items)}", "What can go, or went")
    return said


def _listing(items: list[Item]) -> str:
    header = ("stage", "digest", "what", "reason", "age, days", "size")
    rows = [
        (one.stage, one.digest[:12], one.what, one.why, f"{one.age_days:.1f}", in_mib([one]))
        for one in items
    ]
    return table(header, rows, text_columns=4) if rows else "Nothing."
