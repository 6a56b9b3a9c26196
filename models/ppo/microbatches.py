"""Rows cut into micro-batches, dealt to the members of a team."""

from collections.abc import Iterator

from models.distributed.team import current_team
from models.language.sequences import Sequences, in_chunks


def microbatches(sequences: Sequences, max_tokens: int) -> Iterator[tuple[slice, Sequences, float]]:
    """Give this member's micro-batches: places of the rows, the rows, and their weight.

    The weight is 1; it is 0 of rows that another member learns from, which stand in where members
    must compute equally often.
    """
    team = current_team()
    chunks = list(in_chunks(sequences, max_tokens, shares=team.size))
    own = len(range(team.rank, len(chunks), team.size))
    for number, (rows, chunk) in enumerate(team.share_in_step(chunks)):
        yield rows, chunk, float(number < own)
