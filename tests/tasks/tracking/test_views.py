"""Views of MLflow's list of runs: installed once, and never over a person's own words."""

import json
from urllib.parse import parse_qs

import pytest

from tasks.catalogue import CATALOGUE
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.facts import BEST
from tasks.tracking.views import NOTE, install_views

LONGEST_TAG = 5000
"""What MLflow takes as the value of an experiment's tag."""


@pytest.fixture
def tracker(home: object) -> Tracker:
    return Tracker(load_settings())


def tags(tracker: Tracker) -> dict[str, str]:
    return dict(tracker.client.get_experiment(tracker.experiment_id).tags)


def test_install_views_gives_the_address_of_a_view_that_is_there(tracker: Tracker) -> None:
    page = install_views(tracker, "ppo")
    path, _, words = page.partition("?")
    assert path == f"#/experiments/{tracker.experiment_id}/runs"
    query = parse_qs(words)
    assert query["workflowType"] == ["machine_learning"]
    made = tags(tracker)
    view = json.loads(made[f"mlflow.sharedViewState.{query['viewStateShareKey'][0]}"])
    assert view["searchFilter"] == "tags.`quartet.kind` = 'pipeline'"
    assert (view["orderByKey"], view["orderByAsc"]) == (f"metrics.`{BEST}`", False)
    assert all(len(text) < LONGEST_TAG for text in made.values())
    install_views(tracker, "ppo")  # by the next `quartet up`
    assert tags(tracker) == made


def test_curves_are_drawn_in_the_order_of_the_catalogue(tracker: Tracker) -> None:
    install_views(tracker, "ppo")
    view = json.loads(tags(tracker)["mlflow.sharedViewState.quartet-curves"])
    drawn = [chart["metricKey"] for chart in view["compareRunCharts"]]
    assert drawn == [curve.metric for curve in CATALOGUE["ppo"].curves]
    assert drawn[:2] == ["ppo/objective/score", "ppo/objective/kl_to_reference"]


def test_description_has_the_views_and_searches_that_find_what_they_say(tracker: Tracker) -> None:
    install_views(tracker, "ppo")
    text = tags(tracker)[NOTE]
    assert text.count("viewStateShareKey=") == 3
    for name, accepted, status in (("good", 1.0, "FINISHED"), ("bad", 0.0, "FAILED")):
        run_id = tracker.start_run(name, parameters={}, tags={"quartet.kind": "pipeline"})
        tracker.log(run_id, metrics={"final/accepted": accepted})
        tracker.finish(run_id, status)  # type: ignore[arg-type]
    searches = [line.split(": `")[1].rstrip("`") for line in text.splitlines()[2:]]
    found = [[run.info.run_name for run in tracker.runs(where)] for where in searches]
    assert found == [["good"], ["bad"]]


def test_description_that_a_person_wrote_stays(tracker: Tracker) -> None:
    tracker.client.set_experiment_tag(tracker.experiment_id, NOTE, "Ours, for the paper.")
    install_views(tracker, "ppo")
    assert tags(tracker)[NOTE] == "Ours, for the paper."
