"""What the parent run of a pipeline says of its stages: results by digest, headlines, costs.

Each stage adds its own as it finishes, in one request; the end of the pipeline adds the sums. So
one row of MLflow's table of runs is enough to compare pipelines.
"""

from collections.abc import Mapping
from pathlib import Path

from tasks.catalogue import entry
from tasks.results.store import Manifest
from tasks.tracking.client import Tracker
from tasks.tracking.facts import manifest_cost

COSTS = {"time/seconds": "seconds", "usage/tokens": "tokens", "usage/flops": "flops"}
"""A stage's costs as its own run names them, and as they are summed."""

GROUP = "usage/"
"""MLflow shows groups of charts in the order of their names: this one comes after `final/`."""


def headlines(manifest: Manifest) -> dict[str, float]:
    """A stage's few numbers under the names that a parent run has for them."""
    row = entry(manifest.stage)
    if row.final:
        return dict(manifest.metrics)
    wanted = row.headlines
    return {wanted[name]: value for name, value in manifest.metrics.items() if name in wanted}


def show_output(
    tracker: Tracker, parent: str, manifest: Manifest, folder: Path, *, run_id: str = ""
) -> None:
    """Say on a parent run what one stage gave; to do it again changes nothing.

    Args:
        tracker: Where to.
        parent: The parent run.
        manifest: Of the result.
        folder: The result.
        run_id: The run that computed it for this parent, whose cost the parent bears; empty for a
            result that was reused, which cost nothing this time.
    """
    stage = manifest.stage
    tags = {
        f"output.{stage}": f"{stage}/{manifest.digest}",
        f"output.{stage}.run_id": run_id or manifest.run_id,
    }
    cost = {
        f"{GROUP}{stage}_{COSTS[name]}": value
        for name, value in manifest_cost(manifest, folder).metrics().items()
    }
    if not run_id:  # paid for by another run, or by an earlier attempt of this one
        there = tracker.metrics(parent)
        cost = {name: there.get(name, 0.0) for name in cost}
    tracker.log(parent, metrics=headlines(manifest) | cost, tags=tags)


def totals(metrics: Mapping[str, float]) -> dict[str, float]:
    """Sum the costs that stages left on a parent run: `final/seconds`, `final/tokens`, …

    A pipeline that reused everything spent 0 seconds on its stages.
    """
    sums: dict[str, float] = {"final/seconds": 0.0}
    for name, value in metrics.items():
        unit = name.rpartition("_")[2]
        if name.startswith(GROUP) and unit in COSTS.values():
            sums[f"final/{unit}"] = sums.get(f"final/{unit}", 0.0) + value
    return sums


def show_totals(tracker: Tracker, parent: str) -> None:
    """Log the sums on a parent run, unless it shows them already."""
    there = tracker.metrics(parent)
    changed = {name: v for name, v in totals(there).items() if there.get(name) != v}
    if changed:
        tracker.log(parent, metrics=changed)
