"""The stage `select`: publishes a folder that later stages read, and shows what it dropped."""

from pathlib import Path

from models.rows import read_rows, write_rows
from tasks.data.selection.config import SelectionConfig
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.stages.foundations.select import select
from tasks.tracking.recording import page_folder

PIPELINE = PipelineRun(name="pipe", preset="toy", seed=0, run_id="")
TEXTS = ["a dog runs home", "two | dogs", "A dog  runs home", "a cat sleeps"]


def _data() -> StageRef:
    def learn(work: Workspace) -> dict[str, float]:
        write_rows(work.out / "corpus_train.jsonl", [{"text": text} for text in TEXTS])
        write_rows(work.out / "corpus_heldout.jsonl", [{"text": "a cat sleeps"}])
        write_rows(work.out / "vocabulary.jsonl", [{"text": "all"}])
        return {}

    spec = StageSpec(name="foundations-data", module=__name__, parameters={})
    return run_stage(spec, PIPELINE, learn)


def test_select_publishes_the_folder_with_a_smaller_corpus_and_shows_why(home: Path) -> None:
    ref = select.fn(SelectionConfig(min_words=3), pipeline=PIPELINE, data=_data())
    folder = Store(load_settings().store).folder("select", ref.digest)
    assert [row["text"] for row in read_rows(folder / "corpus_train.jsonl")] == [TEXTS[0], TEXTS[3]]
    assert read_rows(folder / "vocabulary.jsonl") == [{"text": "all"}]
    assert ref.metrics["select/dropped"] == 2
    shown = page_folder(load_settings().root, "select", ref.digest) / "report.md"
    text = shown.read_text(encoding="utf-8")
    assert "| exact duplicate | 1 | 25.0% |" in text
    assert "| kept | 2 | 50.0% |" in text
    assert "| exact duplicate | A dog runs home | a dog runs home |" in text
    assert "Of the held-out documents 1 stand in the corpus, 0 nearly do." in text
    assert "two | dogs" not in text  # a bar ends a cell
