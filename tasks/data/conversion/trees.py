"""Trees of messages with ranked replies (OpenAssistant), nested in one row or one message a row.

Every prompt of a tree that has at least two ranked replies is an example: the dialogue that leads
to it is its prompt. Rank 0 is best. Deleted messages, and those that reviewers refused, do not
count.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tasks.data.conversion.cells import NO, YES, is_absent, number, text_cell, unpacked, word
from tasks.data.conversion.messages import read_messages
from tasks.data.conversion.rankings import ranking_example
from tasks.data.conversion.records import Cells, Example, LeftOut, Message, Row, RowProblem

DELETED = "deleted replies of trees were left out"
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
        given = node.get("replies") or []
        if not isinstance(given, list):
            raise RowProblem("the replies of a tree are not a list")
        replies = [one for one in given if _counts(one)]
        if message["role"] == "user":
            ranked = []
            for reply in replies:
                rank = number(reply.get("rank"), "rank")
                content = read_messages(_plain(reply), "tree")
                ranked.append((content, None if rank is None else -rank))
            found = ranking_example(dialogue, ranked)
            deleted = (DELETED,) if len(replies) < len(given) else ()
            yield found._replace(notes=(*found.notes, *deleted))
        waiting += [(reply, dialogue) for reply in reversed(replies)]


def _plain(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": node.get("role"), "text": text_cell(node.get("text"), "text of a message")}


def _counts(node: object) -> bool:
    if not isinstance(node, Mapping):
        raise RowProblem("a reply of a tree is not an object")
    return word(node.get("deleted")) not in YES and word(node.get("review_result")) not in NO


def lone_message(cells: Cells) -> Example:
    """Refuse a message that belongs to no tree of the file."""
    raise LeftOut(
        "a message that belongs to no tree of the file: its parent is missing or deleted, or it "
        "stands there twice"
    )


def gather_trees(rows: Iterable[Row]) -> Iterator[Row]:
    """Nested trees from rows that hold one message each, with its parent's id.

    A message that belongs to no tree stays a row of its own.
    """
    nodes: dict[str | int, dict[str, Any]] = {}
    for row in rows:
        name = row.get("message_id")
        if isinstance(name, str | int) and name not in nodes:
            nodes[name] = row | {"replies": []}
        else:
            yield row
    roots = []
    for node in nodes.values():
        parent = node.get("parent_id")
        if is_absent(parent) and _counts(node):
            roots.append(node)
        elif isinstance(parent, str | int) and parent in nodes:
            nodes[parent]["replies"].append(node)
    reached: set[str | int] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        reached.add(node["message_id"])
        waiting += node["replies"]
    for name, node in nodes.items():
        if name not in reached:
            yield {key: value for key, value in node.items() if key != "replies"}
    for root in roots:
        yield {"message_tree_id": root["message_id"], "prompt": root}
