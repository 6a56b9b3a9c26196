"""Versions of registered models: found by name, downloaded, and what their tags mean.

    quickstart-policy                     the champion, else the challenger
    models:/quickstart-policy             the same
    models:/quickstart-policy@challenger  the version with an alias
    models:/quickstart-policy/3           a version by its number

The tags of a version name the stage and its digest, so whoever asks for the version gets the
published stage itself.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from models.display import one_line
from models.errors import ModelError, QuartetError
from tasks.results.digests import DIGEST
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import describe, tolerated
from tasks.tracking.queries import LOGGED, tagged

CHAMPION: Literal["champion"] = "champion"
CHALLENGER = "challenger"
"""Aliases of the version in use, and of the one to use next; `tasks/registry/verdicts.py` says
which that is."""

VERDICT, NOT_EVALUATED = "verdict", "not evaluated yet"
"""Of the tags that tell of a policy's evaluation; the whole of this one is the verdict in a line,
before there is one the other. It is a version's first tag, for MLflow shows them as they came."""

UNFINISHED = "quartet.unfinished"
"""Tag of a version of which something is still to be written: one of the two below."""
REGISTRATION, CARD = "registration", "card"
"""Its alias, its event and its card; its card alone."""

PROMOTION = "quartet.promotion"
"""Of the tags in which a promotion says what it found; the whole of this one is how it ended."""
PROMOTED = "promoted"

ROLLBACK = "quartet.rollback"
"""Of the tags in which a rollback says what it did; the whole of this one is one of the two."""
ROLLED_BACK, CHAMPION_AGAIN = "rolled back", "champion again"

BARE = re.compile(r"[^/@:='\"`\\]+")
"""A registered model's name that Quartet reads without `models:/`."""
NAME = re.compile(
    r"(?:models:/)?(?P<name>[^/@:='\"`]+)(?:@(?P<alias>[^/@'\"`]+)|/(?P<version>\d+))?"
)
SHOWN = 3
"""Versions that a message names."""

