"""What a chat template writes around the contents of messages, and which messages fit a limit.

A template is rendered once for each sequence of roles, with marks in place of the contents; the
texts between the marks are its frame. Contents are tokenised apart from the frame and put into it.
So it is known of each token whose message it belongs to, whatever the template, and no content
becomes a special token.
"""

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from tokenizers import AddedToken

from models.errors import DataError, ModelError
from models.spaces import Join, added_space, encode_inside

_CONTENT_MARK = "content\u2063{}\u2063"  # invisible separators: no template treats them specially
_CONTENT_MARKS = re.compile("content\u2063([0-9]+)\u2063")
_NAMED = re.compile(r"(?=.*\w).*[^\w\s▁]", re.DOTALL)
"""Tokens with a name in signs, such as <|user|>; words and white space are the text's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Where the content of one message lies in a prompt: ids[start:end].

    Attributes:
        message: Its number among the messages given.
        cut: How many tokens of its beginning are missing.
        closed: Whether the template writes EOS directly behind it, at ids[end].
    """

    message: int
    start: int
    end: int
    cut: int
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """A prompt as the model reads it, from the left shortened to fit.

    Attributes:
        contents: Of the messages that were kept, in order; of a string prompt, message 0.
    """

    ids: list[int]
    contents: list[Content]


class ChatFrames:
    """The frames of one tokenizer's chat template, each rendered once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._frames: dict[tuple[str, ...], tuple[list[list[int]], list[Join]]] = {}

    def of(self, roles: tuple[str, ...]) -> list[list[int]]:
        """Give the token ids before, between and after the contents of messages.

        Raises:
            ModelError: The tokenizer has no usable chat template.
            DataError: The chat template refuses messages with these roles.
        """
        return self._rendered(roles)[0]

    def joins(self, roles: tuple[str, ...]) -> list[Join]:
        """Tell how the content of each message is joined to what is before it; raises as `of`."""
        return self._rendered(roles)[1]

    def completion_join(self) -> Join:
        """Tell how a completion is joined to its prompt: as the template joins what was said."""
        if added_space(self._tokenizer) == "never":
            return Join()
        with contextlib.suppress(DataError, ModelError):
            roles = ("user", "assistant")
            if self.of(roles)[1] == self.of(roles[:1])[1]:
                return self.joins(roles)[1]
        return Join(begins=False)

    def _rendered(self, roles: tuple[str, ...]) -> tuple[list[list[int]], list[Join]]:
        if roles not in self._frames:
            self._frames[roles] = _encode_frame(
                self._tokenizer, _frame_texts(self._tokenizer, roles)
            )
        return self._frames[roles]

    def fit(self, roles: tuple[str, ...], contents: list[list[int]], limit: int) -> PromptTokens:
        """Assemble the newest messages that fit; cut into the oldest of them only if it must be.

        Args:
            contents: Token ids of each message.
            limit: Most tokens of the prompt, with its generation prompt.
        """
        kept: list[int] = []
        prompt = PromptTokens(ids=[], contents=[])
        for kept in _newest_messages(roles):
            prompt = self._assemble(roles, contents, kept)
            if len(prompt.ids) <= limit:
                return prompt
        return _keep_end(self._assemble(roles, contents, kept, len(prompt.ids) - limit), limit)

    def _assemble(
        self, roles: tuple[str, ...], contents: list[list[int]], kept: list[int], cut: int = 0
    ) -> PromptTokens:
        """Put the contents of some messages into their frame, the first without `cut` tokens."""
        head, *tails = self.of(tuple(roles[index] for index in kept))
        ids, places = list(head), []
        for index, tail in zip(kept, tails, strict=True):
            missing = min(cut, len(contents[index])) if index == kept[0] else 0
            start = len(ids)
            ids += contents[index][missing:]
            places.append(
                Content(
                    message=index,
                    start=start,
                    end=len(ids),
                    cut=missing,
                    closed=tail[:1] == [self._tokenizer.eos_token_id],
                )
            )
            ids += tail
        return PromptTokens(ids=ids, contents=places)


def refused_roles(tokenizer: Any, orders: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Render each order of roles once, as prompts are rendered.

    Returns:
        What the template says of each order that it refuses.
    """
    frames = ChatFrames(tokenizer)
    refused = {}
    for roles in orders:
        try:
            frames.of(roles)
        except (DataError, ModelError) as error:
            refused[roles] = str(error.__cause__ or error)
    return refused


