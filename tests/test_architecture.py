"""The rules of the house, read from the source: who may import whom, and what a file may be."""

import ast
import graphlib
import importlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "models")
LEARNING = ("torch", "transformers", "trl", "accelerate", "peft")
ERRORS = "models.errors"
LONGEST_FILE = 300
LONGEST_FUNCTION = 60


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(node: ast.AST) -> Iterator[str]:
    """Every module that is imported below a node, wherever it stands."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            yield from (alias.name for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom):
            assert inner.level == 0, "imports are absolute"
            yield str(inner.module)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (part for item in child.decorator_list for part in ast.walk(item))
            defaults = [*child.args.defaults, *filter(None, child.args.kw_defaults)]
            yield from (part for item in defaults for part in ast.walk(item))
        elif not isinstance(child, ast.Lambda):
            yield child
            yield from at_import(child)


def imports_at_import(path: Path) -> set[str]:
    found = (
        node for node in at_import(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)
    )
    return {name for node in found for name in imports(node)}


def belongs(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def config_classes() -> list[type[BaseModel]]:
    from flows.parameters import PipelineParameters

    found: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [PipelineParameters]
    while waiting:
        model = waiting.pop()
        found.append(model)
        inner = [field.annotation for field in model.model_fields.values()]
        waiting += [one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)]
    return found


each_source = pytest.mark.parametrize(
    "path", sources(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT))
)


# --- layers -------------------------------------------------------------------------------------


def test_architecture_sees_the_whole_house() -> None:
    names = {module_name(path) for path in sources(*PACKAGES)}
    assert {"flows.pipeline", "tasks.run.stage", "tasks.data.build", "models.ppo.trainer"} <= names


@each_source
def test_layers_import_downwards_only(path: Path) -> None:
    """flows -> tasks -> models; errors and configs may be named anywhere."""
    allowed: dict[str, tuple[str, ...]] = {
        "flows": ("flows", "tasks", "models.errors"),
        "tasks": ("tasks", "models"),
        "models": ("models",),
    }
    name = module_name(path)
    found = [module for module in imports(tree(path)) if belongs(module, PACKAGES)]
    if name in ("flows.parameters", "flows.forms"):
        near = ("flows.fields", "flows.parameters", ERRORS)
        wrong = [m for m in found if not is_config(m) and m not in near]
    else:
        possible = allowed[name.split(".")[0]]
        wrong = [m for m in found if not belongs(m, possible) and not is_config(m)]
    assert not wrong


def is_config(module: str) -> bool:
    """Configs are owned beside the code that they configure."""
    return module.rpartition(".")[2] == "config"


@each_source
def test_mlflow_and_prefect_stay_where_they_belong(path: Path) -> None:
    name = module_name(path)
    found = set(imports(tree(path)))
    if name not in (
        "tasks.tracking.client",
        "tasks.tracking.metrics",
        "tasks.tracking.server",
    ):  # runs, load of the machine, and the server itself
        assert not [module for module in found if belongs(module, ("mlflow",))]
    if name.startswith(("models", "tasks.data")):
        assert not [module for module in found if belongs(module, ("prefect",))]
    if name.startswith("flows"):
        assert not [module for module in found if belongs(module, LEARNING)]
    if name.startswith("tasks.data"):
        assert not [module for module in found if belongs(module, LEARNING)]


@pytest.mark.parametrize("path", sources("flows", "tasks"), ids=lambda p: str(p.relative_to(ROOT)))
def test_workflow_modules_import_no_learning_at_import(path: Path) -> None:
    found = imports_at_import(path)
    assert not [module for module in found if belongs(module, LEARNING)]


def test_pipeline_and_all_stages_import_without_torch() -> None:
    """So that a run which reuses everything starts fast."""
    modules = [module_name(path) for path in sources("flows", "tasks")]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"print([name for name in {LEARNING!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_configs_and_command_line_import_neither_servers_nor_torch() -> None:
    program = (
        "import sys, flows.cli.app, flows.parameters\n"
        f"print([name for name in ('prefect', 'mlflow', *{LEARNING!r}) if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# --- rooms ------------------------------------------------------------------------------------

FLOORS: dict[str, tuple[set[str], ...]] = {
    "tasks": (
        {"catalogue", "escaping", "settings"},
        {"machine", "results", "world"},
        {"data", "tracking"},
        {"run", "upkeep"},
        {"labelling", "preview"},
        {"judging", "registry"},
        {"reports"},
        {"comparison", "stages"},
        {"promotion"},
    ),
    "models": (
        {"distributed", "statistics", "yardsticks"},
        {"families"},
        {"language"},
        {"adoption", "objectives"},
        {"evaluation", "rollouts", "training"},
        {"benchmarks", "heads", "ppo", "reward", "translation"},
    ),
}
"""Rooms from the ground up. What lies in `models/` itself is the ground: it imports no room."""

MOST_MODULES = 18


def floor(package: str, module: str) -> int:
    """Of a module's room, from the ground at -1."""
    room = module.split(".")[1] if "." in module else ""
    return next((level for level, rooms in enumerate(FLOORS[package]) if room in rooms), -1)


