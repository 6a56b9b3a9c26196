"""The flow that compares pipeline runs."""

from prefect import flow

from tasks.comparison.compare import ComparisonResult, compare_runs


@flow(name="compare", persist_result=False)
def compare_flow(runs: list[str]) -> ComparisonResult:
    """Compare pipeline runs: which is best, why, and how certain that is.

    Args:
        runs: Two to seven runs, each by name, MLflow id, or at least six first characters of the
            id.
    """
    return compare_runs(runs)
