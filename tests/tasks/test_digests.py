"""A digest changes with everything that shapes a result, and with nothing else."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import digests
from tasks.digests import canonical_json, code_digest, file_digest, library_versions, stage_digest

ARGUMENTS: dict[str, Any] = {
    "stage": "sft",
    "module": "models.randomness",
    "parameters": {"sft": {"epochs": 1.0, "batch_size": 32}},
    "seed": 0,
    "inputs": {"base": "aa", "demonstrations": "bb"},
}

SOURCES = {
    "__init__": '"""A package."""\n',
    "stage": (
        '"""The stage."""\n'
        "from toyhouse import middle\n"
        "import toyhouse.plumbing\n"
        "import json\n\n\n"
        "def run():\n"
        '    """Run."""\n'
        "    return middle.value() + 1  # one more\n"
    ),
    "middle": (
        "from toyhouse.deep.leaf import LEAF\n\n\n"
        "def value():\n"
        "    from toyhouse.late import LATE\n\n"
        "    return LEAF + LATE\n"
    ),
    "deep/__init__": "",
    "deep/leaf": 'LEAF = 1\n"""A number."""\n',
    "late": "LATE = 2\n",
    "plumbing": "from toyhouse.pipe import PIPE\n",
    "pipe": "PIPE = 3\n",
    "stranger": "STRANGE = 4\n",
}

Rewrite = Callable[[str, str], str]


@pytest.fixture
def toyhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rewrite:
    """A throw-away first-party package; rewrites a module, returns the digest of its stage."""
    root = tmp_path / "toyhouse"
    monkeypatch.setattr(digests, "FIRST_PARTY", ("toyhouse",))
    monkeypatch.setattr(digests, "PLUMBING", frozenset({"toyhouse.plumbing"}))

    def rewrite(name: str, text: str) -> str:
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        code_digest.cache_clear()
        return code_digest("toyhouse.stage") if (root / "stage.py").exists() else ""

    for name, text in SOURCES.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return rewrite


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


def test_stage_digest_changes_with_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_digest(**ARGUMENTS)
    newer = library_versions() | {"torch": "99.0"}
    monkeypatch.setattr(digests, "library_versions", lambda: newer)
    assert stage_digest(**ARGUMENTS) != before


def test_library_versions_name_python_and_what_computes() -> None:
    import torch

    versions = library_versions()
    assert versions["torch"] == torch.__version__
    assert versions["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert {"transformers", "trl", "tokenizers", "accelerate", "numpy"} <= set(versions)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("stage", '"""Other words."""\n' + SOURCES["stage"].partition("\n")[2]),
        ("stage", SOURCES["stage"].replace('    """Run."""\n', "")),
        ("stage", SOURCES["stage"].replace("# one more", "# a second look")),
        ("stage", SOURCES["stage"].replace("import json\n\n\n", "import json\n\n\n\n")),
        ("deep/leaf", 'LEAF = 1\n"""Another text below the name."""\n'),
        ("__init__", ""),
    ],
)
def test_code_digest_ignores_words_and_layout(toyhouse: Rewrite, module: str, text: str) -> None:
    before = toyhouse("stranger", SOURCES["stranger"])
    assert text != SOURCES[module]
    assert toyhouse(module, text) == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage", "+ 1", "+ 2"),
        ("middle", "LEAF + LATE", "LEAF - LATE"),
        ("deep/leaf", "LEAF = 1", "LEAF = 5"),
        ("late", "LATE = 2", "LATE = 5"),
        ("__init__", '"""A package."""', "SWITCH = True"),
        ("deep/__init__", "", "SWITCH = True"),
    ],
)
def test_code_digest_changes_with_code_however_far_away(
    toyhouse: Rewrite, module: str, old: str, new: str
) -> None:
    before = toyhouse("stranger", SOURCES["stranger"])
    assert toyhouse(module, SOURCES[module].replace(old, new, 1)) != before


@pytest.mark.parametrize("module", ["plumbing", "pipe", "stranger"])
def test_code_digest_ignores_plumbing_and_modules_not_imported(
    toyhouse: Rewrite, module: str
) -> None:
    before = toyhouse("stranger", SOURCES["stranger"])
    assert toyhouse(module, "ANYTHING = 'else'\n") == before


def test_code_digest_raises_when_there_is_no_such_module() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"models\.nowhere"):
        code_digest("models.nowhere")


def test_plumbing_names_modules_that_exist() -> None:
    for name in digests.PLUMBING:
        assert digests._find_source(name) is not None, name


def test_code_digest_reaches_the_learning_but_imports_none_of_it() -> None:
    program = (
        "import json, sys\n"
        "from tasks import digests\n"
        "digests.code_digest('tasks.ppo')\n"
        "print(json.dumps([sorted(digests._reachable('tasks.ppo')),"
        " [m for m in ('torch', 'transformers', 'models.ppo.trainer') if m in sys.modules]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reached, imported = json.loads(done.stdout)
    assert {"tasks.ppo", "models.ppo.trainer", "models.ppo.losses", "models.folders"} <= set(
        reached
    )
    assert not digests.PLUMBING & set(reached)
    assert imported == []


def test_canonical_json_is_sorted_compact_and_keeps_letters() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'


def test_file_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(range(256)) * 5000)
    assert file_digest(path) == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()