def guard_turns(tokenizer: Any) -> None:
    """Flag the tokens with which the chat template parts turns as special, so that no text is one.

    Some tokenizers have them as ordinary added tokens, which texts become, whoever wrote them.
    What a template writes behind the last turn, such as <think>, stays as it is: an assistant's
    own words.
    """
    ordinary = {
        number: token
        for number, token in tokenizer.added_tokens_decoder.items()
        if not token.special and _NAMED.match(token.content)
    }
    used: set[int] = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id}
    if ordinary and tokenizer.chat_template:
        frames = ChatFrames(tokenizer)
        for roles in (("user", "assistant", "user"), ("system", "user")):
            with contextlib.suppress(DataError, ModelError):  # this order, or any
                used |= {one for piece in frames.of(roles)[:-1] for one in piece}
    flagged = [
        AddedToken(
            one.content, special=True, normalized=one.normalized, single_word=one.single_word,
            lstrip=one.lstrip, rstrip=one.rstrip,
        )
        for one in (ordinary[number] for number in sorted(used & ordinary.keys()))
    ]  # fmt: skip
    if flagged:
        tokenizer.add_tokens(flagged, special_tokens=True)


def fit_text(leading: list[int], ids: list[int], limit: int) -> PromptTokens:
    """Shorten a prompt that is plain text from the left; the BOS in `leading` stays if it can."""
    cut = max(len(ids) - max(limit - len(leading), 0), 0)
    end = len(leading) + len(ids) - cut
    text = Content(message=0, start=len(leading), end=end, cut=cut, closed=False)
    return _keep_end(PromptTokens(ids=leading + ids[cut:], contents=[text]), limit)


def _keep_end(prompt: PromptTokens, limit: int) -> PromptTokens:
    """Cut tokens off the left, of whatever they are, until a prompt fits."""
    over = len(prompt.ids) - limit
    if over <= 0:
        return prompt
    contents = [
        Content(
            message=one.message,
            start=max(one.start - over, 0),
            end=one.end - over,
            cut=one.cut + max(over - one.start, 0),
            closed=one.closed,
        )
        for one in prompt.contents
        if one.end >= over
    ]
    return PromptTokens(ids=prompt.ids[over:], contents=contents)


def _newest_messages(roles: tuple[str, ...]) -> list[list[int]]:
    """Choices of messages to keep, longest first; a leading system message goes last of all.

    Starting elsewhere than at a user's message would break templates that want turns in order.
    """
    everything = list(range(len(roles)))
    system = [0] if roles[0] == "system" else []
    users = [index for index in everything if roles[index] == "user"]
    choices = [everything, *(system + everything[start:] for start in users[1:])]
    return [*choices, everything[users[-1] :]] if system and users else choices


def _frame_texts(tokenizer: Any, roles: Sequence[str]) -> list[str]:
    messages = [
        {"role": role, "content": _CONTENT_MARK.format(index)} for index, role in enumerate(roles)
    ]
    if not tokenizer.chat_template:
        raise ModelError(
            "the tokenizer has no chat template, but prompts are lists of messages; take the model "
            "through adoption, which adds one, or give prompts as strings"
        )
    try:
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except jinja2.TemplateError as error:
        raise DataError(
            f"the chat template refuses messages with roles {roles}: {error}"
        ) from error
    except ValueError as error:  # of several templates none is the default
        raise ModelError(
            f"the tokenizer's chat templates cannot be used ({error}); name one of them default"
        ) from error
    pieces = _CONTENT_MARKS.split(rendered)  # text, number, text, number, …, text
    if pieces[1::2] != [str(index) for index in range(len(roles))]:
        raise ModelError(
            f"the chat template does not show each of {len(roles)} messages once and in order; "
            "give the tokenizer a template that does"
        )
    return pieces[0::2]


def _encode_frame(tokenizer: Any, texts: list[str]) -> tuple[list[list[int]], list[Join]]:
    """Give the ids of a frame's texts, and how the contents between them are joined."""
    space = added_space(tokenizer)
    if space == "never":
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
        return encoded["input_ids"], [Join() for _ in texts[1:]]
    added = set(tokenizer.added_tokens_decoder)
    frame, joins = [], []
    for number, text in enumerate(texts):
        ids = _encode_piece(tokenizer, text, first=not number)
        lead = ""
        if ids and ids[-1] not in added and text.endswith(" ") and number + 1 < len(texts):
            ids, lead = _encode_piece(tokenizer, text[:-1], first=not number), " "
        behind_added = bool(ids) and ids[-1] in added and space == "always"
        joins.append(Join(lead=lead, begins=behind_added or not (ids or number)))
        frame.append(ids)
    return frame, joins[:-1]


def _encode_piece(tokenizer: Any, text: str, *, first: bool) -> list[int]:
    ids: list[int]
    if first:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        (ids,) = encode_inside(tokenizer, [text], special=True)
    return ids
