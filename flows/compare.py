"""The flow that compares pipeline runs."""

from prefect import flow

from flows.forms import RunName, RunNote
from flows.lifecycle import name_run
from tasks.comparison.compare import ComparisonResult, compare_runs


@flow(name="compare", flow_run_name=name_run, persist_result=False)
def compare_flow(runs: list[str], name: RunName = "", note: RunNote = "") -> ComparisonResult:
    """Compare pipeline runs: which is best, why, and how certain that is.

    Args:
        runs: Two to seven runs, each by name, MLflow id, or at least six first characters of the
            id. Of several with one name the id tells which.
        name: Of the comparison, in Prefect and MLflow.
        note: Shown with it in MLflow.
    """
    return compare_runs(runs, name=name, note=note)
