"""The quickstart with its annotator answering through MLflow's review queue, as people do.

    python -m tests.benchmarks.people [--home FOLDER] [path.to.field=value ...]

An MLflow server is started; the quickstart asks about 200 prompts with 4 completions each and ends
with the queue's address. A bot rates every completion through MLflow's API by the simulated
annotator's utility with its noise, and the same command goes on. Prints the pairs that came out of
the queue against those that the ratings make without one, and the verdict.

The noise of each utility is Gumbel of scale 1/sharpness, so that of two completions the preferred
one is drawn by the probability that the simulated annotator draws by; ratings round it to 1 to 7,
and equal ratings are ties.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues

from models.randomness import derive_seed
from models.rows import read_rows, text_of
from tasks.labelling.answers import RATINGS
from tasks.labelling.items import read_items
from tasks.labelling.pairs import pairs_of
from tasks.world.annotator import read, utility
from tests.tasks.tracking.mlflow_server import Server

PROMPTS, COMPLETIONS, SHARPNESS = 200, 4, 1.5
ASKED = (
    "feedback.annotator=people",
    f"feedback.prompts={PROMPTS}",
    f"feedback.completions={COMPLETIONS}",
)


def rating(prompt: str, completion: str) -> int:
    """From 1 to 7: a noisy utility; that of the best completion is 3, of a rude wrong one -1."""
    noise = np.random.default_rng(derive_seed(0, f"{prompt}\n{completion}")).gumbel()
    return int(
        np.clip(round(3 + 4 / 3 * (utility(read(prompt, completion)) + noise / SHARPNESS)), 1, 7)
    )


def run(home: Path, uri: str, settings: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Run the quickstart; its result, empty where it waits for people, and what it said."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        words = [word for one in (*ASKED, *settings) for word in ("--set", one)]
        done = subprocess.run(
            [str(Path(sys.executable).with_name("quartet")), "run", "quickstart", *words,
             "--result", str(result)],
            env={**os.environ, "QUARTET_HOME": str(home), "QUARTET_TRACKING_URI": uri},
            capture_output=True, text=True,
        )  # fmt: skip
        found = json.loads(result.read_text(encoding="utf-8")) if done.returncode == 0 else {}
        return found, done.stdout + done.stderr


def answer(home: Path) -> list[dict[str, Any]]:
    """Rate every item of every queue, and give what was rated."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("quartet").experiment_id
    queue = review_queues.list_review_queues(experiment_id=experiment)[0]
    (samples,) = (home / "store" / "feedback-samples").glob("[0-9a-f]*[0-9a-f]")
    items = {item.key: item for item in read_items(samples)}
    bot = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="bot")
    rated = []
    for one in review_queues.list_review_queue_items(queue.queue_id, max_results=500):
        item = items[client.get_trace(one.item_id).info.tags["quartet.item"]]
        prompt = text_of(item.prompt, "user")
        ratings = [rating(prompt, text) for text in item.completions]
        for question, value in zip(RATINGS, ratings, strict=False):
            mlflow.log_feedback(
                trace_id=one.item_id, name=question.name, value=str(value), source=bot
            )
        review_queues.set_review_queue_item_status(
            queue.queue_id, item_id=one.item_id, status="complete", completed_by="bot"
        )
        rated.append(item.to_row() | {"ratings": ratings})
    return rated


def counted(rows: Sequence[dict[str, Any]]) -> collections.Counter[str]:
    """Preference rows as a bag."""
    told = ("prompt", "chosen", "rejected", "margin")
    return collections.Counter(json.dumps([row[name] for name in told]) for row in rows)


def main() -> None:
    """Ask, answer, go on, and compare."""
    parser = argparse.ArgumentParser(description="The quickstart with answers through a queue.")
    parser.add_argument("--home", type=Path, help="Home folder whose stages are reused.")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Server(Path(scratch)) as server:
        home = given.home or Path(scratch) / "home"
        server.start()
        mlflow.set_tracking_uri(server.uri)
        waiting, said = run(home, server.uri, given.settings)
        print(f"waits: {[line for line in said.splitlines() if 'review queue' in line][-1:]}")
        assert not waiting, said
        rated = answer(home)
        direct, outcomes = pairs_of(rated, ties=False)
        print(f"{len(rated)} items answered, pairs without a queue: {dict(outcomes)}", flush=True)
        result, said = run(home, server.uri, given.settings)
        assert result, said
        stage = next(one for one in result["stages"] if one["name"] == "feedback")
        rows = read_rows(home / "store" / "feedback" / stage["digest"] / "preferences_train.jsonl")
        published = counted([row for row in rows if row["margin"]])
        same = published == counted(direct)
        print(f"pairs through the queue: {published.total()}, the same: {same}")
        final = result["final"]
        gain = [final[f"final/gold_gain{end}"] for end in ("", "_low", "_high")]
        print(
            f"{'accepted' if result['verdict']['accepted'] else 'rejected'}, gold gain "
            f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}], KL "
            f"{final['final/kl_to_reference']:.2f} nats\n{result['verdict']['reasons']}"
        )


if __name__ == "__main__":
    main()
