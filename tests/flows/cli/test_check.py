"""`quartet check` says what files are, exits by what it found, and leaves nothing behind."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from models.errors import DataError
from models.language.config import TokenizerConfig
from models.language.reading import read_tokenizer
from models.language.tokenizer import train_tokenizer
from models.rows import write_rows
from tasks.data import sources
from tasks.data.hub import HubSplits
from tasks.preview import given
from tests.strict_template import ALTERNATING

ANIMALS = ("cat", "dog", "owl", "hen", "fox", "bee", "ant", "elk", "bat", "cow")
PLACES = ("barn", "lake", "mill", "yard", "wood", "road", "hill", "shed", "nest", "roof")


def pairs(count: int = 60, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"Where does the {ANIMALS[at % 10]} of house {at} live?",
            "chosen": f"It lives in the {PLACES[at // 10]}, number {at}.",
            "rejected": f"Go and ask the {ANIMALS[at // 10]} of {at}.",
            **more,
        }
        for at in range(count)
    ]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in a folder of its own; whatever happens, it leaves nothing there."""
    scratch, home = tmp_path / "scratch", tmp_path / "home"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("QUARTET_HOME", str(home))
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Result:
        done = CliRunner().invoke(app.app, ["check", *map(str, words)])
        assert not home.exists()
        assert not list(scratch.iterdir())
        return done

    return run


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder of 48 tokens whose template wants turns that alternate."""
    out = tmp_path_factory.mktemp("strict")
    write_rows(out / "corpus.jsonl", [{"text": row["prompt"] + row["chosen"]} for row in pairs()])
    folder = out / "model"
    config = TokenizerConfig(vocab_size=400)
    train_tokenizer(corpus=out / "corpus.jsonl", config=config, context=48, out=folder)
    tokenizer = read_tokenizer(folder)
    tokenizer.chat_template = ALTERNATING
    tokenizer.save_pretrained(folder)
    return folder


def test_a_file_of_preferences_alone_is_enough(check: Callable[..., Result]) -> None:
    write_rows(Path("mine.jsonl"), pairs(id="x7"))
    done = check("mine.jsonl")
    assert done.exit_code == 0, done.output
    assert "mine.jsonl: preferences, by its rows" in done.output
    assert "reads    prompt, chosen, rejected\n" in done.output
    assert "ignores  id (60 rows)" in done.output
    assert done.output.count("\npreferences, training row ") == 10
    assert "--model NAME shows tokens" in done.output
    assert "\nNothing is wrong; worth a look: " in done.output


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("demonstrations", {"instruction": "Name a bird.", "input": "", "output": "A wren."}),
        ("corpus", {"text": "The wren sings in the hedge."}),
        ("prompts", {"prompt": "Name a bird."}),
    ],
)
def test_each_collection_alone_is_recognised(
    check: Callable[..., Result], name: str, row: dict[str, str]
) -> None:
    write_rows(Path("mine.jsonl"), [{k: f"{v} {at}" for k, v in row.items()} for at in range(30)])
    done = check("mine.jsonl")
    assert done.exit_code == 0, done.output
    assert f"mine.jsonl: {name}, by its rows" in done.output
    assert done.output.count(f"\n{name}, training row ") == 10


def test_one_row_can_be_looked_at(check: Callable[..., Result]) -> None:
    write_rows(Path("mine.jsonl"), pairs(1))
    done = check("mine.jsonl")
    assert "It lives in the barn, number 0." in done.output


def test_files_are_told_apart_and_as_overrules(check: Callable[..., Result]) -> None:
    write_rows(Path("b.jsonl"), pairs())
    write_rows(Path("a.jsonl"), [{"text": f"Text number {at} of all."} for at in range(30)])
    both = check("*.jsonl").output
    assert both.index("a.jsonl: corpus") < both.index("b.jsonl: preferences")
    assert both.count("\ncorpus, training row ") == both.count("\npreferences, training row ") == 5
    prompts = check("b.jsonl", "--as", "prompts")
    assert "b.jsonl: prompts, by --as" in prompts.output
    assert prompts.output.count("\nprompts, training row ") == 10


def test_many_files_and_names_with_commas_are_read_by_their_names(
    check: Callable[..., Result],
) -> None:
    names = [f"pairs_part_{at:05d}, x.jsonl" for at in range(20)]
    for at, name in enumerate(names):
        write_rows(Path(name), pairs()[3 * at : 3 * at + 3])
    done = check(*names)
    assert done.exit_code == 0, done.output
    assert all(f"{name}: preferences, by its rows" in done.output for name in names)


def test_a_folder_of_files_of_one_kind_is_one_dataset(check: Callable[..., Result]) -> None:
    folder = Path("set")
    folder.mkdir()
    write_rows(folder / "train-0.jsonl", pairs(40))
    write_rows(folder / "test-0.jsonl", pairs()[40:])
    done = check(folder)
    assert "train-0.jsonl of set: preferences, by its rows" in done.output
    assert "test-0.jsonl of set: preferences, held out, by its rows" in done.output
    counts = next(line for line in done.output.splitlines() if line.startswith("preferences  "))
    assert counts.split()[1:5] == ["60", "40", "20", "0"]  # read, train, held out, dropped


def test_a_folder_laid_out_by_stems_keeps_its_held_out_files(
    check: Callable[..., Result],
) -> None:
    folder = Path("data")
    folder.mkdir()
    write_rows(folder / "pairs_train.jsonl", pairs(40))
    write_rows(folder / "pairs_test.jsonl", pairs()[40:])
    (folder / "notes.txt").write_text("not read")
    done = check(folder)
    assert "pairs_train.jsonl: preferences, by its name" in done.output
    assert "pairs_test.jsonl: preferences, held out, by its name" in done.output
    assert "notes.txt" not in done.output
    counts = next(line for line in done.output.splitlines() if line.startswith("preferences  "))
    assert counts.split()[1:5] == ["60", "40", "20", "0"]  # read, train, held out, dropped


def test_held_out_prompts_without_others_are_shown(check: Callable[..., Result]) -> None:
    folder = Path("data")
    folder.mkdir()
    write_rows(folder / "sft.jsonl", [{"prompt": f"a {at}?", "answer": "b"} for at in range(20)])
    write_rows(folder / "prompts_test.jsonl", [{"prompt": f"c {at}?"} for at in range(20)])
    done = check(folder)
    assert done.exit_code == 0, done.output
    assert done.output.count("\nprompts, held-out row ") == 5


def test_what_would_be_wrong_to_train_on_has_status_1(check: Callable[..., Result]) -> None:
    """Six of ten rows have an empty answer: more than half."""
    rows = pairs()
    for at, row in enumerate(rows):
        row["rejected"] = row["rejected"] if at % 10 < 4 else " "
    write_rows(Path("mine.jsonl"), rows)
    done = check("mine.jsonl")
    assert done.exit_code == 1
    assert "\nwrong " in done.output
    assert "preferences: 36 dropped, empty rejected" in done.output
    assert "Training on this would be wrong: preferences: 60%" in done.output


def test_rows_of_which_none_can_be_used_have_status_1(check: Callable[..., Result]) -> None:
    write_rows(Path("mine.jsonl"), [row | {"rejected": row["chosen"]} for row in pairs()])
    done = check("mine.jsonl")
    assert done.exit_code == 1
    assert "mine.jsonl: preferences, by its rows" in done.output
    assert "chosen equal to rejected: 60" in done.output


def test_unknown_columns_have_status_1(check: Callable[..., Result]) -> None:
    write_rows(Path("mine.jsonl"), [{"x": "a", "y": "b"}])
    done = check("mine.jsonl")
    assert done.exit_code == 1
    assert "fit no known format; got x, y;" in done.output


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["nothing.jsonl"], "nothing.jsonl is no file here"),
        (["mine.jsonl", "--as", "pairs"], "--as got 'pairs'"),
        (["mine.jsonl", "--set", "data.encodin=x"], "did you mean 'encoding'"),
        (["mine.jsonl", "--out", "mine.jsonl"], "--out got mine.jsonl, wanted a folder"),
        (["mine.jsonl", "--out", "no/such/place"], "--out got no/such/place"),
        (["mine.jsonl", "--set", "data.heldout_fraction=2"], "heldout_fraction: got 2"),
    ],
)
def test_refusals_have_status_2(
    check: Callable[..., Result], words: list[str], wanted: str
) -> None:
    write_rows(Path("mine.jsonl"), pairs(3))
    done = check(*words)
    assert done.exit_code == 2
    assert wanted in done.output
    assert done.output.count("\n") == 1


def test_a_model_shows_tokens_and_what_it_cuts(check: Callable[..., Result], strict: Path) -> None:
    rows = pairs()
    rows[7]["prompt"] = "Long ago there was an owl. " * 20 + "Where did it live?"
    write_rows(Path("mine.jsonl"), rows)
    done = check("mine.jsonl", "--model", strict)
    assert done.exit_code == 0, done.output
    assert "tokens cut off: Long ago there was an owl." in done.output
    assert "lives in the barn" in done.output
    assert "<|eos|>⟧" in done.output
    assert "These are words" not in done.output


def test_rows_that_the_models_template_refuses_have_status_1(
    check: Callable[..., Result], strict: Path
) -> None:
    rows = pairs()
    rows[0]["prompt"] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is it?"},
    ]
    write_rows(Path("mine.jsonl"), rows)
    refused = check("mine.jsonl", "--model", strict)
    assert refused.exit_code == 1
    assert "refuses 1 of 60 rows" in refused.output
    folded = check("mine.jsonl", "--model", strict, "--set", "data.fold_system=true")
    assert folded.exit_code == 0, folded.output


def test_text_of_rows_cannot_reach_the_terminal(check: Callable[..., Result]) -> None:
    rows = pairs()
    rows[0]["prompt"] = "\x1b]0;title\x07 [bold]Where?[/bold] \u202e"
    rows[1]["chosen"] = rows[1]["rejected"] = "\x1b[2Jsame"
    write_rows(Path("mine.jsonl"), rows)
    done = check("mine.jsonl")
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
    assert "[bold]Where?[/bold]" in done.output


def test_a_dataset_of_the_hub_is_looked_at_too(
    check: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str, revision: str, collection: str) -> HubSplits:
        if name != "someone/pairs":
            raise DataError("the hub does not know it")
        return HubSplits(
            train_name="train", train=pairs()[:40], heldout_name="test", heldout=pairs()[40:]
        )

    monkeypatch.setattr(given, "load_splits", load)
    monkeypatch.setattr(sources, "load_splits", load)
    monkeypatch.setattr(sources, "resolve_commit", lambda *_: "c0ffee")
    done = check("someone/pairs@main")
    assert done.exit_code == 0, done.output
    assert "someone/pairs@main: preferences, by its rows" in done.output
    unknown = check("nobody/pairs")
    assert unknown.exit_code == 2
    assert "nobody/pairs is no file here, and the hub does not know it" in unknown.output


def test_the_report_can_be_kept(check: Callable[..., Result]) -> None:
    write_rows(Path("mine.jsonl"), pairs())
    assert check("mine.jsonl", "--out", "kept").exit_code == 0
    report = Path("kept/report.md").read_text()
    assert "| preferences | mine.jsonl | 60 |" in report
    for name in re.findall(r"\]\((plots/[^)]+)\)", report):
        assert (Path("kept") / name).is_file()


def test_neither_servers_nor_torch_are_loaded_without_a_model(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", pairs())
    program = (
        "import sys, flows.cli.app as app\n"
        "try:\n"
        "    app.app(['check', 'mine.jsonl'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "print([name for name in ('prefect', 'mlflow', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "QUARTET_HOME": str(tmp_path / "home")},
    )
    assert done.stdout.endswith("[]\n"), done.stderr