STAGE = re.compile(r"[a-z][\w-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version of a registered model.

    Attributes:
        source: Where MLflow has its files.
        tags: Those of Quartet name stage and digest; models from elsewhere have none.
    """

    name: str
    version: str
    source: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def page(self) -> str:
        """Address of its page below the root of MLflow's server."""
        return f"#/models/{quote(self.name)}/versions/{self.version}"

    @property
    def published(self) -> tuple[str, str] | None:
        """Stage and digest that it was made from; None if no tags, or damaged ones, say so."""
        stage, digest = self.tags.get("quartet.stage", ""), self.tags.get("quartet.digest", "")
        whole = STAGE.fullmatch(stage) and DIGEST.fullmatch(digest)
        return (stage, digest) if whole else None

    def is_same_model(self, other: "ModelVersion") -> bool:
        """Whether two versions of one name are one model; of foreign ones only the number tells."""
        return self.version == other.version or (
            self.published is not None and self.published == other.published
        )


@contextlib.contextmanager
def asking(tracker: Tracker, failed: str, remedy: str) -> Iterator[None]:
    """Turn whatever MLflow's client raises, which passes on errors of several libraries, into ours.

    Args:
        failed: What MLflow did not do.

    Raises:
        ModelError: MLflow failed or refuses.
    """
    try:
        yield
    except QuartetError:
        raise
    except Exception as error:
        raise ModelError(
            f"MLflow at {tracker.uri} {failed} ({describe(error)}); {remedy}"
        ) from error


def named_version(name: str) -> ModelVersion:
    """As `find_version`, in the MLflow that the settings name."""
    return find_version(Tracker(load_settings()), name)


def fetch_files(version: ModelVersion, into: Path) -> Path:
    """As `download`, from the MLflow that the settings name."""
    return download(Tracker(load_settings()), version, into)


def want_registered(name: str) -> None:
    """Refuse a name that no registered model or version of one has.

    Raises:
        ModelError: As `find_version`, but for a name alone whatever its versions are.
    """
    tracker, match = Tracker(load_settings()), NAME.fullmatch(name)
    if match is None or match["alias"] or match["version"]:
        find_version(tracker, name)
    else:
        find_registered(tracker, match["name"])


def find_version(tracker: Tracker, name: str) -> ModelVersion:
    """Find a version of a registered model, however it is named.

    Raises:
        ModelError: The name has another form, or MLflow has no such version or does not answer.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            f"{name!r} names no registered model, wanted NAME, models:/NAME@ALIAS or "
            "models:/NAME/NUMBER; MLflow's Models page shows them"
        )
    model = find_registered(tracker, match["name"])
    remedy = "choose a version and an alias that its Models page shows, or give stage/digest"
    with asking(tracker, f"does not give {name!r}", remedy):
        if match["version"]:
            found = tracker.client.get_model_version(match["name"], match["version"])
        elif match["alias"]:
            found = tracker.client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            number = model.aliases.get(CHAMPION) or model.aliases.get(CHALLENGER)
            if number is None:
                raise _nothing_to_use(tracker, match["name"])
            found = tracker.client.get_model_version(match["name"], str(number))
    return version_of(found)


def find_registered(tracker: Tracker, name: str) -> Any:
    """Find a registered model, as MLflow gives it.

    Raises:
        ModelError: MLflow has none of that name or does not answer.
    """
    if _nothing_yet():
        raise ModelError(
            f"{name!r} names no registered model, for there is none in {load_settings().root} yet; "
            "run a pipeline, or set QUARTET_HOME or QUARTET_TRACKING_URI to where one was run"
        )
    remedy = "choose one that its Models page shows"
    with asking(tracker, f"does not give the registered model {name!r}", remedy):
        tracker.require(patient=True)
        return tracker.client.get_registered_model(name)


def _nothing_yet() -> bool:
    """Whether MLflow's local database is still to be made, which takes seconds."""
    settings = load_settings()
    return not settings.tracking_uri and not (settings.root / "mlflow.db").exists()


def _nothing_to_use(tracker: Tracker, name: str) -> ModelError:
    there = newest_versions(tracker, name)
    example = there[0].uri if there else f"models:/{name}/1"
    return ModelError(
        f"{name} has neither a champion nor a challenger ({in_words(there)}); name a version, such "
        f"as {example}"
    )


def newest_versions(tracker: Tracker, name: str) -> list[ModelVersion]:
    """The newest versions of a registered model: those that a message names, and one more."""
    there = tracker.versions(f"name = '{name}'", page=SHOWN + 1)
    return [version_of(one) for one in itertools.islice(there, SHOWN + 1)]


def in_words(versions: Sequence[ModelVersion]) -> str:
    """What is known of `newest_versions`, in one line."""
    said = [f"version {one.version}: {one.tags.get(VERDICT, 'no verdict')}" for one in versions]
    more = ["and older ones"] if len(said) > SHOWN else []
    return one_line("; ".join([*said[:SHOWN], *more]) or "no version")


def is_registered(name: str) -> bool:
    """Whether a name alone is a registered model's; one that cannot be asked for is none."""
    if not BARE.fullmatch(name) or _nothing_yet():
        return False
    tracker = Tracker(load_settings())
    with tolerated(f"the look for a registered model {name!r}"):
        tracker.require()
        return bool(tracker.client.search_registered_models(f"name = '{name}'"))
    return False


def download(tracker: Tracker, version: ModelVersion, into: Path) -> Path:
    """Download the files of a version and return where they lie.

    Raises:
        ModelError: They cannot be had.
    """
    run = re.fullmatch(r"runs:/([^/]+)/(.+)", version.source)
    logged = LOGGED.fullmatch(version.source)
    remedy = "copy the model's folder here and give that"
    with asking(tracker, f"does not give the files of {version.uri}", remedy):
        if run is not None:
            return Path(tracker.client.download_artifacts(run[1], run[2], dst_path=str(into)))
        if logged is None:
            raise ValueError(f"its source is {version.source}")
        # The public client uploads the files of a logged model, and downloads only a run's.
        files = tracker.client._tracking_client._get_artifact_repo(
            logged[1], resource="logged_model"
        )
        return Path(files.download_artifacts("", dst_path=str(into)))


def rolled_back(tracker: Tracker, version: ModelVersion) -> ModelVersion | None:
    """The version itself, or the same model under another number, if it was rolled back.

    Raises:
        ModelError: MLflow does not say.
    """
    if version.tags.get(ROLLBACK) == ROLLED_BACK:
        return version
    if version.published is None:
        return None
    wanted = {"quartet.digest": version.published[1], ROLLBACK: ROLLED_BACK}
    with asking(tracker, f"does not give the versions of {version.name}", "try again later"):
        there = [version_of(one) for one in tracker.versions(tagged(wanted))]
    return next((one for one in there if one.name == version.name), None)


def set_tags(tracker: Tracker, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Write tags of a version, in their order."""
    for key, value in tags.items():
        tracker.client.set_model_version_tag(version.name, version.version, key, value)


def version_of(found: Any) -> ModelVersion:
    """Our record of a version as MLflow's client gives it."""
    return ModelVersion(
        name=found.name, version=str(found.version), source=str(found.source), tags=dict(found.tags)
    )
