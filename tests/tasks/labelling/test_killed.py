"""A process that is killed while it fills a review queue, on a real MLflow server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.genai import review_queues

from tasks.labelling.items import Item
from tasks.labelling.queue import fill_queue
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.tracking.mlflow_server import Server

COUNT = 150
ITEMS = [
    item for n in range(COUNT) if (item := Item.of(f"prompt {n}", [f"a {n}", f"b {n}"])) is not None
]
SAMPLES = StageRef(stage="feedback-samples", digest="ab" * 32)
FILL = "from tests.tasks.labelling.test_killed import fill; fill()"


def fill() -> str:
    """Fill the queue as a run does, and give its id."""
    run_id = Tracker(load_settings()).start_run("killed", parameters={}, tags={})
    pipeline = PipelineRun(name="killed", preset="toy", seed=0, run_id=run_id)
    return fill_queue(ITEMS, SAMPLES, 1.0, pipeline).queue_id


@pytest.mark.campaign
def test_filling_that_is_killed_anywhere_goes_on_with_nothing_made_twice(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after 40 and after 120 traces: in the first batch and in the second."""
    with Server(tmp_path) as server:
        server.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", server.uri)
        tracker = Tracker(load_settings())

        def keys() -> list[str]:
            """Of all traces, whole or not."""
            found, token = [], None
            while True:
                page = tracker.client.search_traces(
                    locations=[tracker.experiment_id], max_results=500, page_token=token,
                    include_spans=False,
                )  # fmt: skip
                found += [one.info.tags.get("quartet.item", "") for one in page]
                token = page.token
                if not token:
                    return found

        for enough in (40, 120):
            process = subprocess.Popen([sys.executable, "-c", FILL], env=os.environ)
            while len(set(keys())) < enough:
                assert process.poll() is None, "it filled the queue before it was killed"
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert len(keys()) < COUNT
        queue_id = fill()
        items = list(review_queues.list_review_queue_items(queue_id, max_results=500))
        assert len({one.item_id for one in items}) == len(items) == COUNT
        asked = {tracker.client.get_trace(one.item_id).info.tags["quartet.item"] for one in items}
        assert asked == {item.key for item in ITEMS}
        whole = [key for key in keys() if key]
        assert len(whole) - len(set(whole)) <= 2 * 10  # what a kill cut is sent again
