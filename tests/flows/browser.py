"""A real browser, worked through its debugging protocol: pages as people see them, logged in."""

import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.sync.client import ClientConnection, connect

WORDS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--remote-debugging-port=0", "--window-size=1400,1000",
]  # fmt: skip


ROWS = """(() => {
  const rows = (where) => [...document.querySelectorAll(`${where} [role=row]`)]
    .sort((one, other) => one.getAttribute("row-index") - other.getAttribute("row-index"));
  const text = (cell) => cell.innerText.trim();
  return [
    rows(".ag-pinned-left-cols-container").map((row) => text(row.querySelector("a"))),
    rows(".ag-center-cols-container").map((row) => Object.fromEntries(
      [...row.querySelectorAll("[col-id]")].map((cell) => [cell.getAttribute("col-id"), text(cell)])
    )),
  ];
})()"""
"""Names and cells of MLflow's list of runs, as a reader sees them."""


class Browser:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._numbers = connection, itertools.count(1)

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command and give its result."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str, seconds: float = 0.0) -> None:
        """Go to a page, and give its scripts time."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=url)
        end = time.monotonic() + 30
        done = "location.href !== 'about:blank' && document.readyState === 'complete'"
        while not self.run(done) and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(seconds)

    def run(self, script: str) -> Any:
        """Run a script in the page, wait for its promise, and give its value."""
        result = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, *words: str, seconds: float = 30.0) -> str:
        """Wait until the page's text has some words, and give its HTML."""
        end = time.monotonic() + seconds
        while True:
            html = str(self.run("document.documentElement.outerHTML"))
            missing = [one for one in words if one not in html]
            if not missing:
                return html
            assert time.monotonic() < end, f"the page lacks {missing}: {html[:2000]}"
            time.sleep(0.3)

    def log_in_to_prefect(self, url: str, password: str) -> None:
        """Type the password where Prefect's page asks for it."""
        self.open(f"{url}/dashboard", 1.0)
        self.run(
            f"localStorage.setItem('prefect-password', btoa({json.dumps('admin:' + password)}))"
        )

    def log_in_to_mlflow(self, url: str, password: str) -> None:
        """Answer the browser's own question; it remembers the answer."""
        self.open(url.replace("://", f"://admin:{quote(password)}@"), 1.0)


@contextmanager
def browser(*words: str) -> Iterator[Browser]:
    """Start a browser with further options; without one the test is skipped."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium to look at the pages with")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *WORDS, *words, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            note, end = Path(profile) / "DevToolsActivePort", time.monotonic() + 60
            while not (note.exists() and note.read_text().count("\n")):
                assert process.poll() is None, "Chromium ended"
                assert time.monotonic() < end, "Chromium did not start"
                time.sleep(0.1)
            port = note.read_text().split("\n")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                (tab,) = [one for one in json.load(answer) if one["type"] == "page"]
            with connect(tab["webSocketDebuggerUrl"], max_size=None, origin=None) as connection:
                yield Browser(connection)
        finally:
            process.kill()
            process.wait()
