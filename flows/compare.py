"""One report on several pipeline runs, as a flow."""

from prefect import flow

from tasks.comparison.compare import ComparisonResult, compare_runs


@flow(name="compare", persist_result=False)
def compare_flow(runs: list[str]) -> ComparisonResult:
    """Compare pipeline runs: which is best, why, and how sure that is.

    Args:
        runs: Two to seven runs, each by its name, by its MLflow id, or by the id's first six or
            more characters.
    """
    return compare_runs(runs)
