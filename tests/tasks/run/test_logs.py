"""Log lines: Prefect's console is ours, and no text in a line is obeyed."""

import io
import logging
import subprocess
import sys

import pytest

from models.errors import DataError
from tasks.run.logs import ENGINE, ConsoleHandler, causes_left_out, say_causes_once


def test_no_text_of_a_log_line_is_obeyed() -> None:
    stream = io.StringIO()
    handler = ConsoleHandler(stream=stream)
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.WARNING, "", 0, "row %s \u202e", ("\x1b]0;t\x07[link=http://x]",),
            sys.exc_info(),
        )  # fmt: skip
    handler.emit(record)
    said = stream.getvalue()
    assert "\\x1b]0;t\\x07[link=http://x] \\u202e" in said
    assert "ValueError: \\x1b[2J" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)


def test_the_command_gives_prefect_this_console() -> None:
    program = (
        "import logging, os, tempfile\n"
        "os.environ['QUARTET_HOME'] = tempfile.mkdtemp()\n"
        "from flows.cli.app import _prepare_environment\n"
        "_prepare_environment()\n"
        "import prefect.main\n"
        "print([type(one).__name__ for one in logging.getLogger().handlers])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "['ConsoleHandler']", done.stderr


def engine_lines(error: Exception, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What Prefect's engine logs of a failed task and its flow, as this process shows it."""
    caplog.clear()
    for name in ENGINE:
        logger = logging.getLogger(name)
        try:
            raise error
        except Exception:
            logger.exception("Encountered exception during execution: %r", error)
        logger.error(f"Finished in state Failed('{type(error).__name__}: {error}')")
    return caplog.text.splitlines()


@pytest.fixture
def _engine(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ENGINE:
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    say_causes_once()


@pytest.mark.usefixtures("_engine")
def test_a_known_cause_is_said_once_and_without_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = engine_lines(DataError("rows are missing; add rows"), caplog)
    assert sum("rows are missing" in line for line in lines) == 1, lines
    assert not any("Traceback" in line or "DataError" in line for line in lines)
    with causes_left_out():  # the command's own line says it
        assert "rows are missing" not in "".join(
            engine_lines(DataError("rows are missing"), caplog)
        )


@pytest.mark.usefixtures("_engine")
def test_a_mistake_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with causes_left_out():
        lines = engine_lines(KeyError("a bug"), caplog)
    assert any("Traceback" in line for line in lines)
    assert any("KeyError('a bug')" in line for line in lines)
