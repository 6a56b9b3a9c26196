"""What is kept in the home folder because making it again takes long; always safe to remove.

cache/tokens/<digest>/    the texts of a published stage as token ids, by what its files hold
"""

import hashlib
from pathlib import Path

from tasks.results.digests import canonical_json
from tasks.results.store import Manifest


def token_folder(cache: Path, published: Path, beginning: str) -> Path:
    """Where the token ids of a published stage's row files lie.

    Args:
        cache: The home's folder of caches.
        published: Verified folder of the stage; its manifest tells what the files hold.
        beginning: Of the names of the row files.
    """
    files = Manifest.read(published).files
    contents = {name: one.sha256 for name, one in files.items() if name.startswith(beginning)}
    digest = hashlib.sha256(canonical_json(contents).encode()).hexdigest()
    return cache / "tokens" / digest
