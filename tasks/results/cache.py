"""What is kept in the home folder because making it again takes long; always safe to remove.

cache/tokens/<digest>/       the texts of a published stage as token ids, by what its files hold and
                             by the code that makes tokens of them
cache/code/<digest>/<module> the digest of a module's code, by what all source files hold
"""

import hashlib
from pathlib import Path

from tasks.results.code import code_digest
from tasks.results.digests import canonical_json
from tasks.results.store import Manifest


def token_folder(cache: Path, published: Path, beginning: str, module: str) -> Path:
    """Where the token ids of a published stage's row files lie.

    Args:
        cache: The home's folder of caches.
        published: Verified folder of the stage; its manifest tells what the files hold.
        beginning: Of the names of the row files.
        module: What makes tokens of them.
    """
    files = Manifest.read(published).files
    contents = {name: one.sha256 for name, one in files.items() if name.startswith(beginning)}
    made = {"files": contents, "code": code_digest(module)}
    digest = hashlib.sha256(canonical_json(made).encode()).hexdigest()
    return cache / "tokens" / digest
