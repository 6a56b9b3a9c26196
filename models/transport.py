"""Requests to a server that may be slow, endless or hostile: bounded in time, size and packing.

httpx bounds each read, not the whole: a server that sends a byte a second would hold its client for
ever, and a small packed reply may unpack to gigabytes. So requests run in an event loop of their
own, where the whole of one can be given up, and bytes are counted as they are unpacked. Redirects
are not followed, so the key goes nowhere else.
"""

import asyncio
import random
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from models.errors import QuartetError

T = TypeVar("T")
R = TypeVar("R")

MOST_BYTES = 2**23
"""Of a reply, unpacked. An answer has a few words, a model's thoughts before it some thousand."""

AGAIN = (408, 409, 429)
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, whole and unpacked."""

    status: int
    body: bytes
    retry_after: str


class NoReplyError(QuartetError):
    """Nothing was answered, however often it was tried; the message is the last reason."""


class BoundedClient:
    """Sends requests from any thread; each ends within its time."""

    def __init__(
        self, *, server: str, headers: Mapping[str, str], connections: int, seconds: float
    ) -> None:
        """Prepare to send; connections are made inside the `with` block.

        Args:
            server: What a message calls the other side.
            connections: How many at once.
            seconds: From the start of a request to the last byte of its reply.
        """
        self._server = server
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._limits = httpx.Limits(max_connections=connections)
        self._seconds = seconds
        self._tasks: set[asyncio.Task[Reply]] = set()
        self._stopped = threading.Event()

    def __enter__(self) -> "BoundedClient":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._http = httpx.AsyncClient(headers=self._headers, timeout=None, limits=self._limits)
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result(self._seconds)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cancel(self) -> None:
        """End all requests under way."""
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    def each(self, ask: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Call a function that asks the server on each item, as many at once as connections.

        Once one has failed or a signal came, no other is begun or retried, and what is under way is
        given up.
        """
        trouble: list[Exception] = []

        def guarded(item: T) -> R:
            if self._stopped.is_set():
                raise ConnectionAbortedError("stopped")
            try:
                return ask(item)
            except Exception as error:
                trouble.append(error)
                self._stopped.set()
                raise

        with ThreadPoolExecutor(max_workers=self._limits.max_connections) as pool:
            try:
                return list(pool.map(guarded, items))
            except BaseException as error:
                first = (trouble or [error])[0] if isinstance(error, Exception) else error
                self._stopped.set()
                self.cancel()
                pool.shutdown(wait=False, cancel_futures=True)
                raise first from first.__cause__

    def persist(
        self, url: str, body: Mapping[str, Any] | None, *, retries: int, pause_seconds: float
    ) -> Reply:
        """Send a request until the reply is one that a further attempt would not better.

        Args:
            body: JSON to post, or None to get.
            pause_seconds: Before the first retry; doubled before each further one.

        Raises:
            NoReplyError: No attempt got such a reply.
            QuartetError: As `send`.
        """
        trouble: Exception = ConnectionError("stopped")
        for attempt in range(retries + 1):
            pause = min(LONGEST_PAUSE_SECONDS, pause_seconds * 2**attempt)
            pause *= 0.5 + random.random() / 2  # so that not all come back at once
            try:
                reply = self.send(url, body)
            except (httpx.RequestError, TimeoutError) as error:
                trouble = error
            else:
                if reply.status not in AGAIN and reply.status < 500:
                    return reply
                trouble = ConnectionError(f"status {reply.status}")
                pause = max(pause, _retry_after(reply))
            if attempt == retries or self._stopped.wait(pause):
                break
        raise NoReplyError(f"{type(trouble).__name__}: {trouble}") from trouble

    def send(self, url: str, body: Mapping[str, Any] | None) -> Reply:
        """Post JSON, or get where there is none, and wait for the reply.

        Raises:
            httpx.RequestError: No connection, or no HTTP.
            TimeoutError: The reply was not complete in time.
            QuartetError: The reply is too large or packed in a way that was not asked for.
        """
        return asyncio.run_coroutine_threadsafe(self._within_time(url, body), self._loop).result()

    async def _within_time(self, url: str, body: Mapping[str, Any] | None) -> Reply:
        task = asyncio.ensure_future(self._send(url, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(self._seconds):
                return await task
        except TimeoutError:
            raise TimeoutError(f"no whole reply within {self._seconds:g} seconds") from None

    async def _send(self, url: str, body: Mapping[str, Any] | None) -> Reply:
        method = "GET" if body is None else "POST"
        async with self._http.stream(method, url, json=body) as reply:
            packing = reply.headers.get("Content-Encoding", "identity").lower()
            if packing not in ("identity", "gzip", "deflate"):
                raise QuartetError(
                    f"the reply of {self._server} is packed as {packing[:20]!r}, wanted plain "
                    "JSON; check that address"
                )
            unpack = None if packing == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
            content = bytearray()
            async for chunk in reply.aiter_raw():
                content += _unpacked(unpack, chunk, MOST_BYTES - len(content) + 1)
                if len(content) > MOST_BYTES:
                    raise QuartetError(
                        f"the reply of {self._server} has more than {MOST_BYTES >> 20} MiB, wanted "
                        "one answer; check that address"
                    )
            return Reply(
                status=reply.status_code,
                body=bytes(content),
                retry_after=reply.headers.get("Retry-After", "0"),
            )


def _unpacked(unpack: Any, chunk: bytes, most: int) -> bytes:
    if unpack is None:
        return chunk
    try:
        unpacked: bytes = unpack.decompress(chunk, most)
    except zlib.error as error:
        raise httpx.DecodingError(f"the reply is packed wrongly ({error})") from error
    return unpacked


def _retry_after(reply: Reply) -> float:
    try:
        return min(LONGEST_PAUSE_SECONDS, float(reply.retry_after))
    except ValueError:
        return 0.0
