"""Orders of roles that a chat template refuses."""

import copy
from typing import Any

import pytest

from models.language.frames import refused_roles
from tests.strict_template import ALTERNATING, HIDES_SYSTEM

ORDERS = [
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("user", "assistant", "assistant", "user"),
    ("user", "user"),
]


@pytest.fixture
def with_template(tokenizer: Any) -> Any:
    def make(template: str | None) -> Any:
        other = copy.deepcopy(tokenizer)
        other.chat_template = template
        return other

    return make


def test_own_template_takes_every_order(tokenizer: Any) -> None:
    assert refused_roles(tokenizer, ORDERS) == {}


def test_refused_orders_come_with_what_the_template_says(with_template: Any) -> None:
    assert refused_roles(with_template(ALTERNATING), ORDERS) == {
        ("system", "user"): "no system message, please",
        ("user", "assistant", "assistant", "user"): "turns must alternate",
        ("user", "user"): "turns must alternate",
    }


def test_a_template_that_hides_a_message_refuses_it(with_template: Any) -> None:
    refused = refused_roles(with_template(HIDES_SYSTEM), ORDERS)
    assert list(refused) == [("system", "user")]
    assert "does not show each of 2 messages" in refused["system", "user"]
