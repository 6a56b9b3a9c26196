"""What MLflow's page of runs shows first: two views of its list, and the experiment's description.

A view is what MLflow's own *Share* button writes: a tag of the experiment with the columns, their
order, the filter and the charts, opened by `viewStateShareKey` in an address. MLflow has no other
default than the one each browser remembers, so the views are reached by links: from `quartet up`,
and from the description above the list.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tasks.catalogue import entry
from tasks.tracking.client import Tracker
from tasks.tracking.facts import BEST

BEST_RUNS, CURVES = "quartet-best", "quartet-curves"
"""Keys of the views."""

PIPELINES = "tags.`quartet.kind` = 'pipeline'"

COLUMNS: Mapping[str, int] = {
    "attributes.`Run Name`": 215,
    "runDateAndNestInfo": 140,
    "tags.`quartet.verdict`": 110,
    "metrics.`final/gain`": 85,
    "metrics.`final/gain_low`": 110,
    "metrics.`final/controlled_gain`": 160,
    "metrics.`final/kl`": 75,
    "metrics.`final/length_ratio`": 130,
    "tags.`quartet.changed`": 280,
}
"""Of the list of pipelines, by MLflow's own ids, with their widths."""

HEADING = "**Which policy is best?**"
NOTE = "mlflow.note.content"


def install_views(tracker: Tracker, stage: str) -> str:
    """Write views and description to the experiment; a description that a person wrote stays.

    Args:
        stage: Whose curves the second view draws.

    Returns:
        Address of the first view, below the server's root.
    """
    experiment = tracker.client.get_experiment(tracker.experiment_id)
    written = experiment.tags.get(NOTE, "")
    tags = {
        f"mlflow.sharedViewState.{BEST_RUNS}": json.dumps(_best_runs()),
        f"mlflow.sharedViewState.{CURVES}": json.dumps(_curves(stage)),
    }
    if not written or written.startswith(HEADING):
        tags[NOTE] = _description(tracker, stage)
    for key, text in tags.items():
        if experiment.tags.get(key) != text:
            tracker.client.set_experiment_tag(tracker.experiment_id, key, text)
    return _page(tracker, viewStateShareKey=BEST_RUNS)


def _best_runs() -> dict[str, Any]:
    """Pipelines, the best accepted one first; those without a number follow, the newest first."""
    return {
        "searchFilter": PIPELINES,
        "orderByKey": f"metrics.`{BEST}`",
        "orderByAsc": False,
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": dict(COLUMNS),
    }


def _curves(stage: str) -> dict[str, Any]:
    """Curves of the policies' training, those that tell most about it first."""
    curves = entry(stage).curves
    section = {"uuid": "quartet", "name": entry(stage).title, "display": True}
    return {
        "searchFilter": f"tags.`quartet.stage` = '{stage}'",
        # Sorted by time, they would be folded up below their pipelines and not drawn.
        "orderByKey": f"metrics.`{curves[0].metric}`",
        "orderByAsc": False,
        "isAccordionReordered": True,
        "compareRunSections": [section | {"isReordered": True}],
        "compareRunCharts": [
            {"type": "LINE", "uuid": curve.metric, "metricSectionId": "quartet"}
            | {"metricKey": curve.metric, "deleted": False}
            | {"useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
            for curve in curves
        ],
    }


def _description(tracker: Tracker, stage: str) -> str:
    accepted = f"{PIPELINES} and metrics.`final/accepted` = 1"
    unfinished = f"{PIPELINES} and attributes.status != 'FINISHED'"
    best = _page(tracker, viewStateShareKey=BEST_RUNS)
    texts = _page(tracker, viewStateShareKey=BEST_RUNS, compareRunsMode="ARTIFACT")
    charts = _page(tracker, viewStateShareKey=CURVES, compareRunsMode="CHART")
    return "\n".join(
        [
            f"{HEADING} [Pipelines, the best accepted one first]({best}) · "
            f"[{entry(stage).title}: score, KL and length]({charts}) · "
            f"[Completions, prompt by prompt]({texts})",
            "",
            f"- [Accepted ones only]({_search(tracker, accepted)}): `{accepted}`",
            f"- [Failed, cancelled or running]({_search(tracker, unfinished)}): `{unfinished}`",
        ]
    )


def _search(tracker: Tracker, where: str) -> str:
    return _page(tracker, searchFilter=where, orderByKey=f"metrics.`{BEST}`", orderByAsc="false")


def _page(tracker: Tracker, **query: str) -> str:
    """Address of the list of runs below the server's root, in MLflow's view for training."""
    words = urlencode(query | {"workflowType": "machine_learning"}, quote_via=quote)
    return f"#/experiments/{tracker.experiment_id}/runs?{words}"
