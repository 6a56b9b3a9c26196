"""A digest changes with everything that shapes a result, and with nothing else."""

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.results import digests
from tasks.results.digests import canonical_json, file_digest, library_versions, stage_digest

ARGUMENTS: dict[str, Any] = {
    "stage": "sft",
    "module": "models.randomness",
    "parameters": {"sft": {"epochs": 1.0, "batch_size": 32}},
    "seed": 0,
    "inputs": {"base": "aa", "demonstrations": "bb"},
}


def test_stage_digest_is_the_same_for_the_same_things() -> None:
    assert stage_digest(**ARGUMENTS) == stage_digest(**ARGUMENTS)


def test_stage_digest_does_not_depend_on_the_order_of_keys() -> None:
    turned = ARGUMENTS | {
        "parameters": {"sft": {"batch_size": 32, "epochs": 1.0}},
        "inputs": {"demonstrations": "bb", "base": "aa"},
    }
    assert stage_digest(**turned) == stage_digest(**ARGUMENTS)


@pytest.mark.parametrize(
    "other",
    [
        {"stage": "reward"},
        {"module": "models.runtime"},
        {"parameters": {"sft": {"epochs": 2.0, "batch_size": 32}}},
        {"parameters": {"sft": {"epochs": 1.0, "batch_size": 32, "new": None}}},
        {"seed": 1},
        {"inputs": {"base": "ab", "demonstrations": "bb"}},
        {"inputs": {"base": "bb", "demonstrations": "aa"}},
        {"inputs": {"policy": "aa", "demonstrations": "bb"}},
    ],
)
def test_stage_digest_changes_with_each_part(other: dict[str, Any]) -> None:
    assert stage_digest(**(ARGUMENTS | other)) != stage_digest(**ARGUMENTS)


def installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    """Pretend that other versions of some libraries are installed."""
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: versions.get(name) or real(name)
    )
    digests.library_versions.cache_clear()


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    digests.library_versions.cache_clear()


def test_stage_digest_changes_with_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_digest(**ARGUMENTS)
    installed(monkeypatch, {"torch": "99.0"})
    assert stage_digest(**ARGUMENTS) != before


@pytest.mark.parametrize("build", ["2.13.0", "2.13.0+cpu", "2.13.0+cu130"])
def test_stage_digest_is_the_same_for_every_build_of_a_library(
    monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    installed(monkeypatch, {"torch": "2.13.0+rocm7"})
    before = stage_digest(**ARGUMENTS)
    installed(monkeypatch, {"torch": build})
    assert stage_digest(**ARGUMENTS) == before
    assert library_versions()["torch"] == build


def test_stage_digest_is_the_same_for_every_python(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_digest(**ARGUMENTS)
    monkeypatch.setattr(digests.sys, "version_info", (3, 19, 0))
    digests.library_versions.cache_clear()
    assert library_versions()["python"] == "3.19"
    assert stage_digest(**ARGUMENTS) == before


def test_library_versions_name_python_and_what_computes() -> None:
    versions = library_versions()
    assert versions["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert {"torch", "transformers", "trl", "tokenizers", "accelerate", "numpy"} <= set(versions)


def test_canonical_json_is_sorted_compact_and_keeps_letters() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'


def test_file_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(range(256)) * 5000)
    assert file_digest(path) == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()
