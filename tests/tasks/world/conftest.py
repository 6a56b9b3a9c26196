"""One generated world for all tests that only read it."""

import pytest

from tasks.world.config import WorldConfig
from tasks.world.generate import World, generate_world

SEED = 0


@pytest.fixture(scope="session")
def world() -> World:
    """The world of the quickstart, with every default."""
    return generate_world(WorldConfig(), SEED)
