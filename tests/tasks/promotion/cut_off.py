"""For tests of changes that are cut off: a registry in memory, a client that fails or dies."""

import copy
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Killed(BaseException):
    """The process is dead."""


class Requests:
    """MLflow's client, which fails or dies at one of its requests.

    A dead process makes no more requests, so it cleans nothing up either.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.plan: tuple[str, int] = ("", 0)
        self.of = ""
        self.count = 0

    def cut_off(self, kind: str, at: int, of: str = "") -> None:
        """`killed` after a request, `refused` before it, `unanswered` after it; of one method."""
        self.plan, self.count, self.of = (kind, at), 0, of

    def go_on(self) -> None:
        self.cut_off("", 0)

    @property
    def was_cut_off(self) -> bool:
        kind, at = self.plan
        return self.count > at if kind == "killed" else self.count >= at

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.client, name)
        counted = callable(real) and self.of in ("", name)
        return self._counted(real) if counted else self._alive(real)

    def _alive(self, real: Any) -> Any:
        if self.plan[0] == "killed" and self.count > self.plan[1]:
            raise Killed
        return real

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def request(*args: Any, **kwargs: Any) -> Any:
            kind, at = self.plan
            self.count += 1
            if kind == "killed" and self.count > at:
                raise Killed
            if kind == "refused" and self.count == at:
                raise ConnectionError("no route\nto host")
            answer = real(*args, **kwargs)
            if kind == "unanswered" and self.count == at:
                raise ConnectionError("connection reset\nby peer")
            return answer

        return request


class Gone(Exception):
    """MLflow's word for what it does not have."""

    error_code = "RESOURCE_DOES_NOT_EXIST"


class Page(list[Any]):
    token = None


class MemoryRegistry:
    """The part of MLflow's client that registered models need, a thousand times as fast."""

    def __init__(self) -> None:
        self.models: dict[str, SimpleNamespace] = {}

    def create_registered_model(self, name: str) -> None:
        self.models[name] = SimpleNamespace(name=name, aliases={}, tags={}, versions={})

    def create_model_version(self, name: str, source: str, *, tags: dict[str, str]) -> None:
        there = self.models[name].versions
        number = str(len(there) + 1)
        there[number] = SimpleNamespace(
            name=name, version=number, source=source, tags=dict(tags), description=""
        )

    def get_registered_model(self, name: str) -> Any:
        return copy.deepcopy(self.models[name])

    def get_model_version(self, name: str, version: str) -> Any:
        if version not in self.models[name].versions:
            raise Gone
        return copy.deepcopy(self.models[name].versions[version])

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        return self.get_model_version(name, self.models[name].aliases[alias])

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        assert len(value) <= 5000  # what PostgreSQL's column has room for
        self.models[name].tags[key] = value

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self.models[name].tags.pop(key, None)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        assert version in self.models[name].versions
        self.models[name].aliases[alias] = version

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self.models[name].aliases.pop(alias, None)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.models[name].versions[version].tags[key] = value

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        self.models[name].versions[version].tags.pop(key, None)

    def update_model_version(self, name: str, version: str, description: str) -> None:
        self.models[name].versions[version].description = description

    def log_model_artifact(self, model_id: str, path: str) -> None:
        """The card's file; the description says the same."""

    def search_registered_models(self, *, page_token: str | None, filter_string: str = "") -> Page:
        key = re.fullmatch(r"tags.`(.+?)` LIKE '%'", filter_string)
        wanted = {key[1]} if key else set()
        return Page(one for one in self.models.values() if wanted <= set(one.tags))

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def get_experiment(self, number: str) -> Any:
        return SimpleNamespace(creation_time=0)

    def search_model_versions(
        self, *, filter_string: str, page_token: str | None, max_results: int, order_by: list[str]
    ) -> Page:
        assert order_by == ["version_number DESC"]
        named = re.search(r"name = '(.+?)'", filter_string)
        equal = re.findall(r"tags.`(.+?)` = '(.+?)'", filter_string)
        unequal = re.findall(r"tags.`(.+?)` != '(.+?)'", filter_string)
        there = re.findall(r"tags.`(.+?)` LIKE '%'", filter_string)
        return Page(
            copy.deepcopy(version)
            for model in self.models.values()
            for version in sorted(model.versions.values(), key=lambda one: -int(one.version))
            if named is None or named[1] == model.name
            if all(version.tags.get(key) == value for key, value in equal)
            if all(version.tags.get(key, value) != value for key, value in unequal)
            if all(key in version.tags for key in there)
        )  # fmt: skip
