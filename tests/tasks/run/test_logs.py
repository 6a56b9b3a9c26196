"""Log lines: Prefect's console is ours, and no text in a line is obeyed."""

import io
import logging
import subprocess
import sys

from tasks.run.logs import ConsoleHandler


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
