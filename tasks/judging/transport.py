"""Requests to a judge that may be slow, endless or hostile: bounded in time, size and packing.

httpx bounds each read, not the whole: a server that sends a byte a second would hold a judge for
ever, and a small packed reply may unpack to gigabytes. So requests run in an event loop of their
own, where the whole of one can be given up, and bytes are counted as they are unpacked. Redirects
are not followed, so the key goes nowhere else.
"""

import asyncio
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from models.errors import QuartetError

MOST_BYTES = 2**23
"""Of a reply, unpacked. An answer has a few words, a model's thoughts before it some thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, whole and unpacked."""

    status: int
    body: bytes
    retry_after: str


class BoundedClient:
    """Sends requests from any thread; each ends within its time."""

    def __init__(self, *, headers: Mapping[str, str], connections: int, seconds: float) -> None:
        """Prepare to send; connections are made inside the `with` block.

        Args:
            seconds: From the start of a request to the last byte of its reply.
        """
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._limits = httpx.Limits(max_connections=connections)
        self._seconds = seconds
        self._tasks: set[asyncio.Task[Reply]] = set()

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

    def post(self, url: str, body: Mapping[str, Any]) -> Reply:
        """Send JSON and wait for the reply.

        Raises:
            httpx.RequestError: No connection, or no HTTP.
            TimeoutError: The reply was not complete in time.
            QuartetError: The reply is too large or packed in a way that was not asked for.
        """
        return asyncio.run_coroutine_threadsafe(self._within_time(url, body), self._loop).result()

    async def _within_time(self, url: str, body: Mapping[str, Any]) -> Reply:
        task = asyncio.ensure_future(self._send(url, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(self._seconds):
                return await task
        except TimeoutError:
            raise TimeoutError(f"no whole reply within {self._seconds:g} seconds") from None

    async def _send(self, url: str, body: Mapping[str, Any]) -> Reply:
        async with self._http.stream("POST", url, json=body) as reply:
            packing = reply.headers.get("Content-Encoding", "identity").lower()
            if packing not in ("identity", "gzip", "deflate"):
                raise QuartetError(f"the judge's reply is packed as {packing[:20]!r}, unasked")
            unpack = None if packing == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
            content = bytearray()
            async for chunk in reply.aiter_raw():
                content += _unpacked(unpack, chunk, MOST_BYTES - len(content) + 1)
                if len(content) > MOST_BYTES:
                    raise QuartetError(
                        f"the judge's reply has more than {MOST_BYTES >> 20} MiB, wanted a few "
                        "words; check endpoint.url"
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
