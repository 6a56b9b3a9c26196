"""A lineage in words: the parts of a table or of a picture that shows it."""

from tasks.registry.lineage import DIGEST, Record, Records

SHOWN = 12
"""Characters of a digest that people see."""


def title(record: Record) -> str:
    """Name a record in a word or two."""
    if record.state == "published":
        return record.stage
    return record.state if not record.stage else f"{record.stage} ({record.state})"


def short(digest: str) -> str:
    """Shorten a digest for people; names from outside only where they are digests."""
    return digest[:SHOWN] if DIGEST.fullmatch(digest) else digest


def date(record: Record) -> str:
    """When a record was made, to the minute, in UTC."""
    return f"{record.made:%Y-%m-%d %H:%M}" if record.made else ""


def numbers(record: Record) -> list[str]:
    """The key metrics in words, without their group."""
    return [
        f"{name.split('/')[-1]} {value:,.0f}"
        if value == round(value)
        else f"{name.split('/')[-1]} {value:.4g}"
        for name, value in record.metrics.items()
    ]


def sources(record: Record, known: Records) -> list[str]:
    """What a record was made from, in words: the roles of each input and which one it is."""
    roles: dict[str, list[str]] = {}
    for role, digest in record.inputs.items():
        roles.setdefault(digest, []).append(role)
    return [
        f"{' and '.join(names)}: {title(known[digest])} {short(digest)}"
        if digest in known
        else f"{' and '.join(names)}: {short(digest)}"
        for digest, names in roles.items()
    ]
