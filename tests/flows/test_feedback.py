"""What a run does about its review queue, without a Prefect server; with one: test_operated.py."""

from typing import Any

import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues

from flows.feedback import _labels
from flows.parameters import PipelineParameters, load_preset
from models.errors import DataError, QuartetError
from models.language.config import SamplingConfig
from tasks.labelling.items import read_items
from tasks.labelling.queue import fill_queue
from tasks.labelling.rounds import LastRound
from tasks.results.store import StageRef
from tasks.run.exchange import published_folder
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.stages.feedback_samples import sample_for_people
from tasks.tracking.client import Tracker
from tests.tasks.stages.test_feedback import PROMPTS, prepared, sampler

__all__ = ["sampler"]


@pytest.fixture
def parameters() -> PipelineParameters:
    people = ("annotator=people", "prompts=2", "completions=3", "answered_share=0.5")
    return load_preset("quickstart", [f"feedback.{one}" for one in people])


@pytest.fixture
def pipeline(sampler: Any) -> PipelineRun:
    run_id = Tracker(load_settings()).start_run("Ann's run", parameters={}, tags={})
    return PipelineRun(name="Ann's run", preset="quickstart", seed=0, run_id=run_id)


@pytest.fixture
def samples(parameters: PipelineParameters, pipeline: PipelineRun) -> StageRef:
    data = prepared(PROMPTS)
    return sample_for_people.fn(
        parameters.feedback, SamplingConfig(), pipeline=pipeline, data=data, sft=data
    )


def answer(samples: StageRef, pipeline: PipelineRun, ratings: str) -> None:
    items = read_items(published_folder(samples))
    queue = fill_queue(items, samples, 0.5, pipeline)
    trace_id = queue.traces[items[0].key].trace_id
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="ann")
    for letter, value in zip("ABC", ratings, strict=True):
        mlflow.log_feedback(
            trace_id=trace_id, name=f"Quality of {letter}", value=value, source=human
        )
    review_queues.set_review_queue_item_status(
        queue.queue_id, item_id=trace_id, status="complete", completed_by="ann"
    )


def test_run_that_nothing_could_resume_says_where_to_answer_and_goes_on_when_started_again(
    parameters: PipelineParameters, samples: StageRef, pipeline: PipelineRun
) -> None:
    with pytest.raises(
        QuartetError, match=r"\"Ann's run feedback .* 0 of 2 items reviewed, wanted 1; review them"
    ):
        _labels(parameters, samples, pipeline)
    answer(samples, pipeline, "174")
    labels = _labels(parameters, samples, pipeline)
    assert [row["ratings"] for row in labels.rows] == [[1, 7, 4]]
    answer(samples, pipeline, "111")
    assert _labels(parameters, samples, pipeline) == labels  # a retry goes on with the same
    other = pipeline.model_copy(
        update={"run_id": Tracker(load_settings()).start_run("next", parameters={}, tags={})}
    )
    with pytest.raises(DataError, match="no two completions of an item have different ratings"):
        _labels(parameters, samples, other)


def test_run_that_has_a_queue_for_each_rater_waits_for_all(
    parameters: PipelineParameters,
    samples: StageRef,
    pipeline: PipelineRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUARTET_RATERS", "ann,bob")
    twice = parameters.feedback.model_copy(update={"rated_twice": 1.0, "answered_share": 1.0})
    with pytest.raises(
        QuartetError, match="0 of 4 items reviewed, wanted 4; review them in MLflow"
    ):
        _labels(parameters.model_copy(update={"feedback": twice}), samples, pipeline)


def test_rounds_have_queues_and_kept_labels_of_their_own_and_read_all_answers_again(
    parameters: PipelineParameters, pipeline: PipelineRun
) -> None:
    data = prepared(PROMPTS)

    def ask(last: LastRound) -> StageRef:
        given = {"pipeline": pipeline, "data": data, "sft": data, "last": last}
        return sample_for_people.fn(parameters.feedback, SamplingConfig(), **given)

    first = ask(LastRound())
    second = ask(LastRound(earlier=first))
    answer(first, pipeline, "174")
    kept = _labels(parameters, first, pipeline)
    with pytest.raises(QuartetError, match="0 of 2 items reviewed, wanted 1; review them"):
        _labels(parameters, second, pipeline, [first])
    answer(first, pipeline, "471")  # edited meanwhile
    answer(second, pipeline, "123")
    both = _labels(parameters, second, pipeline, [first])
    assert sorted(row["ratings"] for row in both.rows) == [[1, 2, 3], [4, 7, 1]]
    assert len({row["queue"] for row in both.rows}) == 2
    assert _labels(parameters, first, pipeline) == kept  # a retry of the first round
    assert _labels(parameters, second, pipeline, [first]) == both
