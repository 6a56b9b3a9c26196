"""One root seed; every consumer derives its own seed from the root and a name.

Adding a consumer therefore never moves the random numbers of another one.
"""

import hashlib


def derive_seed(root: int, name: str) -> int:
    """Derive a 63-bit seed for one named consumer from the root seed."""
    digest = hashlib.sha256(f"{root}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
