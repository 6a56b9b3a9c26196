"""People as a judge: blind votes on pairs of completions in one of MLflow's review queues.

Each pair is an item of the queue, in an order shuffled from its texts, and nothing there tells
which model wrote what. Equal completions are a tie without a question. Several raters of an item
count as the mean of their votes; what was declined, cannot be judged or was not reviewed counts
for nobody. The votes are published with the evaluation. How often the completion that was shown
first won is reported: far from one half, the votes follow the position.

The queue is named after its items, so an evaluation that is started again finds it; where answers
are missing, the stage ends and its flow waits (`tasks/labelling/waiting.py`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.evaluation.samples import Pair, Preferences
from models.rows import last_text
from models.statistics.intervals import wilson_interval
from tasks.labelling.items import LABELS, Item, Labels
from tasks.labelling.queue import Queue, fill_queue
from tasks.labelling.waiting import refuse_missing
from tasks.results.digests import canonical_json
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.reviews import Reviews


class PeopleJudge:
    """Asks people; see the module for how."""

    def __init__(self, pipeline: PipelineRun, out: Path) -> None:
        """Prepare to ask; nothing is put before anybody yet.

        Args:
            pipeline: Whose MLflow run names the queue that it waits for.
            out: Folder for the votes.
        """
        self._pipeline = pipeline
        self._out = out

    def compare(self, pairs: Sequence[Pair]) -> Preferences:
        """Read the votes on each pair; completions that are equal need no question.

        Raises:
            AwaitingPeopleError: Some pairs were not reviewed yet.
            ConnectionError: MLflow does not answer.
        """
        shown = [Item.of(one.prompt, map(last_text, (one.first, one.second))) for one in pairs]
        items = {item.key: item for item in shown if item is not None}
        facts = {"pairs": float(len(pairs)), "equal_pairs": float(shown.count(None))}
        votes: dict[str, list[float]] = {}
        if items:
            queue = fill_queue(list(items.values()), _asking(items), 1.0, self._pipeline)
            votes = _votes(queue.labels)
            refuse_missing(queue, some=bool(votes))
            queue.labels.write(self._out)
            facts |= _facts(queue, votes)
        preference = [
            0.5 if item is None else _preference(pair, item, votes.get(item.key, []))
            for pair, item in zip(pairs, shown, strict=True)
        ]
        return Preferences(preference=np.array(preference), facts=facts)


def votes_page(evaluation: StageRef) -> str:
    """Where people voted on a published evaluation; empty where that cannot be seen."""
    settings = load_settings()
    file = Store(settings.store).folder(evaluation.stage, evaluation.digest) / LABELS
    rows = Labels.read(file).rows if file.is_file() else ()
    if rows and settings.tracking_uri:
        with tolerated("the page of the votes"):
            reviews = Reviews(Tracker(settings))
            if found := reviews.queue(rows[0]["queue"]):
                return f"{settings.tracking_uri.rstrip('/')}/{reviews.page(found[0])}"
    return ""


def _asking(items: Mapping[str, Item]) -> StageRef:
    """What the queue is named after: its items, whichever stage asks about them."""
    digest = hashlib.sha256(canonical_json(sorted(items)).encode()).hexdigest()
    return StageRef(stage="evaluation", digest=digest)


def _votes(labels: Labels) -> dict[str, list[float]]:
    """By item, each rater's vote: 1 for the completion shown first, -1 for the other, 0 a tie."""
    votes: dict[str, list[float]] = {}
    for row in labels.rows:
        first, second = row["ratings"]
        if first is not None and second is not None:
            votes.setdefault(row["key"], []).append(float(np.sign(first - second)))
    return votes


def _preference(pair: Pair, item: Item, votes: Sequence[float]) -> float:
    if not votes:
        return float("nan")
    lean = sum(votes) / len(votes)
    return 0.5 + (lean if last_text(pair.first) == item.completions[0] else -lean) / 2


def _facts(queue: Queue, votes: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """How people voted; who wins more often in the first place is a share of decided votes."""
    every = [vote for given in votes.values() for vote in given]
    decided = len(every) - every.count(0.0)
    facts = {
        "items": float(len(queue.items)),
        "reviewed": float(queue.progress.complete),
        "declined": float(queue.progress.declined),
        "judged": float(len(votes)),
        "votes": float(len(every)),
        "tied_votes": float(every.count(0.0)),
        "raters": float(len({row["rater"] for row in queue.labels.rows})),
    }
    if decided:
        facts |= wilson_interval(every.count(1.0), decided).metrics("prefers_first")
    return facts