@pytest.mark.parametrize("path", sources("tasks", "models"), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_lower_floors_only(path: Path) -> None:
    name = module_name(path)
    package, *room = name.split(".")
    found = {one for one in imports(tree(path)) if belongs(one, (package,))}
    other = {one for one in found if one.split(".")[1:2] != room[:1]}
    assert not {one for one in other if floor(package, one) >= max(0, floor(package, name))}


def test_every_room_has_its_floor() -> None:
    for package, floors in FLOORS.items():
        rooms = {
            path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()
        }
        known = {room for floor in floors for room in floor}
        assert rooms == {room for room in known if (ROOT / package / room).is_dir()}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folders_docstring_is_its_map(package: str) -> None:
    for face in (ROOT / package).rglob("__init__.py"):
        docstring = ast.get_docstring(tree(face)) or ""
        inside = [path for path in face.parent.iterdir() if path != face]
        names = {path.stem for path in inside if path.suffix == ".py"}
        names |= {path.name for path in inside if (path / "__init__.py").exists()}
        assert not [name for name in names if not re.search(rf"\b{name}\b", docstring)], face


def test_folders_hold_few_modules() -> None:
    for package in PACKAGES:
        for folder in {path.parent for path in sources(package)}:
            modules = [path for path in folder.glob("*.py") if path.stem != "__init__"]
            assert len(modules) <= MOST_MODULES, folder


def test_no_module_imports_itself_through_others() -> None:
    names = {module_name(path) for path in sources(*PACKAGES)}
    graph: dict[str, set[str]] = {}
    for path in sources(*PACKAGES):
        found = graph.setdefault(module_name(path), set())
        whole_tree = tree(path)
        whole_tree.body = [node for node in whole_tree.body if not _is_for_types_only(node)]
        for node in at_import(whole_tree):
            if isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names} & names
                found |= whole or {str(node.module)} & names
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & names
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle


def _is_for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize(
    "path", sources("tasks/run", "tasks/tracking", "tasks/results"), ids=lambda p: str(p.name)
)
def test_machinery_knows_no_stage_by_name(path: Path) -> None:
    from tasks.catalogue import CATALOGUE

    stage = re.compile(rf"({'|'.join(map(re.escape, CATALOGUE))})(/.*)?")
    assert not [text for text in texts(path) if stage.fullmatch(text)]


@pytest.mark.parametrize("path", sources("tasks/stages"), ids=lambda p: str(p.name))
def test_stages_write_no_page_and_speak_with_no_tracker(path: Path) -> None:
    views = ("matplotlib", "tasks.tracking", "tasks.reports.style")
    assert not [one for one in imports(tree(path)) if belongs(one, views)]
    used = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
    assert not used & {"show_markdown", "picture_data"}
    assert not [text for text in texts(path) if re.search(r"\|\s*-{3}|^#+ |^\| |\*\*", text)]


@pytest.mark.parametrize("path", sources("tasks/reports"), ids=lambda p: str(p.name))
def test_reports_read_records_only(path: Path) -> None:
    away = ("tasks.results.store", "tasks.results.manifests", "tasks.tracking", "torch")
    assert not [one for one in imports(tree(path)) if belongs(one, away)]


@each_source
def test_mlflows_client_is_used_at_its_seam_only(path: Path) -> None:
    if module_name(path).startswith(("tasks.tracking", "tasks.registry")):
        return
    used = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]
    clients = {ast.unparse(node) for node in used if node.attr == "client"}
    assert clients <= {"http.client"}


def texts(path: Path) -> list[str]:
    """Every string of a file that is no docstring."""
    nodes = list(ast.walk(tree(path)))
    spoken = {node.value for node in nodes if isinstance(node, ast.Expr)}
    found = [node for node in nodes if isinstance(node, ast.Constant) and node not in spoken]
    return [node.value for node in found if isinstance(node.value, str)]


# --- nothing happens at import ------------------------------------------------------------------


def _touches_the_world(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("environ", "getenv", "putenv")
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name == "environ" for alias in node.names)
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        return called in ("open", "mkdir", "read_text", "write_text", "load_settings", "Settings")
    return False


