"""`quartet join`: another host takes part only in what it can compute alike."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.operation.joining import _Part, join
from models.distributed.records import to_plain
from models.errors import ParameterError, QuartetError
from models.randomness import derive_seed
from tasks.machine.hosts import Offer
from tasks.machine.rendezvous import Visit
from tasks.results.code import code_digest
from tasks.results.digests import library_versions
from tasks.settings import load_settings

DIGEST = "d" * 64


def offer(arguments: dict[str, Any], **other: Any) -> Offer:
    function = f"{derive_seed.__module__}:{derive_seed.__qualname__}"
    made = Offer(
        spec={"function": function, "arguments": to_plain(arguments), "device": "cpu"},
        stage="ppo",
        digest=DIGEST,
        store="/first/store",
        cache="/first/cache",
        code=code_digest(derive_seed.__module__),
        libraries=library_versions(),
        processes=1,
        nodes=2,
    )
    return replace(made, **other)


def taken(given: Offer) -> _Part:
    """The part of a host that nobody waits for."""
    return _Part(Visit("127.0.0.1:9", "beta"), given, load_settings(), print)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"code": "another"}, "its code is not the first host's"),
        ({"libraries": {"torch": "1.0"}}, "it has torch .*, and the first host 1.0"),
        ({"spec": {"function": "os:system", "arguments": {}, "device": "cpu"}}, "no training"),
    ],
)
def test_a_host_that_differs_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        taken(offer({}, **changed)).take()


@pytest.mark.usefixtures("home")
def test_paths_are_this_hosts(tmp_path: Path) -> None:
    settings, given = load_settings(), tmp_path / "model"
    given.mkdir()
    (folder := settings.store / "sft" / DIGEST).mkdir(parents=True)
    part = taken(offer({}))
    drafted = part._path(Path(f"/first/store/ppo/{DIGEST}.writing/model"))
    assert drafted == settings.store / "ppo" / f"{DIGEST}.writing" / "model"
    assert drafted.parent.is_dir()
    assert part._path(Path("/first/cache/tokens")) == settings.cache / "tokens"
    assert part._path(given) == given
    with pytest.raises(ParameterError, match="/nowhere is not here"):
        part._path(Path("/nowhere"))
    with pytest.raises(QuartetError, match="sft"):  # what lies there is damaged, and is not used
        part._path(Path(f"/first/store/sft/{DIGEST}/model"))
    assert folder.is_dir()


@pytest.mark.parametrize("address", ["nothing", "a b:1", "10.0.0.1", "10.0.0.1:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ParameterError, match="wanted HOST:PORT"):
        join(address, load_settings(), print)
