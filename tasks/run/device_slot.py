"""One training at a time a device: a slot of Prefect's that is held while a stage learns.

The slot is of the global concurrency limit `quartet-<host>-<device>`, which is made with one slot,
or as many as the first stage has GPUs, and can be changed on Prefect's page of limits. A stage that
learns on several GPUs holds a slot for each, or all there are. Unlike Prefect's own `concurrency`,
which this would be otherwise, the log says whom a run waits for, an API that is gone stops nobody,
and the slot of a process that was killed is given back by the next one at once, also after the
server has forgotten its lease: each holder leaves a note in the home folder (see
`tasks/machine/liveness.py`).
"""

import contextlib
import contextvars
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from filelock import BaseFileLock, FileLock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from models.errors import first_line
from tasks.machine.liveness import Note
from tasks.machine.temporary import started
from tasks.run.reporting import run_logger
from tasks.settings import Settings

LEASE_SECONDS = 60.0
"""After them Prefect frees a slot that nobody renews; the server takes no shorter lease."""

RENEW_SECONDS = 20.0
POLL_SECONDS = 2.0
REQUEST_SECONDS = 3.0
DOOR_SECONDS = 5.0
TAKEN = (httpx.codes.LOCKED, httpx.codes.UNPROCESSABLE_ENTITY)
"""All slots are held, or somebody has set the limit to 0."""


def limit_name(device: str) -> str:
    """The global concurrency limit of a device of this machine."""
    return f"quartet-{socket.gethostname()}-{device}"


@contextlib.contextmanager
def training_slot(
    settings: Settings, device: str, what: str, *, devices: int = 1
) -> Iterator[None]:
    """Hold the device's slot during the block; outside a Prefect run, do nothing.

    Args:
        device: As torch calls it.
        what: The stage, for the log lines of those who wait.
        devices: How many of this kind it learns on; each is a slot.
    """
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    if flow is None or flow.flow_run is None:
        yield
        return
    holder = ConcurrencyLeaseHolder(type="flow_run", id=flow.flow_run.id)
    if task is not None:
        holder = ConcurrencyLeaseHolder(type="task_run", id=task.task_run.id)
    note = {
        "name": flow.flow_run.name,
        "flow_run_id": str(flow.flow_run.id),
        "what": what,
        "slots": devices,
        "pid": os.getpid(),
        # Temporary servers have one database and a new address each time.
        "api": "" if PREFECT_API_URL.value() in started else PREFECT_API_URL.value() or "",
    }
    slot = _Slot(settings.root / "slots" / device, limit_name(device), holder, note)
    slot.wait()
    try:
        yield
    finally:
        slot.close()


