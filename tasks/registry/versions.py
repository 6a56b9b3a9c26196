"""Versions of registered models: found by name, downloaded, and what their tags mean.

The tags of a version name the stage and its digest, so whoever asks for the version gets the
published stage itself.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from models.errors import ModelError, QuartetError
from tasks.results.digests import DIGEST
from tasks.settings import load_settings
from tasks.tracking.client import Tracker, tagged
from tasks.tracking.outages import describe

CHALLENGER = "challenger"
"""Alias of the newest version; who promotes a model gives it another."""

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

NAME = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
STAGE = re.compile(r"[a-z][\w-]*")
LOGGED = re.compile(r"models:/(m-[^/]+)")


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


def find_version(tracker: Tracker, name: str) -> ModelVersion:
    """Find the version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names.

    Raises:
        ModelError: The name has another form, or MLflow has no such version or does not answer.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            f"{name!r} names no registered model, wanted models:/NAME@ALIAS or "
            "models:/NAME/NUMBER; MLflow's Models page shows them"
        )
    remedy = "choose a version and an alias that its Models page shows, or give stage/digest"
    with asking(tracker, f"does not give {name!r}", remedy):
        tracker.require(patient=True)
        if match["alias"]:
            found = tracker.client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            found = tracker.client.get_model_version(match["name"], match["version"])
    return version_of(found)


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
