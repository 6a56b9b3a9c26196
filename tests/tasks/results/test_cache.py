"""Folders of caches are named after what files hold, not after who made them."""

from pathlib import Path

from tasks.results.cache import token_folder
from tasks.results.store import Manifest, list_files, write_manifest


def _publish(folder: Path, files: dict[str, str], digest: str = "0" * 64) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    manifest = Manifest(
        stage="prepare", digest=digest, seed=0, parameters={}, inputs={}, libraries={}, code="",
        run_id="", seconds=0.0, metrics={}, files=list_files(folder),
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def test_token_folder_is_named_after_the_contents_of_its_files(tmp_path: Path) -> None:
    texts = {"corpus_train.jsonl": "a", "corpus_heldout.jsonl": "b"}
    first = _publish(tmp_path / "1", texts)
    same = _publish(tmp_path / "2", {**texts, "prompts_train.jsonl": "c"}, digest="1" * 64)
    other = _publish(tmp_path / "3", {**texts, "corpus_train.jsonl": "A"})
    swapped = _publish(tmp_path / "4", {"corpus_train.jsonl": "b", "corpus_heldout.jsonl": "a"})
    found = [
        token_folder(tmp_path, one, "corpus_", "models.token_files")
        for one in (first, same, other, swapped)
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert found[0].parent == tmp_path / "tokens"
    assert token_folder(tmp_path, first, "corpus_", "models.reward.encoding") not in found, (
        "other code may make other tokens"
    )
