"""Chat templates, rendered in a process of their own within limits of time, memory and size.

A template comes with its model and is a program: it can loop for ever, or build gigabytes out of
one line. transformers renders it in a sandbox, which keeps it from files but not from that. Here
the same function of transformers renders it, in one child process that serves the whole process
and that the system stops: so texts and tokens are exactly the same, whatever calls
`apply_chat_template`, on whatever thread. For a template that writes the date it is always `TODAY`:
a prompt of training is that of any later day.
"""

import atexit
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from models.errors import ModelError

CPU_SECONDS = 1.0
"""Of one rendering; ordinary ones take milliseconds."""
BUSY_SECONDS = 3.0
"""Of one rendering by the clock, however busy the machine is."""
WALL_SECONDS = 60.0
"""Of one answer by the clock, with the start of the process."""
MEMORY_BYTES = 512 * 2**20
"""On top of what the idle process has; Linux keeps this limit, other systems do not."""
LONGEST_TEMPLATE = 2**20
LONGEST_TEXT = 8 * 2**20
"""In characters."""

TODAY = datetime(2024, 7, 26)
"""What Llama-3's templates write where they do not know the date."""

LIMITS = (MemoryError, OverflowError, RecursionError)
"""What Python raises where a template wants too much."""

CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from models.language.rendering import answer_requests; answer_requests()"
)


def limit_templates() -> None:
    """Make transformers render every chat template of this process within the limits."""
    from transformers import tokenization_utils_base

    tokenization_utils_base.render_jinja_template = render


def render(
    conversations: list[Any], *, chat_template: str, **rest: Any
) -> tuple[list[str], list[Any]]:
    """Render conversations; the arguments are those of transformers' `render_jinja_template`.

    Returns:
        A text for each conversation, and where in it the assistant's own words are.

    Raises:
        ModelError: The template ran into a limit.
        jinja2.TemplateError: The template, or transformers, refuses them.
    """
    if len(chat_template) > LONGEST_TEMPLATE:
        raise ModelError(
            f"the chat template has {len(chat_template)} characters, at most {LONGEST_TEMPLATE} "
            "were wanted; give the tokenizer another one"
        )
    answer = _RENDERER.ask({"conversations": conversations, "chat_template": chat_template, **rest})
    if "limit" in answer:
        raise _limit_error(answer["limit"])
    if "error" in answer:
        raise jinja2.TemplateError(answer["error"])
    return answer["rendered"], answer["indices"]


def _limit_error(got: str) -> ModelError:
    return ModelError(
        f"the chat template was stopped ({got}): at most {CPU_SECONDS:g} s, "
        f"{MEMORY_BYTES >> 20} MiB and {LONGEST_TEXT} characters were wanted; give the tokenizer "
        "another template, or shorten the messages"
    )


class _FixedClock:
    """Stands in for `datetime` where transformers asks it for templates."""

    @staticmethod
    def now() -> datetime:
        return TODAY


class _Renderer:
    """The child process: started when first asked, and again after it was stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._owner = 0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        text = json.dumps(request, default=lambda value: f"<{type(value).__name__}>")
        with self._lock:
            try:
                line = self._open()
                line.sendall(text.encode() + b"\n")
                answer: dict[str, Any] = json.loads(self._read(line))
            except BaseException as error:  # a signal's too: the next answer would be this one's
                status = self._close()
                if isinstance(error, TimeoutError):
                    raise _limit_error(f"no answer within {WALL_SECONDS:g} s") from None
                if isinstance(error, OSError | EOFError):
                    raise _limit_error(_ending(status)) from None
                raise
            return answer

    def _open(self) -> socket.socket:
        if self._owner != os.getpid():  # none yet, or that of the process this one was forked from
            self._process, self._line, self._owner = None, None, os.getpid()
        if self._process is not None and self._process.poll() is not None:
            self._close()  # somebody ended it while it had nothing to do
        if self._line is None or self._process is None:
            self._line, theirs = socket.socketpair()
            self._line.settimeout(WALL_SECONDS)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", CHILD, json.dumps([*filter(None, sys.path)])],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                )
            atexit.register(self._close)
        return self._line

    @staticmethod
    def _read(line: socket.socket) -> bytes:
        pieces = [b""]
        while not pieces[-1].endswith(b"\n"):
            pieces.append(line.recv(1 << 20))
            if not pieces[-1]:
                raise EOFError
        return b"".join(pieces)

    def _close(self) -> int:
        """End the process, and return how it ended."""
        atexit.unregister(self._close)
        process, line, self._process, self._line = self._process, self._line, None, None
        if line is not None:
            line.close()
        if process is None or self._owner != os.getpid():
            return 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        process.kill()
        return process.wait()


_RENDERER = _Renderer()


def _ending(status: int) -> str:
    if status in (-signal.SIGPROF, -signal.SIGALRM):
        return f"it took more than {CPU_SECONDS:g} s"
    return f"its process ended with status {status}"


def answer_requests() -> None:
    """Run the child process: answer each request until the parent is gone."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = _FixedClock
    for sent_to_all in (signal.SIGINT, signal.SIGTERM):  # the parent finishes its work first
        signal.signal(sent_to_all, signal.SIG_IGN)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # the end of the process
        signal.setitimer(signal.ITIMER_REAL, BUSY_SECONDS)
        try:
            rendered, indices = chat_template_utils.render_jinja_template(**json.loads(line))
            if sum(map(len, rendered)) > LONGEST_TEXT:
                raise MemoryError(f"{sum(map(len, rendered))} characters")
            answer = {"rendered": rendered, "indices": indices}
        except Exception as error:  # whatever a foreign program raises
            own = isinstance(error, jinja2.TemplateError)
            said = str(error) if own else f"{type(error).__name__}: {error}"
            answer = {"limit" if isinstance(error, LIMITS) else "error": said[:1000]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        out.write(json.dumps(answer).encode() + b"\n")
        out.flush()
