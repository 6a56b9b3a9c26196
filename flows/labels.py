"""Labels of models that are named on a command line or in a form: LABEL=NAME, or NAME alone."""

from collections.abc import Callable, Iterable
from pathlib import Path

from models.errors import ParameterError


def split_label(name: str) -> tuple[str, str]:
    """Split `label=name` into both; without a label, make a short one from the name."""
    label, equals, rest = name.strip().partition("=")
    if equals and label.strip() and "/" not in label:
        return label.strip(), rest.strip()
    name = name.strip()
    if name.startswith("models:/"):
        return name.removeprefix("models:/"), name
    folder = Path(name).expanduser()
    return (folder.resolve().name if name and folder.is_dir() else name), name


def label_models(
    models: Iterable[str], clean: Callable[[str], str] = lambda label: label
) -> dict[str, str]:
    """Map labels, made valid by `clean`, to the names of models.

    Raises:
        ParameterError: There are none, or two with the same label.
    """
    pairs = [split_label(name) for name in models]
    labels = {clean(label): name for label, name in pairs}
    if not labels or len(labels) < len(pairs):
        raise ParameterError(
            f"got the models {', '.join(label for label, _ in pairs) or '(none)'}, wanted at least "
            "one, each once; put a label before those with the same name, such as "
            "mine=quickstart-policy"
        )
    return labels
