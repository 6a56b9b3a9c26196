"""What a file is, by its first bytes: its ending may be wrong, and it may be no data at all."""

import os
import re
from pathlib import Path

from models.errors import DataError
from models.files import reading, shown

HEAD = 2**16
"""First bytes that are looked at."""

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_ROWS = {
    b"PAR1": "parquet",
    b"ARROW1\0\0": "arrow",
    b"\xff\xff\xff\xff": "arrow",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
_EXPORT = "export its rows as JSON lines or CSV in UTF-8"
_UNPACK = "unpack it and give the files in it"
_FETCH = "download the file itself"
_FOREIGN: dict[bytes, tuple[str, str]] = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old Excel or Word file (.xls, .doc)", _EXPORT),
    b"%PDF": ("a PDF", "extract its text"),
    b"{\\rtf": ("an RTF document", "save it as plain text in UTF-8"),
    b"SQLite format 3\0": ("an SQLite database", _EXPORT),
    b"\x93NUMPY": ("a NumPy array", _EXPORT),
    b"\x89HDF": ("an HDF5 file", _EXPORT),
    b"ORC": ("an ORC file", "convert it to parquet"),
    b"Obj\x01": ("an Avro file", "convert it to parquet"),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"\x04\x22\x4d\x18": ("an LZ4 file", _UNPACK),
    b"\xff\x06\0\0sNaPpY": ("a Snappy file", _UNPACK),
    b"\x89PNG": ("a picture (PNG)", "give a text file"),
    b"\xff\xd8\xff": ("a picture (JPEG)", "give a text file"),
    b"GIF8": ("a picture (GIF)", "give a text file"),
    b"\x7fELF": ("a program", "give a data file"),
    b"version https://git-lfs.github.com/spec/": (
        "a Git LFS pointer, which stands for the file",
        "run `git lfs pull` where it was cloned, or download the file itself",
    ),
    b"/annex/objects/": (
        "a git-annex pointer, which stands for the file",
        "run `git annex get` where it was cloned, or download the file itself",
    ),
}
_OFFICE = {
    "xl/": ("an Excel workbook", "save the sheet as CSV in UTF-8"),
    "word/": ("a Word document", "save it as plain text in UTF-8"),
    "ppt/": ("a PowerPoint file", _EXPORT),
    "content.xml": ("a LibreOffice document", "save it as CSV or plain text in UTF-8"),
    "data.pkl": ("weights or objects of PyTorch", _EXPORT),
}
_PICKLE = re.compile(rb"\x80[\x02-\x05](\x95|[\]}(c])", re.DOTALL)
_MARKUP = re.compile(rb"\s*<(!doctype\s+html|html\b|head\b|body\b)", re.IGNORECASE)
_XML = re.compile(rb"\s*<(\?xml\b|!doctype\b|[a-z][\w:-]*[\s/>])", re.IGNORECASE)


def packing_of(head: bytes) -> str:
    """How a file is packed (gzip, bzip2, xz, zstd), by its first bytes; empty if it is not."""
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")


def container_of(head: bytes) -> str:
    """What holds rows or files in a form of its own: parquet, arrow, zip, tar; empty for text."""
    if head[257:262] == b"ustar":
        return "tar"
    return next((name for magic, name in _ROWS.items() if head.startswith(magic)), "")


def refuse_foreign(name: str, head: bytes) -> None:
    """Refuse a file that is no data, or in a form that is not read, for what it is.

    Raises:
        DataError: It is; the message says what it is and the way on.
    """
    for magic, (kind, remedy) in _FOREIGN.items():
        if head.startswith(magic) and (b"\0" in head or not magic.isalpha()):  # "ORC" or "ORCA"
            raise foreign(name, kind, remedy)
    if _PICKLE.match(head):
        raise foreign(name, "a pickle, which can run code when it is loaded", _EXPORT)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _MARKUP.match(text):
        raise foreign(name, "a web page, perhaps a server's error or login page", _FETCH)
    if _XML.match(text) and ending_is_data(name):
        raise foreign(name, "an XML document", _EXPORT)
    if head and not head.strip(b"\0"):
        raise foreign(
            name, "filled with NUL bytes, so it was not written or copied to its end", _FETCH
        )


def ending_is_data(name: str) -> bool:
    """Whether a name promises rows, which markup is not; a text may begin with markup."""
    return not re.search(r"\.txt(\.\w+)?$", name, re.IGNORECASE)


def refuse_office(name: str, members: list[str]) -> None:
    """Refuse a zip file that is a document of some program.

    Raises:
        DataError: It is one.
    """
    for part, (kind, remedy) in _OFFICE.items():
        for member in members:
            if member.startswith(part) or member.endswith(f"/{part}"):
                raise foreign(name, kind, remedy)
    if members and all(member.endswith(".npy") for member in members):
        raise foreign(name, "a NumPy archive", _EXPORT)


def refuse_pointer(path: Path) -> None:
    """Refuse a link of git-annex whose file was not fetched.

    Raises:
        DataError: It is one.
    """
    with reading(path):
        missing = path.is_symlink() and not path.exists() and ".git/annex/" in os.readlink(path)
    if missing:
        raise foreign(str(path), *_FOREIGN[b"/annex/objects/"])


def foreign(name: str, kind: str, remedy: str) -> DataError:
    """The error for a file that is something else."""
    return DataError(
        f"{shown(name)} is {kind}; wanted JSON, JSON lines, CSV, parquet or text; {remedy}"
    )
