"""`quartet join HOST:PORT`: lend this host's processes to what the host there trains.

It needs nothing of the first host's disk: inputs come from MLflow, checkpoints from the first host,
and what both can make again is made here. What is learned is published there; here its checkpoints
stay until it is done, so that each host resumes.
"""

import json
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from models.errors import ParameterError, QuartetError
from tasks.machine.hosts import Offer
from tasks.machine.network import interface_of, own_address
from tasks.machine.rendezvous import LEAVE_SECONDS, Visit
from tasks.machine.teams import Node, clear, held_lock, report, start_team, team_environment
from tasks.results.code import code_digest
from tasks.results.digests import library_versions
from tasks.results.store import Store
from tasks.run.exchange import open_published
from tasks.run.learning import FOLDER, SPEC
from tasks.run.scale import chosen_scale
from tasks.settings import Settings

Say: TypeAlias = Callable[[str], None]

POLL_SECONDS = 0.5
DRAFTS = (".partial", ".writing")
"""Endings of folders that a stage writes; all others in the store are its inputs."""


def join(address: str, settings: Settings, say: Say) -> None:
    """Take part in all that is trained at an address, one after the other, until interrupted.

    Args:
        say: Takes what a person wants to know.

    Raises:
        ParameterError: There is no way to that address.
    """
    if not re.fullmatch(r"[\w.-]+:\d{1,5}", address):
        raise ParameterError(f"{address} is no address; wanted HOST:PORT, as in 10.0.0.1:29500")
    own_address(address)
    say(f"{socket.gethostname()} joins what is trained at {address}, until Ctrl-C")
    while True:
        visit = Visit(address, socket.gethostname())
        offer = visit.come()
        if offer is None:
            time.sleep(POLL_SECONDS)
            continue
        told: dict[str, Any] = {}
        try:
            with visit.signs():
                told = _Part(visit, Offer(**offer), settings, say).take()
        except (QuartetError, OSError) as error:
            say(f"cannot take part: {error}")
            told = {"trouble": str(error)}
        visit.leave(told)


class _Part:
    """What this host does of one learning."""

    def __init__(self, visit: Visit, offer: Offer, settings: Settings, say: Say) -> None:
        self._visit, self._offer, self._settings, self._say = visit, offer, settings, say
        self._store = Store(settings.store)
        self._partial = self._store.partial(offer.stage, offer.digest)
        self._folder = self._partial / FOLDER

    def take(self) -> dict[str, Any]:
        """Prepare, learn with the others, and say what happened to the processes here."""
        offer, what = self._offer, f"{self._offer.stage} {self._offer.digest[:12]}"
        self._say(f"{what}: host {self._visit.node + 1} of {offer.nodes}")
        self._want_alike()
        with held_lock(self._folder, on_wait=lambda: None) as lock:
            clear(self._folder)
            self._drop_draft()
            spec = {**offer.spec, "arguments": self._at_home(offer.spec["arguments"])}
            (self._folder / SPEC).write_text(json.dumps(spec, indent=1), encoding="utf-8")
            self._visit.fetch_checkpoints(self._partial / "checkpoints")
            self._visit.ready()
            while self._visit.order != "start":
                if self._visit.over:
                    return {}
                time.sleep(POLL_SECONDS)
            child = self._start(lock)
        self._say(f"{what}: learns; logs: {self._folder}")
        try:
            while child.ended() is None and not self._visit.over:
                time.sleep(POLL_SECONDS)
        except BaseException:
            child.stop()
            raise
        child.stop(lambda: self._visit.over)
        end = time.monotonic() + LEAVE_SECONDS
        while not self._visit.over and time.monotonic() < end:
            time.sleep(POLL_SECONDS)  # to hear whether it is done
        told = report(self._folder)
        self._drop_draft()
        if self._visit.order == "done":
            self._store.drop_partial(offer.stage, offer.digest)
        self._say(f"{what}: has left")
        return told

    def _drop_draft(self) -> None:
        """Remove what the first host publishes."""
        draft = self._store.root / self._offer.stage / f"{self._offer.digest}.writing"
        shutil.rmtree(draft, ignore_errors=True)

    def _start(self, lock: int) -> Any:
        offer = self._offer
        own = own_address(self._visit.address)
        threads = int(offer.spec["threads"]) * offer.processes
        host, port = offer.leader
        return start_team(
            self._folder / SPEC,
            processes=offer.processes,
            environment=team_environment(offer.processes, threads, interface_of(own)),
            lock=lock,
            node=Node(number=self._visit.node, of=offer.nodes, address=own, leader=(host, port)),
        )

    def _want_alike(self) -> None:
        """Refuse to compute something else, or what cannot be computed here.

        Raises:
            ParameterError: The code or the libraries differ, or GPUs are missing.
        """
        function = str(self._offer.spec["function"])
        if not function.startswith("models."):
            raise ParameterError(f"{function} is no training of Quartet's; wanted one of models")
        if code_digest(function.partition(":")[0]) != self._offer.code:
            raise ParameterError(
                "its code is not the first host's; install the same version of Quartet on both"
            )
        here = library_versions()
        for name, version in self._offer.libraries.items():
            if here.get(name) != version:
                raise ParameterError(
                    f"it has {name} {here.get(name)}, and the first host {version}; install the "
                    "same on both"
                )
        alone = {"processes": self._offer.processes, "nodes": 1}
        chosen_scale(self._settings.model_copy(update=alone), self._offer.spec["device"])

    def _at_home(self, value: Any) -> Any:
        """Put this host's paths in the place of the first one's, and fetch what lies there."""
        if isinstance(value, list):
            return [self._at_home(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "path" in value:
            return {"path": str(self._path(Path(value["path"])))}
        return {name: self._at_home(one) for name, one in value.items()}

    def _path(self, path: Path) -> Path:
        store, cache = Path(self._offer.store), Path(self._offer.cache)
        if path.is_relative_to(cache):
            return self._settings.cache / path.relative_to(cache)
        if not path.is_relative_to(store):
            if path.exists():  # the same on each host, such as a model's folder
                return path
            raise ParameterError(f"{path} is not here; put the same there as on the first host")
        inside = path.relative_to(store)
        stage, digest = inside.parts[:2]
        if digest.endswith(DRAFTS):
            (self._store.root / stage / digest).mkdir(parents=True, exist_ok=True)
        else:
            open_published(stage, digest)
        return self._store.root / inside
