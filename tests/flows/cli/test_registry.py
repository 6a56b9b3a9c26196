"""`quartet lineage` and `quartet gc` as a person meets them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.cli import registry
from models.errors import ParameterError, QuartetError, StoreError
from tasks.results.store import Manifest, Store, list_files, write_manifest
from tasks.settings import load_settings
from tasks.tracking.client import Tracker

SFT, PPO, LOST = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def store(home: Path) -> Store:
    """An SFT model and a policy made from it and from a lost reward model; nothing refers to it."""
    store, tracker = Store(load_settings().store), Tracker(load_settings())
    run_id = tracker.start_run("deleted", parameters={}, tags={})
    tracker.client.delete_run(run_id)
    for stage, digest, inputs in (
        ("sft", SFT, {}),
        ("ppo", PPO, {"actor": SFT, "reward_model": LOST}),
    ):
        out = store.writing(stage, digest)
        (out / "weights.bin").write_bytes(b"\x00" * 2**20)
        manifest = Manifest(
            stage=stage, digest=digest, seed=0, parameters={}, inputs=inputs, libraries={},
            code="", run_id=run_id, seconds=0.0, metrics={"ppo/objective/score": 1.5},
            files=list_files(out),
        )  # fmt: skip
        write_manifest(out, manifest)
        store.publish(out, stage, digest)
    return store


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(registry.lineage)
    app.command()(registry.gc)
    return app


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody who can be asked."""
    monkeypatch.setattr(registry, "_can_ask", lambda: True)
    return


def run(app: typer.Typer, *words: str, typed: str = "") -> str:
    done = CliRunner().invoke(app, words, input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def folders(store: Store) -> set[str]:
    return {path.parent.name for path in store.root.glob("*/*/MANIFEST.json")}


def test_lineage_prints_every_stage_with_what_it_was_made_from(
    app: typer.Typer, store: Store
) -> None:
    said = run(app, "lineage", "ppo/bbbb")
    for part in ("sft", "a" * 12, "b" * 12, "actor: sft", "reward_model: unknown", "score 1.5"):
        assert part in said
    assert said.index("│ sft") < said.index("│ ppo")


def test_lineage_draws_a_picture(app: typer.Typer, store: Store, tmp_path: Path) -> None:
    run(app, "lineage", "ppo/bbbb", "--picture", str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("picture", ["x.pdf", "missing/x.png"])
def test_lineage_refuses_a_picture_that_cannot_be_written(
    app: typer.Typer, store: Store, tmp_path: Path, picture: str
) -> None:
    with pytest.raises(ParameterError, match="--picture"):
        run(app, "lineage", "ppo/bbbb", "--picture", str(tmp_path / picture))


def test_lineage_of_nothing_is_refused(app: typer.Typer, store: Store) -> None:
    with pytest.raises(StoreError, match="names 0"):
        run(app, "lineage", "ppo/0123")


def test_gc_shows_and_removes_nothing_where_nobody_can_be_asked(
    app: typer.Typer, store: Store
) -> None:
    said = run(app, "gc")
    assert "a" * 12 in said
    assert "b" * 12 in said
    assert "nothing refers to it" in said
    total = re.search(r"total\D+2\D+([\d.]+) MiB", said)
    assert total
    assert float(total[1]) == pytest.approx(2.0, abs=0.05)
    assert "give --yes" in said
    assert folders(store) == {SFT, PPO}


def test_gc_removes_with_yes(app: typer.Typer, store: Store) -> None:
    assert "removed 2, 2.0 MiB freed" in run(app, "gc", "--yes")
    assert folders(store) == set()
    assert "nothing to remove" in run(app, "gc", "--yes")


def test_gc_asks_and_takes_no_for_an_answer(app: typer.Typer, store: Store, terminal: None) -> None:
    assert "nothing was removed" in run(app, "gc", typed="n\n")
    assert "nothing was removed" in run(app, "gc", typed="\n")
    assert folders(store) == {SFT, PPO}
    assert "removed 2" in run(app, "gc", typed="y\n")
    assert folders(store) == set()


def test_gc_only_shows_in_a_dry_run(app: typer.Typer, store: Store, terminal: None) -> None:
    assert "dry run" in run(app, "gc", "--dry-run")
    assert folders(store) == {SFT, PPO}
    with pytest.raises(ParameterError, match="exclude each other"):
        run(app, "gc", "--dry-run", "--yes")


def test_gc_keeps_what_a_run_refers_to(app: typer.Typer, store: Store) -> None:
    tracker = Tracker(load_settings())
    run_id = tracker.start_run("x", parameters={}, tags={"quartet.digest": PPO})
    tracker.finish(run_id, "FINISHED")
    assert "nothing to remove" in run(app, "gc", "--yes")
    assert folders(store) == {SFT, PPO}


def test_gc_refuses_without_mlflow(
    app: typer.Typer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nobody
    with pytest.raises(QuartetError, match="does not answer"):
        run(app, "gc", "--yes")
    assert folders(store) == {SFT, PPO}
