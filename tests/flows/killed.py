"""The `quartet` command, killed with SIGKILL at one of its counted events.

    python killed.py AT WORDS...

An event is a file opened for writing, renamed, made or removed, a statement to MLflow's database, a
request to Prefect. With AT 0 nothing is killed, and the number of events is printed at the end.
"""

import os
import signal
import sys
from typing import Any

import httpx
from sqlalchemy import Engine, event

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.copyfile", "shutil.rmtree")


class Counter:
    """Counts events and ends the process before the chosen one happens."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def __call__(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        mode = arguments[1] if name == "open" else ""
        if name in CHANGES or (isinstance(mode, str) and set(mode) & set("wax+")):
            self()


def main() -> None:
    """Run the command with the counter in place."""
    counter = Counter(int(sys.argv[1]))
    sys.argv = ["quartet", *sys.argv[2:]]
    sys.dont_write_bytecode = True
    event.listen(Engine, "before_cursor_execute", lambda *_: counter())
    for client in (httpx.Client, httpx.AsyncClient):
        send = client.send

        def counted(self: Any, *args: Any, _send: Any = send, **kwargs: Any) -> Any:
            counter()
            return _send(self, *args, **kwargs)

        client.send = counted  # type: ignore[method-assign,assignment]
    sys.addaudithook(counter.audit)
    from flows.cli.app import main as quartet

    try:
        quartet()
    finally:
        if counter.at == 0:
            print(f"events {counter.seen}", file=sys.stderr)


if __name__ == "__main__":
    main()
