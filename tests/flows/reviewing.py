"""People who review a queue in MLflow: some items in its page, the others through the API."""

import html
import itertools
import math
import shutil
import time
from collections import Counter
from typing import Any
from uuid import UUID

import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues

from models.rows import last_text, read_rows
from tests.flows.browser import Browser, browser
from tests.flows.operated import Operation

PART = "mlflow.experiment-review-queue"


def answer_queue(
    operation: Operation, run_id: UUID, *, share: float, in_page: int, declined: int
) -> Counter[Any]:
    """Rate completions by their length, and give the pairs that this makes, with their margins.

    Args:
        share: Of the items that are reviewed.
        in_page: Of these, answered in the page, where there is a browser.
        declined: Of the others, through the API.
    """
    mlflow.set_tracking_uri(operation.mlflow_uri)
    queue_id = operation.parent(run_id).data.tags["feedback.queue"]
    digest = operation.children(run_id)["feedback-samples"].data.tags["quartet.digest"]
    rows = read_rows(operation.home / "store" / "feedback-samples" / digest / "items.jsonl")
    known = {row["key"]: row for row in rows}
    items = {
        item.item_id: known[mlflow.get_trace(item.item_id).info.tags["quartet.item"]]
        for item in review_queues.list_review_queue_items(queue_id, max_results=500)
    }
    assert len(items) >= 20, len(items)
    answered: list[str] = []
    if shutil.which("chromium") or shutil.which("chromium-browser"):
        with browser() as tab:
            answered = _in_page(operation, tab, queue_id, items, in_page)
        assert len(answered) == in_page
    others = [one for one in items if one not in answered]
    for trace_id in others[: math.ceil(share * len(items)) - len(answered)]:
        status = "declined" if declined else "complete"
        declined = max(0, declined - 1)
        if status == "complete":
            answered.append(trace_id)
            _through_api(trace_id, items[trace_id])
        review_queues.set_review_queue_item_status(
            queue_id, item_id=trace_id, status=status, completed_by="admin"
        )
    return _pairs(items[one] for one in answered)


def rate_all(operation: Operation, run_id: UUID) -> str:
    """Prefer A to B in every item of the queue that a run waits for; the queue's id."""
    mlflow.set_tracking_uri(operation.mlflow_uri)
    queue_id = str(operation.parent(run_id).data.tags["feedback.queue"])
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="admin")
    for item in review_queues.list_review_queue_items(queue_id, max_results=500):
        for letter, rating in (("A", "7"), ("B", "1")):
            mlflow.log_feedback(
                trace_id=item.item_id, name=f"Quality of {letter}", value=rating, source=human
            )
        review_queues.set_review_queue_item_status(
            queue_id, item_id=item.item_id, status="complete", completed_by="admin"
        )
    return queue_id


def _ratings(row: Any) -> dict[str, int]:
    return {
        letter: 1 + len(text) % 7 for letter, text in zip("ABCD", row["completions"], strict=False)
    }


def _through_api(trace_id: str, row: Any) -> None:
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="admin")
    for letter, rating in _ratings(row).items():
        mlflow.log_feedback(
            trace_id=trace_id, name=f"Quality of {letter}", value=f"{rating}", source=human
        )


def _in_page(
    operation: Operation, tab: Browser, queue_id: str, items: dict[str, Any], count: int
) -> list[str]:
    """Start the review as a person does, and answer what the page shows."""
    tab.log_in_to_mlflow(operation.mlflow_uri, operation.password)
    experiment = operation.mlflow.get_experiment_by_name("quartet").experiment_id
    page = f"#/experiments/{experiment}/review-queue?selectedQueueId={queue_id}"
    tab.open(f"{operation.mlflow_uri}/{page}")
    tab.wait_for("Start review")
    _press(tab, f"{PART}.list.start-review")
    _press(tab, f"{PART}.focused-review.assign-self")  # no rater was named
    answered = []
    for number in range(count):
        tab.wait_for(f"{number} of {len(items)} reviewed")
        shown = _shown_item(tab, answered)
        words = items[shown]["completions"][0].split()
        tab.wait_for(*(html.escape(one, quote=False) for one in words))  # after the address
        for letter, rating in _ratings(items[shown]).items():
            _click(tab, f"[role=combobox][aria-label^='Quality of {letter}']")
            _click(tab, "[role=option]", f"one.innerText.startsWith('{rating}')")
        _press(tab, f"{PART}.focused-review.complete")
        answered.append(shown)
    tab.wait_for(f"{count} of {len(items)} reviewed")
    return answered


def _shown_item(tab: Browser, before: list[str]) -> str:
    """The trace that the page shows; it goes on to the next by itself."""
    for _ in range(100):
        shown = str(tab.run("location.href")).partition("selectedItemId=")[2]
        if shown and shown not in before:
            return shown
        time.sleep(0.1)
    raise AssertionError(f"the page shows no further item: {tab.run('location.href')}")


def _press(tab: Browser, component: str) -> None:
    _click(tab, f'[data-component-id="{component}"]')


def _click(tab: Browser, selector: str, which: str = "true") -> None:
    """Click the first element of a kind that can be clicked, once it is there."""
    script = f"""(() => {{
      const found = [...document.querySelectorAll({selector!r})]
        .find((one) => !one.disabled && ({which}));
      if (found) found.click();
      return Boolean(found);
    }})()"""
    for _ in range(100):
        if tab.run(script):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing to click: {selector}")


def _pairs(rows: Any) -> Counter[Any]:
    pairs: Counter[Any] = Counter()
    for row in rows:
        ratings = _ratings(row)
        letters = dict(zip("ABCD", row["completions"], strict=False))
        for one, other in itertools.combinations(letters, 2):
            high, low = sorted((one, other), key=lambda letter: -ratings[letter])
            steps = ratings[high] - ratings[low]
            pairs[last_text(row["prompt"]), letters[high], letters[low], steps / 6] += 1
    return pairs


def vote_for_nobody(operation: Operation, queue_id: str) -> None:
    """Say of every pair that both are as good."""
    mlflow.set_tracking_uri(operation.mlflow_uri)
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="admin")
    for item in review_queues.list_review_queue_items(queue_id, max_results=500):
        mlflow.log_feedback(
            trace_id=item.item_id, name="Better of A and B", value="both are as good", source=human
        )
        review_queues.set_review_queue_item_status(
            queue_id, item_id=item.item_id, status="complete", completed_by="admin"
        )
