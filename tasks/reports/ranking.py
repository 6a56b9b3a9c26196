"""A reward model's page: how well it ranks held-out pairs, beside what length alone would."""

from pathlib import Path

from tasks.reports.markdown import table
from tasks.run.spec import Page, Result


def ranking_page(result: Result, _plots: Path, *, group: str) -> Page:
    """Show the accuracy of a model beside its baseline, and by respect.

    Args:
        result: Of the stage that trained it.
        group: Of its metrics, `<group>/accuracy`.
    """
    numbers = {
        name.removeprefix(f"{group}/"): value
        for name, value in result.metrics.items()
        if name.startswith(f"{group}/")
    }
    low, high = numbers["accuracy_low"], numbers["accuracy_high"]
    rows = [
        ("all, [95% interval]", f"{numbers['accuracy']:.3f} [{low:.3f}, {high:.3f}]"),
        ("baseline: the longer one wins", f"{numbers['longer_wins_accuracy']:.3f}"),
    ]
    for name, value in sorted(numbers.items()):
        respect = name.removeprefix("accuracy_")
        if respect not in (name, "low", "high"):
            rows.append((f"pairs that differ in one respect: {respect}", f"{value:.3f}"))
    text = table(("held-out pairs", "accuracy"), rows)
    return Page(title="How well it ranks held-out pairs", markdown=text)
