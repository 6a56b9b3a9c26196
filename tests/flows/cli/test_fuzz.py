"""Hostile words on the command line: each ends in one line and an exit status, at once.

In this process, through `main`; a few real ones for what only a process has.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import app

LONG, LONGER = "x" * 300, "x" * 5000
PATHS = ["~nosuchuser/x", LONG, LONGER, "a/" * 3000, "a\0b", "/dev/null/x", "/no/such/place", "/"]
NUMBERS = ["-1", "nan", "inf", "1e400", "x", "", "9" * 30, "true", "0x1", "💥", "\udcff"]
SETTINGS = [
    "x", "=", "ppo=1", "seed=true", "seed=[", "seed=*a", "seed=!!python/object:os.x y", "seed=\x1b",
    "seed=" + "9" * 6000, "seed=" + "[" * 1000, "\udcff=1", "base.source=\udcff", "base.source=\0",
    "model.layers=1000000000", "ppo.lora=1", "data.folder=/dev/zero",
    "evaluate.endpoint.url=http://a:b@c",
]  # fmt: skip
NAMES = [LONGER, "a\0b", "\udcff", "a/" * 3000]
MODELS = ("lineage", "promote", "rollback", "chat", "serve", "evaluate", "benchmark")

CASES: list[list[str]] = [
    *(["run", "quickstart", "--set", setting] for setting in SETTINGS),
    ["run", "quickstart", "--set", "model.layers=1000", "--set", "model.width=65536"],
    *(["run", "reviews", "--set", f"data.folder={path}"] for path in PATHS),
    *(["run", "quickstart", "--result", path] for path in (*PATHS, ".", "/dev/full")),
    *(["run", name] for name in (*NAMES, "\x1b[2J", "[red]x", "")),
    *(["lineage", "sft/ab", "--picture", path] for path in (*PATHS, "/dev/null", "x.pdf", ".")),
    *([command, name] for command in MODELS for name in NAMES),
    *(["check", name] for name in NAMES),
    *(["check", "x", "--as", name] for name in NAMES),
    *(["check", "x", "--out", path] for path in PATHS[:4]),
    *(["check", "x", "--set", setting] for setting in SETTINGS),
    *(["compare", name, name] for name in NAMES),
    *(["compare", "a", "b", "--out", path] for path in PATHS[:5]),
    *(["up", "--prefect-file", path] for path in PATHS[:5]),
    *([*command.split(), number] for command in (
        "gc --dry-run --older-than-days", "chat x --temperature", "chat x --max-tokens",
        "chat x --seed", "serve x --port", "promote x --prompts", "promote x --samples",
        "promote x --max-kl", "doctor --quick --prefect-port", "up --mlflow-port",
        "evaluate x --count", "evaluate x --samples", "evaluate x --seed", "benchmark x --shots",
        "benchmark x --seed", "benchmark x --lm-eval-rows",
    ) for number in NUMBERS),
    *(["evaluate", "x", "--set", setting] for setting in SETTINGS),
    *(["promote", "x", "--preset", "quickstart", "--set", setting] for setting in SETTINGS[:12]),
    *(["promote", "x", "--judge", word] for word in ("", "x", "\x1b[2J")),
    *([command, "--nosuch", "\x1b[2J"] for command in ("run", "up", "gc", "status", "sync")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "_prepare_environment", lambda: pytest.fail("it would start"))
    monkeypatch.setattr(app, "be_robust", lambda: None)  # pytest's streams are no files


def name_of(words: list[str]) -> str:
    return " ".join(words)[:60].encode("unicode_escape").decode()


def expected_late(words: list[str]) -> bool:
    """Whether the words are sound as words, so that the command itself refuses them."""
    return words[0] in ("gc", "chat", "serve", "promote", "evaluate", "benchmark", "lineage")


@pytest.mark.parametrize("words", CASES, ids=name_of)
def test_hostile_words_end_in_one_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if expected_late(words):
        monkeypatch.setattr(app, "_prepare_environment", lambda: None)
    monkeypatch.setattr(sys, "argv", ["quartet", *words])
    with pytest.raises(SystemExit) as end:
        app.main()
    said = capsys.readouterr()
    assert end.value.code in (1, 2)
    assert "Traceback" not in said.err
    if said.err.startswith("quartet: "):
        assert said.err.count("\n") == 1
        assert said.err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("QUARTET_HOME", path) for path in ("~nosuchuser", LONGER, "/dev/null", "/dev/null/x")),
        *(("QUARTET_THREADS", number) for number in ("-1", "x", "nan", "9" * 14)),
        *(
            ("QUARTET_TRACKING_URI", uri)
            for uri in (
                "x",
                "http://",
                "ftp://x",
                "postgresql://x",
                "file:///dev/null",
                "http:// x",
            )
        ),
        ("QUARTET_DEVICE", "tpu"),
    ],
)
def test_hostile_environment_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    for words in (["gc"], ["status"], ["run", "quickstart"]):
        monkeypatch.setattr(sys, "argv", ["quartet", *words])
        with pytest.raises(SystemExit) as end:
            app.main()
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert name in said
        assert said.count("\n") == 1


def quartet(*words: str | bytes, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", "from flows.cli.app import main; main()", *words]
    return subprocess.run(command, capture_output=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def test_words_that_are_no_utf8_are_shown_in_any_terminal() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = quartet("run", b"\xff\xfe", env=environment, cwd=Path(__file__).parents[3])
    assert done.returncode == 2
    assert done.stderr == b"quartet: preset is no UTF-8 text; type it again\n"
    done = quartet("presets", env=environment, cwd=Path(__file__).parents[3])
    assert done.returncode == 0


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    main = f"{sys.executable} -c 'from flows.cli.app import main; main()' presets"
    done = subprocess.run(
        ["bash", "-c", f"{main} | true; {main} <&- >&-"],
        capture_output=True,
        cwd=Path(__file__).parents[3],
    )
    assert b"Traceback" not in done.stderr
