"""Items as people see them: prompt and completions as text that nothing in it changes."""

from models.rows import Content
from tasks.escaping import for_markdown
from tasks.labelling.items import LETTERS, Item
from tasks.tracking.reviews import PREVIEW, Shown


def shown(item: Item) -> Shown:
    """An item for a trace; where it is long, with a preview that begins every completion."""
    whole = _text(item)
    preview, characters = whole, PREVIEW
    while len(preview) > PREVIEW:
        characters = characters * 9 // 10
        preview = f"{_text(item, characters)}\n\n*Cut; whole in the full trace.*"
    return Shown(prompt=_prompt_text(item.prompt), text=whole, preview=preview)


def _prompt_text(prompt: Content) -> str:
    if isinstance(prompt, str):
        return _as_written(prompt)
    if len(prompt) == 1:
        return _as_written(prompt[0]["content"])
    return "\n\n".join(f"**{turn['role']}** {_as_written(turn['content'])}" for turn in prompt)


def _text(item: Item, characters: int | None = None) -> str:
    """All completions, or so many characters of each, under their letters."""
    parts = []
    for letter, text in zip(LETTERS, item.completions, strict=False):
        cut = characters is not None and len(text) > characters
        parts.append(f"### {letter}\n\n{_as_written(f'{text[:characters]}…' if cut else text)}")
    return "\n\n".join(parts)


def _as_written(text: str) -> str:
    """Foreign text as Markdown that shows it, line by line, and obeys nothing in it."""
    return "  \n".join(map(for_markdown, text.split("\n")))