@each_source
def test_nothing_reads_the_environment_or_the_disk_at_import(path: Path) -> None:
    assert not [ast.unparse(node) for node in at_import(tree(path)) if _touches_the_world(node)]


@pytest.mark.parametrize("path", sources("models"), ids=lambda path: str(path.relative_to(ROOT)))
def test_models_never_read_the_environment(path: Path) -> None:
    names = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert not names & {"environ", "getenv"}


# --- what a file may be -------------------------------------------------------------------------


@each_source
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words = len((ast.get_docstring(node, clean=False) or "").splitlines())
            length = (node.end_lineno or 0) - node.lineno + 1 - words  # explaining is free
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@each_source
def test_modules_say_what_they_are_and_what_they_give(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "no module docstring"
    if path.name == "__init__.py":
        return
    module = importlib.import_module(module_name(path))
    faces = getattr(module, "__all__", [])
    assert not [name for name in faces if not hasattr(module, name)]
    public = {
        node.name
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    for name in public & set(faces or public):
        assert getattr(module, name).__doc__, f"{name} has no docstring"


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    assert not [path for path in sources(*PACKAGES) if path.stem in ("utils", "helpers", "common")]


def test_no_flow_file_shadows_a_package_when_loaded_by_path() -> None:
    """Prefect puts the folder of a flow that is loaded by path in front of sys.path."""
    installed = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    stems = {path.stem for path in sources("flows")} - {"__init__"}
    assert not stems & (installed | set(PACKAGES))


def test_the_repository_speaks_of_itself_only() -> None:
    """No absolute path, no foreign place in code, texts or presets."""
    pattern = re.compile(r"/(home|root|mnt|opt)/|/tmp/")
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    files += [path for path in ROOT.glob("*") if path.suffix in (".md", ".toml", ".yaml", ".txt")]
    hits = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        if path.is_file() and path.suffix in (".py", ".yaml", ".md", ".toml", ".txt")
        for line in path.read_text(encoding="utf-8").splitlines()
        if pattern.search(line)
    ]
    assert not hits


def test_weights_are_never_unpickled_and_foreign_code_never_run() -> None:
    for path in sources(*PACKAGES):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if "trust_remote_code" in given:
                assert ast.unparse(given["trust_remote_code"]) == "False", path
            if is_read_by_transformers(node.func):  # which asks on stdin if it is not said
                assert "trust_remote_code" in given, f"{path}: {ast.unparse(node.func)}"
            if ast.unparse(node.func) == "torch.load":
                assert ast.unparse(given["weights_only"]) == "True", path
        assert not {"pickle", "cloudpickle", "joblib"} & set(imports(tree(path))), path


def is_read_by_transformers(function: ast.expr) -> bool:
    """Whether a call may run code that came with a model; peft's adapters bring none."""
    if not isinstance(function, ast.Attribute) or function.attr not in (
        "from_pretrained",
        "from_config",
    ):
        return False
    return ast.unparse(function.value) not in ("PeftModel", "LoraConfig")


# --- forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", config_classes(), ids=lambda model: model.__name__)
def test_configs_are_frozen_and_refuse_unknown_fields(model: type[BaseModel]) -> None:
    assert model.model_config["frozen"] is True
    assert model.model_config["extra"] == "forbid"
    assert model.__doc__


@pytest.mark.parametrize("model", config_classes(), ids=lambda model: model.__name__)
def test_config_fields_have_titles_descriptions_and_plain_types(model: type[BaseModel]) -> None:
    """Free dicts and unions become raw JSON editors in the run form, but `X | None` a toggle.

    A list of choices is one that can be picked from.
    """
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        given = [one for one in get_args(kind) if one is not NoneType]
        if NoneType in get_args(kind) and len(given) == 1:
            kind = given[0]
        assert field.title, f"{model.__name__}.{name} has no title"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            continue  # a group: its class says what it is
        assert field.description, f"{model.__name__}.{name} has no description"
        if get_origin(kind) is list:
            (kind,) = get_args(kind)
            assert get_origin(kind) is Literal, f"{name}: a list of {kind}"
        assert kind in (int, float, str, bool) or get_origin(kind) is Literal, f"{name}: {kind}"


def test_parameters_are_not_a_god_config() -> None:
    """Each stage's config is owned beside its code; the pipeline only composes them."""
    from flows.parameters import PipelineParameters

    owners = {model.__module__ for model in config_classes()} - {PipelineParameters.__module__}
    assert all(is_config(owner) for owner in owners)
    assert len(owners) >= 7
