"""What a row is taken for, and which of its columns nobody reads."""

from tasks.data.formats import convert_row, recognise, unread_columns


def test_a_row_is_recognised_with_its_home_whatever_case_its_columns_have() -> None:
    found = recognise({"Question": "q", "ANSWER": "a", "id": 1})
    assert found is not None
    assert (found.name, found.home) == ("prompt-completion", "demonstrations")
    row = {"Question": "q", "ANSWER": "a", "id": 1}
    assert convert_row("demonstrations", row) == [{"prompt": "q", "completion": "a"}]
    assert unread_columns("demonstrations", row) == ["id"]
    assert unread_columns("prompts", row) == ["id"]
