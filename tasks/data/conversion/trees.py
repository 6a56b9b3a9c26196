"""Trees of messages with ranked replies (OpenAssistant), nested in one row or one message a row.

Every prompt of a tree that has at least two ranked replies is an example: the dialogue that leads
to it is its prompt. Rank 0 is best. Deleted messages, and those that reviewers refused, do not
count.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tasks.data.conversion.cells import is_absent, number, text_cell, unpacked
from tasks.data.conversion.messages import read_messages
from tasks.data.conversion.rankings import ranking_example
from tasks.data.conversion.records import Cells, Example, Message, Row, RowProblem

NODE = "tree-messages"
"""The format of rows that are one message of a tree each; see `gather_trees`."""


def tree(cells: Cells) -> list[Example]:
    """Read a nested tree: all its prompts, with their ranked replies."""
    root = unpacked(cells["tree"])
    if not isinstance(root, Mapping):
        raise RowProblem("the prompt of a tree is not an object")
    return list(_examples(root, []))


def _examples(root: Mapping[str, Any], before: list[Message]) -> Iterator[Example]:
    """All prompts at and below a message, without recursion: trees may be deep."""
    waiting = [(root, before)]
    while waiting:
        node, path = waiting.pop()
        (message,) = read_messages(_plain(node), "tree")
        dialogue = [*path, message]
        replies = [one for one in node.get("replies") or [] if _counts(one)]
        if message["role"] == "user":
            ranked = []
            for reply in replies:
                rank = number(reply.get("rank"), "rank")
                content = read_messages(_plain(reply), "tree")
                ranked.append((content, None if rank is None else -rank))
            yield ranking_example(dialogue, ranked)
        waiting += [(reply, dialogue) for reply in reversed(replies)]


def _plain(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": node.get("role"), "text": text_cell(node.get("text"), "text of a message")}


def _counts(node: object) -> bool:
    if not isinstance(node, Mapping):
        raise RowProblem("a reply of a tree is not an object")
    return not node.get("deleted") and node.get("review_result") is not False


def lone_message(cells: Cells) -> Example:
    """Refuse a message that belongs to no tree of the file."""
    raise RowProblem(
        "a deleted message of a tree"
        if not _counts(cells)
        else "a message of a tree whose parent is not in the file"
    )


def gather_trees(rows: Iterable[Row]) -> Iterator[Row]:
    """Nested trees from rows that hold one message each, with its parent's id.

    A message whose parent is not among the rows stays a row of its own.
    """
    nodes: dict[Any, dict[str, Any]] = {}
    for row in rows:
        nodes[row.get("message_id")] = {**row, "replies": []}
    roots = []
    for node in nodes.values():
        parent = node.get("parent_id")
        if is_absent(parent) and _counts(node):
            roots.append(node)
        elif parent in nodes:
            nodes[parent]["replies"].append(node)
        else:
            yield {key: value for key, value in node.items() if key != "replies"}
    for root in roots:
        yield {"message_tree_id": root["message_id"], "prompt": root}
