"""Connections of a served model, which must say something soon and in little."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
HEADER_BYTES = 16 * 2**10


class PromptConnection(H11Protocol):
    """Ends a connection whose request's head is late or too long; the kept one waits for ever."""

    def __init__(self, config: Any, *rest: Any, **named: Any) -> None:
        config.h11_max_incomplete_event_size = HEADER_BYTES
        super().__init__(config, *rest, **named)
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start waiting for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what arrived."""
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # nonsense, after an answer had begun
            self.transport.close()
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
