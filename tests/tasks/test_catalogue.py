"""Which numbers of a stage its MLflow run shows."""

from tasks.catalogue import CATALOGUE, Entry, KeyMetric


def test_a_run_shows_what_stands_for_its_stage_or_everything() -> None:
    numbers = {"a/key": 1.0, "a/other": 2.0}
    few = Entry(title="A", key_metrics=(KeyMetric("a/key", "key"),))
    assert few.shown(numbers) == {"a/key": 1.0}
    detailed = Entry(title="A", key_metrics=(KeyMetric("a/key", "key"),), detailed=True)
    assert detailed.shown(numbers) == numbers
    assert CATALOGUE["prepare"].detailed
