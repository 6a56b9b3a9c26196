"""The stack of infra/compose.yaml, for the tests that need it running."""

from tests.infra.stack import stack

__all__ = ["stack"]
