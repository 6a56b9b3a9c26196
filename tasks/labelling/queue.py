"""The review queues of a run's items in MLflow: made or found, filled, and how far they are.

One that everybody shares, or one for each rater, since MLflow takes an item for reviewed when any
one rater has answered. They are named after the samples that they ask about, so every run with the
same samples has the same queues. An item that was asked in another queue keeps its trace and its
answers. So a queue that somebody deleted is made again with nothing lost, and filling it twice
does nothing.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from tasks.escaping import for_markdown
from tasks.labelling.answers import COMPARISON, RATINGS, Place, labels_of, who_answered
from tasks.labelling.assignment import EVERYBODY, assign
from tasks.labelling.items import LABELS, Item, Labels
from tasks.labelling.shown import shown
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.reviews import Review, Reviews, ReviewTrace

ARTIFACTS = "labels"
"""Of a pipeline's MLflow run: the labels that it went on with."""
QUEUE, NEEDED = "feedback.queue", "feedback.needed"
"""Tags of a pipeline's MLflow run: the queues that it waits for, and how many reviews in them."""
PENDING = Review(status="pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far queues are, in items; one that two raters are asked about counts twice."""

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
class RaterQueue:
    """One of MLflow's queues as it was found.

    Attributes:
        page: Its address; empty where no server shows it.
        rater: Whose it is; `EVERYBODY`'s where all share one.
        reviews: By trace; also of items that it asked about earlier.
        asks: Traces of the items that it asks about now, by the items' keys.
    """

    queue_id: str
    name: str
    page: str
    rater: str
    reviews: Mapping[str, Review]
    asks: Mapping[str, str]

    def review(self, key: str) -> Review:
        """Where an item stands."""
        return self.reviews.get(self.asks[key], PENDING)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        stands = [self.review(key).status for key in self.asks]
        return Progress(
            complete=stands.count("complete"),
            declined=stands.count("declined"),
            total=len(stands),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What people are asked, in one queue or in one for each rater.

    Attributes:
        needed: Reviews that a run waits for.
    """

    queues: Sequence[RaterQueue]
    needed: int
    items: Sequence[Item]
    traces: Mapping[str, ReviewTrace]

    @property
    def queue_id(self) -> str:
        """Ids of all, separated by commas."""
        return ",".join(one.queue_id for one in self.queues)

    @property
    def name(self) -> str:
        """Of all: that of the first without its rater."""
        return self.queues[0].name.removesuffix(self.queues[0].rater).rstrip()

    @property
    def page(self) -> str:
        """Address of the queue, or of the page that has all."""
        page = self.queues[0].page
        return page if len(self.queues) == 1 else page.partition("?")[0]

    @property
    def progress(self) -> Progress:
        """How far all are together."""
        each = [one.progress for one in self.queues]
        return Progress(
            complete=sum(one.complete for one in each),
            declined=sum(one.declined for one in each),
            total=sum(one.total for one in each),
        )

    @property
    def labels(self) -> Labels:
        """What people answered so far."""
        places: dict[str, list[Place]] = {}
        for one in self.queues:
            for key in one.asks:
                place = Place(queue=one.name, rater=one.rater, review=one.review(key))
                places.setdefault(key, []).append(place)
        return labels_of(self.items, self.traces, places)

    def describe(self) -> str:
        """How far each queue is, with its address, in Markdown."""
        lines = []
        for one in self.queues:
            link = f" [Review them]({one.page})." if one.page else ""
            lines.append(f"- **{for_markdown(one.name)}**: {one.progress}.{link}")
        return "\n".join(lines)


def fill_queue(
    items: Sequence[Item],
    samples: StageRef,
    share: float,
    pipeline: PipelineRun,
    *,
    twice: float = 0.0,
) -> Queue:
    """Put items before people, as far as they are not there yet, and look how far they are.

    Args:
        items: All of the samples.
        samples: The stage that published them; the queue bears its name and digest.
        share: Of the reviews that are waited for.
        pipeline: Whose MLflow run is marked with the queue.
        twice: Share of the items that two raters are asked about, each in their own queue.

    Raises:
        ConnectionError: The server does not answer.
        QuartetError: It did not take all items.
    """
    lock = load_settings().root / "locks" / "review-queues.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # of two runs that ask the same at once one makes the queue
        return _fill(items, samples, share, pipeline, twice)


def _fill(
    items: Sequence[Item], samples: StageRef, share: float, pipeline: PipelineRun, twice: float
) -> Queue:
    settings = load_settings()
    tracker = Tracker(settings)
    reviews = Reviews(tracker)
    traces = reviews.traces()
    missing = {item.key: shown(item) for item in items if item.key not in traces}
    if missing:
        traces = reviews.show(missing)
    server = settings.tracking_uri.rstrip("/")
    most = max(len(item.completions) for item in items)
    asked = reviews.ask([COMPARISON]) if most == 2 else reviews.ask(RATINGS)[:most]
    asking = samples.stage.partition("-")[0]
    queues = []
    for rater, own in assign(items, settings.rater_names, twice).items():
        mark = f"{asking} {samples.digest[:12]} {rater}".rstrip()
        raters = settings.rater_names if rater == EVERYBODY else [rater]
        queue_id, name = reviews.queue(mark) or reviews.make_queue(
            f"{pipeline.name[: 200 - len(rater)]} {mark}", raters=raters, questions=asked
        )
        reviews.add_raters(queue_id, raters)  # of one that was made for others
        queues.append(
            RaterQueue(
                queue_id=queue_id,
                name=name,
                page=f"{server}/{reviews.page(queue_id)}" if server else "",
                rater=rater,
                reviews=reviews.reviews(queue_id) or {},
                asks={item.key: traces[item.key].trace_id for item in own},
            )
        )
    queues = _attach(reviews, queues, items, traces)
    total = sum(len(one.asks) for one in queues)
    needed = math.ceil(share * total - 1e-9)
    filled = Queue(queues=queues, needed=needed, items=items, traces=traces)
    earlier = sum(_handled(one.reviews) for one in queues) - sum(
        one.progress.complete + one.progress.declined for one in queues
    )
    tags = {QUEUE: filled.queue_id, NEEDED: str(needed + earlier)}
    tracker.log(pipeline.run_id, tags=tags)
    return filled


def _attach(
    reviews: Reviews,
    queues: Sequence[RaterQueue],
    items: Sequence[Item],
    traces: Mapping[str, ReviewTrace],
) -> list[RaterQueue]:
    """Put into queues what they lack; what was labelled once is not asked again."""
    new: dict[str, list[RaterQueue]] = {}
    for one in queues:
        absent = {key: at for key, at in one.asks.items() if at not in one.reviews}
        if absent:
            reviews.attach(one.queue_id, absent.values())
        for key in absent:
            new.setdefault(key, []).append(one)
    for item in items:
        asked = [one for one in queues if item.key in one.asks]
        known = {one.review(item.key).by for one in asked} | {one.rater for one in asked}
        answered = who_answered(item, traces[item.key]) if item.key in new else []
        others = iter([rater for rater in answered if rater not in known])
        for one in new.get(item.key, ()):
            by = one.rater if one.rater in answered else next(others, "")
            if by:
                reviews.complete(one.queue_id, traces[item.key].trace_id, by)
    changed = {one.queue_id for found in new.values() for one in found}
    return [
        replace(one, reviews=reviews.reviews(one.queue_id) or {})
        if one.queue_id in changed
        else one
        for one in queues
    ]


def _handled(reviews: Mapping[str, Review]) -> int:
    return sum(one.status != "pending" for one in reviews.values())


def keep_labels(labels: Labels, samples: StageRef, pipeline: PipelineRun) -> None:
    """Keep the labels that a run goes on with, so that its retries go on with the same.

    Args:
        samples: The last that were asked about.
    """
    with tempfile.TemporaryDirectory() as folder:
        Tracker(load_settings()).log_file(
            pipeline.run_id, labels.write(Path(folder)), f"{ARTIFACTS}/{samples.digest[:12]}"
        )


def kept_labels(samples: StageRef, pipeline: PipelineRun) -> Labels | None:
    """The labels that an earlier attempt of this run went on with, if there was one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Tracker(load_settings()).fetch_file(
            pipeline.run_id, f"{ARTIFACTS}/{samples.digest[:12]}/{LABELS}", Path(folder)
        )
        return Labels.read(file) if file else None


def is_awaited_queue_done(tracker: Tracker, run_id: str) -> bool:
    """Whether what a suspended pipeline waits for is there, or one of its queues is gone.

    Args:
        tracker: Of the server that has both.
        run_id: The pipeline's MLflow run.
    """
    tags = tracker.tags(run_id)
    if QUEUE not in tags:
        return False
    reviews = Reviews(tracker)
    queues = [reviews.reviews(one) for one in tags[QUEUE].split(",")]
    there = [one for one in queues if one is not None]
    handled, total = sum(map(_handled, there)), sum(map(len, there))
    return len(there) < len(queues) or handled >= min(int(tags.get(NEEDED, "0")), total)
