"""MLflow's review queues: traces that people look at in its page, the questions, their answers.

A queue holds traces; answers are assessments of the trace, so they outlive the queue. Traces carry
a key as a tag: what is there already is found by it and never made twice, whatever was killed.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import QuartetError
from tasks.tracking.client import Tracker
from tasks.tracking.lazy import entities, label_schemas, mlflow, review_queues
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import every

KEY = "quartet.item"
"""Tag of a trace: what is asked about, whatever the queue."""
BATCH = 100
"""Traces that are attached, or sent before looking whether they arrived."""
ARRIVAL_SECONDS = 30.0
PREVIEW = 1000
"""Characters of a trace's text beside the questions; MLflow's own limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A choice of one of several answers, with room for a comment."""

    name: str
    options: tuple[str, ...]
    instruction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one person answered to one question about one trace; time in ms since 1970."""

    question: str
    value: Any
    rater: str
    time_ms: int
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What people see of a trace: Markdown, which MLflow's page renders in the form of a chat.

    Attributes:
        preview: Of the text, at most `PREVIEW` characters; the page has the rest one click away.
    """

    prompt: str
    text: str
    preview: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewTrace:
    """A trace that people are asked about, with all answers so far."""

    trace_id: str
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Where a trace stands in a queue: pending, complete or declined, and by whom."""

    status: str
    by: str = ""


class Reviews:
    """The review queues of Quartet's experiment.

    Args:
        tracker: Of the server that has them.

    Raises:
        ConnectionError: The server does not answer.
    """

    def __init__(self, tracker: Tracker) -> None:
        tracker.require(patient=True)
        self._client = tracker.client
        self._experiment = tracker.experiment_id

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """Return the ids of questions in order; those that are missing are made, the last first.

        MLflow's page shows the newest question first.
        """
        known = {one.name: one.schema_id for one in every(self._schemas)}
        for one in reversed(questions):
            if one.name not in known:
                known[one.name] = label_schemas.create_label_schema(
                    one.name,
                    type=label_schemas.LabelSchemaType.FEEDBACK,
                    input=label_schemas.InputCategorical(options=list(one.options)),
                    instruction=one.instruction,
                    enable_comment=True,
                    experiment_id=self._experiment,
                ).schema_id
        return [known[one.name] for one in questions]

    def _schemas(self, page_token: str | None) -> Any:
        return label_schemas.list_label_schemas(self._experiment, page_token=page_token)

    def queue(self, mark: str) -> tuple[str, str] | None:
        """Id and name of the oldest queue whose name ends with a mark, if there is one."""

        def queues(page_token: str | None) -> Any:
            return review_queues.list_review_queues(
                experiment_id=self._experiment, page_token=page_token
            )

        found = [one for one in every(queues) if one.name.endswith(mark)]
        return (found[-1].queue_id, found[-1].name) if found else None

    def make_queue(
        self, name: str, *, raters: Sequence[str], questions: Sequence[str]
    ) -> tuple[str, str]:
        """Make a queue and return its id and name."""
        made = review_queues.create_review_queue(
            name,
            queue_type="custom",
            users=list(raters),
            schema_ids=list(questions),
            experiment_id=self._experiment,
        )
        return made.queue_id, made.name

    def add_raters(self, queue_id: str, raters: Sequence[str]) -> None:
        """Let further people mark a queue's items; those who may already stay."""
        users = review_queues.get_review_queue(queue_id).users
        if lacking := [one for one in raters if one not in users]:
            with tolerated(f"the assignment of {', '.join(lacking)} to a review queue"):
                review_queues.update_review_queue(queue_id, users=[*users, *lacking])

    def traces(self) -> dict[str, ReviewTrace]:
        """All whole traces that carry a key, by their keys; the oldest where several have one."""
        found: dict[str, ReviewTrace] = {}
        pages = every(
            self._client.search_traces,
            locations=[self._experiment],
            filter_string=f"tags.`{KEY}` IS NOT NULL",
            order_by=["timestamp_ms DESC"],
            max_results=500,
            include_spans=False,
        )
        for one in pages:
            if one.info.response_preview:  # else a kill kept its text from arriving
                answers = tuple(filter(None, map(_answer, one.info.assessments)))
                found[one.info.tags[KEY]] = ReviewTrace(trace_id=one.info.trace_id, answers=answers)
        return found

    def show(self, texts: Mapping[str, Shown]) -> dict[str, ReviewTrace]:
        """Make traces of texts by key, and return all that there are.

        Raises:
            QuartetError: Some did not arrive; those that did are found by the next try.
        """
        here = entities.trace_location.MlflowExperimentLocation(self._experiment)
        keys = list(texts)
        for start in range(0, len(keys), BATCH):
            for key in keys[start : start + BATCH]:
                shown = texts[key]
                with mlflow.start_span("completions", trace_destination=here) as span:
                    span.set_inputs({"messages": [_message("user", shown.prompt)]})
                    span.set_outputs({"choices": [{"message": _message("assistant", shown.text)}]})
                    mlflow.update_current_trace(tags={KEY: key}, response_preview=shown.preview)
            mlflow.flush_trace_async_logging()
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while True:
            there = self.traces()
            missing = [key for key in keys if key not in there]
            if not missing:
                return there
            if time.monotonic() > deadline:
                break
            time.sleep(1.0)
        raise QuartetError(
            f"MLflow took {len(keys) - len(missing)} of {len(keys)} items that people are to "
            "review; look at its log, and start the run again: it sends the others"
        )

    def attach(self, queue_id: str, traces: Iterable[str]) -> None:
        """Put traces into a queue; those that are in it keep their status."""
        ids = list(traces)
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            review_queues.add_items_to_review_queue(queue_id, item_ids=part)

    def reviews(self, queue_id: str) -> dict[str, Review] | None:
        """Where each trace of a queue stands, by trace id; None where the queue was deleted."""

        def items(page_token: str | None) -> Any:
            return review_queues.list_review_queue_items(
                queue_id, max_results=500, page_token=page_token
            )

        try:
            return {
                one.item_id: Review(status=str(one.status), by=one.completed_by or "")
                for one in every(items)
            }
        except mlflow.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def complete(self, queue_id: str, trace_id: str, by: str) -> None:
        """Mark a trace as reviewed."""
        review_queues.set_review_queue_item_status(
            queue_id, item_id=trace_id, status="complete", completed_by=by
        )

    def page(self, queue_id: str) -> str:
        """Address of a queue's page, below the server's root."""
        return f"#/experiments/{self._experiment}/review-queue?selectedQueueId={queue_id}"


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _answer(assessment: Any) -> Answer | None:
    """What a person answered; None for what programs wrote, expectations, and replaced answers."""
    human = assessment.source.source_type == entities.AssessmentSourceType.HUMAN
    if not human or assessment.feedback is None or assessment.valid is False:
        return None
    return Answer(
        question=assessment.name,
        value=assessment.value,
        rater=assessment.source.source_id or "",
        time_ms=int(assessment.last_update_time_ms or assessment.create_time_ms or 0),
        comment=assessment.rationale or "",
    )
