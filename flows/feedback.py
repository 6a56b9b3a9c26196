"""Feedback by people: samples into a review queue, labels out of it; `waiting` is in between."""

from collections.abc import Sequence

from flows.parameters import PipelineParameters
from models.errors import DataError
from tasks.labelling.items import Labels, read_items
from tasks.labelling.pairs import pairs_of
from tasks.labelling.queue import fill_queue, keep_labels, kept_labels
from tasks.labelling.rounds import LastRound
from tasks.labelling.waiting import refuse_missing
from tasks.results.store import StageRef
from tasks.run.exchange import published_folder
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planning
from tasks.stages.feedback_samples import sample_for_people
from tasks.stages.labels import learn_from_labels


def ask_people(
    p: PipelineParameters,
    pipeline: PipelineRun,
    *,
    data: StageRef,
    sft: StageRef,
    before: Sequence[StageRef] = (),
    rivals: tuple[StageRef, StageRef] | None = None,
) -> tuple[StageRef, StageRef]:
    """Return the samples, and the preferences that people made of all samples so far.

    Args:
        sft: The model that samples.
        before: Samples of earlier rounds, whose answers are read again.
        rivals: Reward models that choose what is asked, if they do.

    Raises:
        DataError: All is answered, and no completion is better than another.
        AwaitingPeopleError: Answers are missing.
    """
    samples = sample_for_people(
        p.feedback,
        p.sampling,
        pipeline=pipeline,
        data=data,
        sft=sft,
        last=LastRound(earlier=before[-1] if before else None, rivals=rivals),
    )
    labels = Labels() if planning() is not None else _labels(p, samples, pipeline, before)
    ties = p.data.ties == "half"
    return samples, learn_from_labels(
        p.feedback, labels, ties=ties, pipeline=pipeline, data=data, samples=samples
    )


def _labels(
    p: PipelineParameters,
    samples: StageRef,
    pipeline: PipelineRun,
    before: Sequence[StageRef] = (),
) -> Labels:
    kept = kept_labels(samples, pipeline)
    if kept is not None:
        return kept
    labels = Labels()
    for each in (*before, samples):
        items = read_items(published_folder(each))
        queue = fill_queue(
            items, each, p.feedback.answered_share, pipeline, twice=p.feedback.rated_twice
        )
        labels += queue.labels
    ties = p.data.ties == "half"
    some = bool(pairs_of(labels.rows, ties=ties)[0])
    refuse_missing(queue, some=some)
    if not some:
        raise DataError(
            f"review queue {queue.name!r}: {queue.progress}, but no two completions of an item "
            "have different ratings; rate some of them differently, or ask about more prompts "
            "(feedback.prompts)"
        )
    keep_labels(labels, samples, pipeline)
    return labels