class _Slot:
    """A slot on its way to being held, held and given back."""

    def __init__(
        self, folder: Path, limit: str, holder: ConcurrencyLeaseHolder, note: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._holder = holder
        self._content = note
        self._note = Note(folder / f"{uuid4()}.json")
        self._slots = int(note["slots"])
        self._lease: UUID | None = None
        self._lost = False
        self._logger = run_logger()
        self._stop = threading.Event()
        context = contextvars.copy_context()  # the run's logger and Prefect's settings
        self._thread = threading.Thread(target=lambda: context.run(self._renew), daemon=True)

    def wait(self) -> None:
        logged = None
        while not self._enter():
            others = ", ".join(sorted(self._living().values())) or "a run of another home folder"
            if others != logged:
                device, host = self._limit.rpartition("-")[2], socket.gethostname()
                self._logger.info(
                    "another run trains on %s of %s: %s; waiting (limit %s)",
                    device, host, others, self._limit,
                )  # fmt: skip
                logged = others
            time.sleep(POLL_SECONDS)
        self._thread.start()

    def close(self) -> None:
        """Give the slot back; whatever goes wrong, its lease runs out by itself."""
        self._stop.set()
        self._thread.join(2 * REQUEST_SECONDS)
        given_back = False
        try:
            with self._door(DOOR_SECONDS), _api() as client:
                if self._lease is not None:
                    client.release_concurrency_slots_with_lease(self._lease)
                elif self._lost:
                    self._count_slots(client)
            given_back = True
        except Exception as error:  # any failure of a remote service must leave results alone
            self._logger.warning(
                "Prefect did not take the slot of %s back (%s); it will be free in a minute or two",
                self._limit, first_line(error),
            )  # fmt: skip
        finally:
            self._note.let_go(keep=not given_back)  # the next run tries again

    def _door(self, wait_seconds: float = -1) -> BaseFileLock:
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder / "door.lock", timeout=wait_seconds)

    def _enter(self) -> bool:
        with self._door():
            try:
                with _api() as client:
                    entered = self._take(client) or self._take_from_the_dead(client)
            except Exception as error:  # any failure of a remote service
                entered = not self._living()
                if entered:
                    self._logger.warning(
                        "Prefect's API cannot be asked for a slot of %s; training continues "
                        "without one: %s",
                        self._limit, first_line(error),
                    )  # fmt: skip
            if entered:
                self._note.take()
                self._write_note()
        return entered

    def _write_note(self) -> None:
        content = {**self._content, "slots": self._slots, "lease_id": str(self._lease or "")}
        self._note.write(content)

    def _take(self, client: SyncPrefectClient) -> bool:
        """Get a slot if there is one; the limit is made if it is missing."""
        try:
            answer = client.increment_concurrency_slots_with_lease(
                names=[self._limit],
                slots=self._few_enough(client),
                mode="concurrency",
                lease_duration=LEASE_SECONDS,
                holder=self._holder,
            ).json()
        except httpx.HTTPStatusError as error:
            if error.response.status_code in TAKEN:
                return False
            raise
        if not answer["limits"]:
            with contextlib.suppress(ObjectAlreadyExists):  # another run made it in between
                client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(name=self._limit, limit=self._slots)
                )
            return self._take(client)
        self._lease = UUID(answer["lease_id"])
        return True

    def _few_enough(self, client: SyncPrefectClient) -> int:
        """The slots wanted, or all there are where somebody has set fewer: more are never given."""
        if self._slots == 1:
            return 1
        with contextlib.suppress(ObjectNotFound):  # not made yet
            there = client.read_global_concurrency_limit_by_name(self._limit).limit
            self._slots = min(self._slots, there or self._slots)
        return self._slots

    def _take_from_the_dead(self, client: SyncPrefectClient) -> bool:
        """Give back what killed processes held, and try again."""
        released = False
        for note in map(Note, self._notes()):
            if not note.take():
                continue
            if lease := note.read().get("lease_id"):
                client.release_concurrency_slots_with_lease(UUID(lease))
            note.let_go()
            released = True
        if not released or self._take(client):
            return released
        self._count_slots(client)  # a server that restarted forgot the lease
        return self._take(client)

    def _count_slots(self, client: SyncPrefectClient) -> None:
        living = self._living()
        notes = (Note(path).read() for path in self._notes() if path.stem in living)
        held = sum(int(note.get("slots", 1)) for note in notes)
        client.update_global_concurrency_limit(
            self._limit, GlobalConcurrencyLimitUpdate(active_slots=held)
        )

    def _notes(self) -> list[Path]:
        return [
            path
            for path in self._folder.glob("*.json")
            if path != self._note.path
            and Note(path).read().get("api", self._content["api"]) == self._content["api"]
        ]

    def _living(self) -> dict[str, str]:
        """Who of this home folder holds a slot, by note."""
        living = {}
        for note in map(Note, self._notes()):
            content = note.read()
            if note.take():
                note.let_go(keep=True)
            elif content:
                name = "{name} ({what}, flow run {flow_run_id})".format(**content)
                living[note.path.stem] = name
        return living

    def _renew(self) -> None:
        """Keep the lease; one that is lost, by an outage, is asked for again now and then."""
        warned = False
        while not self._stop.wait(RENEW_SECONDS):
            try:
                with _api() as client:
                    if self._lease is not None:
                        client.renew_concurrency_lease(self._lease, LEASE_SECONDS)
                    elif self._take(client):
                        self._lost = False
                        self._write_note()
                warned = False
            except Exception as error:  # any failure of a remote service must leave training alone
                answer = getattr(error, "response", None)
                if answer is not None and answer.status_code == httpx.codes.GONE:
                    self._lease, self._lost = None, True
                if not warned:
                    self._logger.warning(
                        "Prefect does not renew the slot of %s; training continues, but another "
                        "run may start beside it: %s",
                        self._limit, first_line(error),
                    )  # fmt: skip
                warned = True


@contextlib.contextmanager
def _api() -> Iterator[SyncPrefectClient]:
    """A client of its own, after a look whether the API answers: its retries take minutes."""
    settings = {"timeout": REQUEST_SECONDS}
    with get_client(sync_client=True, httpx_settings=settings) as client:
        address = f"{str(client.api_url).rstrip('/')}/health"
        httpx.get(address, timeout=REQUEST_SECONDS)  # an error status is an answer too
        yield client
