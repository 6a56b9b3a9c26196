"""The review queue of a run's items in MLflow: made or found, filled, and how far it is.

It is named after the samples that it asks about, so every run with the same samples has the same
queue. An item that was asked in another queue keeps its trace and its answers. So a queue that
somebody deleted is made again with nothing lost, and filling it twice does nothing.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.rows import Content
from tasks.escaping import for_markdown
from tasks.labelling.answers import is_answered, labels_of, questions
from tasks.labelling.items import LABELS, LETTERS, Item, Labels
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.reviews import PREVIEW, Review, Reviews, ReviewTrace, Shown

ARTIFACTS = "labels"
"""Of a pipeline's MLflow run: the labels that it went on with."""
QUEUE, NEEDED = "feedback.queue", "feedback.needed"
"""Tags of a pipeline's MLflow run: the queue that it waits for, and how many reviews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a queue is, in items."""

    complete: int
    declined: int
    total: int

    def reached(self, needed: int) -> bool:
        """Whether enough were reviewed; a declined one was."""
        return self.complete + self.declined >= min(needed, self.total)

    def __str__(self) -> str:
        declined = f", {self.declined} declined" if self.declined else ""
        return f"{self.complete} of {self.total} items reviewed{declined}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue as it was found.

    Attributes:
        page: Its address; empty where no server shows it.
        needed: Reviews that a run waits for.
    """

    queue_id: str
    name: str
    page: str
    needed: int
    items: Sequence[Item]
    traces: dict[str, ReviewTrace]
    reviews: dict[str, Review]

    @property
    def progress(self) -> Progress:
        """How far it is."""
        waiting = Review(status="pending")
        traces = [self.traces[item.key].trace_id for item in self.items]
        stands = [self.reviews.get(one, waiting).status for one in traces]
        return Progress(
            complete=stands.count("complete"),
            declined=stands.count("declined"),
            total=len(stands),
        )

    @property
    def labels(self) -> Labels:
        """What people answered so far."""
        return labels_of(self.items, self.traces, self.reviews, self.name)


def fill_queue(
    items: Sequence[Item], samples: StageRef, share: float, pipeline: PipelineRun
) -> Queue:
    """Put items before people, as far as they are not there yet, and look how far they are.

    Args:
        items: All of the samples.
        samples: The stage that published them; the queue bears its name and digest.
        share: Of the items that must be reviewed.
        pipeline: Whose MLflow run is marked with the queue.

    Raises:
        ConnectionError: The server does not answer.
        QuartetError: It did not take all items.
    """
    settings = load_settings()
    tracker = Tracker(settings)
    reviews = Reviews(tracker)
    traces = reviews.traces()
    missing = {item.key: _shown(item) for item in items if item.key not in traces}
    if missing:
        traces = reviews.show(missing)
    mark = f"{samples.stage.partition('-')[0]} {samples.digest[:12]}"
    asked = reviews.ask(questions(len(LETTERS)))[: max(len(one.completions) for one in items)]
    found = reviews.queue(mark)
    queue_id, name = found or reviews.make_queue(
        f"{pipeline.name[:200]} {mark}", raters=settings.rater_names, questions=asked
    )
    ids = {item.key: traces[item.key].trace_id for item in items}
    there = reviews.reviews(queue_id) or {}
    if not there.keys() >= set(ids.values()):
        reviews.attach(queue_id, [one for one in ids.values() if one not in there])
        for item in items:  # what was labelled once is not asked again
            rater = is_answered(item, traces[item.key])
            if rater and ids[item.key] not in there:
                reviews.complete(queue_id, ids[item.key], rater)
        there = reviews.reviews(queue_id) or {}
    needed = math.ceil(share * len(items) - 1e-9)
    tracker.log(pipeline.run_id, tags={QUEUE: queue_id, NEEDED: str(needed)})
    uri = settings.tracking_uri
    return Queue(
        queue_id=queue_id,
        name=name,
        page=f"{uri.rstrip('/')}/{reviews.page(queue_id)}" if uri else "",
        needed=needed,
        items=items,
        traces=traces,
        reviews=there,
    )


def _prompt_text(prompt: Content) -> str:
    if isinstance(prompt, str):
        return _as_written(prompt)
    if len(prompt) == 1:
        return _as_written(prompt[0]["content"])
    return "\n\n".join(f"**{turn['role']}** {_as_written(turn['content'])}" for turn in prompt)


def _shown(item: Item) -> Shown:
    whole = _text(item)
    preview, characters = whole, PREVIEW
    while len(preview) > PREVIEW:
        characters = characters * 9 // 10
        preview = f"{_text(item, characters)}\n\n*Cut; whole in the full trace.*"
    return Shown(prompt=_prompt_text(item.prompt), text=whole, preview=preview)


def _text(item: Item, characters: int | None = None) -> str:
    """All completions, or so many characters of each, under their letters."""
    parts = []
    for letter, text in zip(LETTERS, item.completions, strict=False):
        cut = characters is not None and len(text) > characters
        parts.append(f"### {letter}\n\n{_as_written(f'{text[:characters]}…' if cut else text)}")
    return "\n\n".join(parts)


def _as_written(text: str) -> str:
    """Foreign text as Markdown that shows it, line by line, and obeys nothing in it."""
    return "  \n".join(map(for_markdown, text.split("\n")))


def keep_labels(labels: Labels, pipeline: PipelineRun) -> None:
    """Keep the labels that a run goes on with, so that its retries go on with the same."""
    with tempfile.TemporaryDirectory() as folder:
        Tracker(load_settings()).log_file(pipeline.run_id, labels.write(Path(folder)), ARTIFACTS)


def kept_labels(pipeline: PipelineRun) -> Labels | None:
    """The labels that an earlier attempt of this run went on with, if there was one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Tracker(load_settings()).fetch_file(
            pipeline.run_id, f"{ARTIFACTS}/{LABELS}", Path(folder)
        )
        return Labels.read(file) if file else None


def is_awaited_queue_done(tracker: Tracker, run_id: str) -> bool:
    """Whether what a suspended pipeline waits for is there, or its queue is gone.

    Args:
        tracker: Of the server that has both.
        run_id: The pipeline's MLflow run.
    """
    tags = tracker.tags(run_id)
    if QUEUE not in tags:
        return False
    reviews = Reviews(tracker).reviews(tags[QUEUE])
    if reviews is None:
        return True
    handled = [one for one in reviews.values() if one.status != "pending"]
    return len(handled) >= min(int(tags.get(NEEDED, "0")), len(reviews))
