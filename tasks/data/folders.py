"""A data folder: files that are named by what they are for.

It holds, each as one file with any ending that can be read (`sft.jsonl.gz`, `sft.csv`, …) or as a
folder of such files (`pretrain/…`):

    pretrain       for a base model of one's own, or PPO's pretraining mix   -> corpus
    sft            needed   prompt + completion, or messages                 -> demonstrations
    pairs_train    needed   prompt + chosen + rejected, or chosen + rejected -> preferences
    pairs_test     optional the same; otherwise a share of pairs_train is held out
    prompts_train  optional prompts to roll out; otherwise those of sft
    prompts_test   optional held-out prompts; otherwise a share is held out

Other files are ignored.
"""

from pathlib import Path

from models.errors import DataError
from models.files import listed, reading, shown
from tasks.data.formats import Collection
from tasks.data.named import Found
from tasks.data.reading.paths import ending_of, expand

_CORPUS = "pretrain"
_NEEDED = ("sft", "pairs_train")
WITHOUT_CORPUS = (
    "do without by naming a model in base.source, with ppo.ptx_coef=0 (no pretraining mix)"
)
_STEMS: dict[str, tuple[Collection, bool]] = {
    "pretrain": ("corpus", False),
    "sft": ("demonstrations", False),
    "pairs_train": ("preferences", False),
    "pairs_test": ("preferences", True),
    "prompts_train": ("prompts", False),
    "prompts_test": ("prompts", True),
}


def folder_files(folder: Path, *, corpus: bool = True, whole: bool = True) -> dict[str, Path]:
    """Find what a data folder holds, by stem, in the order of the layout: files or folders.

    Args:
        folder: The data folder.
        corpus: Whether the texts to pretrain on are needed.
        whole: Whether anything is needed.

    Raises:
        DataError: If the folder or a needed file is missing, or a stem is there twice.
    """
    needed = ((_CORPUS, *_NEEDED) if corpus else _NEEDED) if whole else ()
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise DataError(
            f"data folder {shown(folder)}: got {got}; wanted a directory with {', '.join(needed)} "
            "files; correct data.folder"
        )
    with reading(f"data folder {folder}", "a directory that can be read"):
        entries = {path.name: path.is_file() for path in sorted(folder.iterdir())}
        folders = {name for name in entries if (folder / name).is_dir()}
    found: dict[str, Path] = {}
    for stem in _STEMS:
        matches = [
            name
            for name, is_file in entries.items()
            if (name in folders if name == stem else is_file and name == stem + ending_of(name))
        ]
        if len(matches) > 1:
            raise DataError(
                f"data folder {shown(folder)}: got {len(matches)} files for {stem} "
                f"({', '.join(matches)}); wanted one; remove or rename the others, or put all of "
                f"them into a folder {stem}"
            )
        if matches:
            found[stem] = folder / matches[0]
    missing = [stem for stem in needed if stem not in found]
    if missing:
        names = [name for name, is_file in entries.items() if is_file]
        others = [f"{name} (no regular file)" for name, is_file in entries.items() if not is_file]
        raise DataError(
            f"data folder {shown(folder)}: no file for {', '.join(missing)}; got "
            f"{listed(names + others) or 'an empty folder'}; wanted {missing[0]} with an "
            "ending such as .jsonl, .json, .csv, .tsv, .txt or .parquet, packed or not; add or "
            "rename the file" + (f", or {WITHOUT_CORPUS}" if missing == [_CORPUS] else "")
        )
    return found


def found_in(folder: Path, *, whole: bool = True) -> list[Found]:
    """The files of a data folder that are read.

    Args:
        whole: Whether the needed ones must be there.

    Raises:
        DataError: The folder or a needed file is missing, or a stem is there twice.
    """
    found = []
    for stem, path in folder_files(folder, corpus=False, whole=whole).items():
        collection, heldout = _STEMS[stem]
        notes: list[str] = []
        files = expand(str(path), notes=notes) if path.is_dir() else [path]
        for number, file in enumerate(files):
            label = file.relative_to(folder).as_posix()
            found.append(
                Found(
                    collection=collection,
                    heldout=heldout,
                    label=label,
                    path=file,
                    notes=tuple(notes) if not number else (),
                )
            )
    return found
