"""A language model behind an API, for the judges and for the stages that ask it."""

from collections.abc import Iterator

import pytest

from tests.tasks.judging.endpoint_server import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    yield running
    running.close()
