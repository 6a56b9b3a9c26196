"""The digest of code: texts, moves and machinery leave it alone; what counts does not."""

import ast
import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.results import code
from tasks.results.code import code_digest, reached_definitions

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("flows", "tasks", "models")

SOURCES = {
    "__init__": '"""A package."""\n',
    "stage": (
        '"""The stage."""\n'
        "import json\n"
        "from models.errors import DataError\n"
        "from toyhouse import middle\n"
        "from toyhouse.machine import carry\n\n\n"
        "def run(rows):\n"
        '    """Run."""\n'
        "    if not rows:\n"
        '        raise DataError("no rows; give some")\n'
        "    carry(rows)\n"
        "    return middle.value() + 1  # one more\n"
    ),
    "middle": (
        "import logging\n"
        "import math\n"
        "from toyhouse.deep.leaf import LEAF\n\n"
        "logger = logging.getLogger(__name__)\n"
        "UNUSED = 7\n\n\n"
        "def value(start=3):\n"
        "    from toyhouse.late import LATE\n\n"
        '    logger.info("got %d", LATE)\n'
        "    return math.floor(start + LEAF + LATE)\n\n\n"
        "def unused():\n"
        "    return UNUSED\n"
    ),
    "deep/__init__": "",
    "deep/leaf": 'LEAF = 1\n"""A number."""\n',
    "late": "LATE = 2\n",
    "other": "LATE = 9\n",
    "machine/__init__": "from toyhouse.pipe import PIPE\n",
    "pipe": "PIPE = 3\n",
}

SYNTAX = """
from toyhouse import middle

KINDS: dict[str, tuple[int, ...]] = {"a": (1, -2), **{}, "b": ()}
NUMBERS = [0x1F, 1_000, 1.5e-3, 2j, True, None, ..., b"bytes", "text" "joined", u"old"]


class Box(dict[str, int], metaclass=type):
    size: int = 3

    def __getitem__(self, key: str, /, *rest: int, default=None, **more) -> int:
        match key:
            case "a" | "b" if rest:
                return middle.value(*rest, **more)
            case [first, *_]:
                return first
            case None:
                return 0
        return self.size


async def run(rows, *, step: int = 2):
    global KINDS
    total = f"{rows!r:>{step}}" f"{step:.2f}" "tail"
    try:
        async with rows as one, rows:
            total += [i async for i in one if i][::step]
    except (ValueError, KeyError) as error:
        del error
    finally:
        found = (one := {i: j for i, j in rows}) or {*rows} or (i for i in rows)
    while not total:
        total = yield (lambda x, y=1, *z: x if y else z)
        if total is None or 0 < step <= 3 not in found:
            break
        continue
    else:
        assert total, "words"
    for _ in rows:
        nonlocal_free = rows @ total // 3 << 1
    return
"""

Rewrite = Callable[[dict[str, str]], str]


@pytest.fixture
def toyhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rewrite:
    """A throw-away first-party package; rewrites modules, returns the digest of its stage."""
    root = tmp_path / "toyhouse"
    monkeypatch.setattr(code, "FIRST_PARTY", ("toyhouse", "models"))
    monkeypatch.setattr(code, "EXEMPT", ("toyhouse.machine", "models.errors"))
    monkeypatch.syspath_prepend(tmp_path)

    def rewrite(modules: dict[str, str]) -> str:
        for name, text in modules.items():
            path = root / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _forget()
        return code_digest("toyhouse.stage") if (root / "stage.py").exists() else ""

    rewrite(SOURCES)
    yield rewrite
    _forget()


def _forget() -> None:
    for cached in (code_digest, code._house, code._read, code._parse, code._find_source):
        cached.cache_clear()


def edit(name: str, old: str, new: str) -> dict[str, str]:
    assert SOURCES[name].count(old) == 1
    return {name: SOURCES[name].replace(old, new)}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stage", '"""The stage."""', '"""Other words."""'),
        ("stage", '    """Run."""\n', ""),
        ("stage", "# one more", "# a second look"),
        ("stage", "import json\n", "import json\n\n\n"),
        ("deep/leaf", '"""A number."""', '"""Another text below the name."""'),
        ("__init__", '"""A package."""', ""),
        ("stage", "no rows; give some", "rows are wanted; got none"),
        ("stage", 'DataError("no rows; give some")', 'DataError(f"{rows} are no rows") from None'),
        ("middle", "got %d", "the late number is %d"),
        ("middle", '    logger.info("got %d", LATE)\n', ""),
        ("middle", "logger = logging.getLogger(__name__)\n", ""),
        ("machine/__init__", "PIPE\n", "PIPE as TUBE\n"),
        ("pipe", "3", "4"),
        (
            "stage",
            '        raise DataError("no rows; give some")\n',
            '        told = "none" if rows is None else f"{rows}"\n        raise DataError(told)\n',
        ),
        ("middle", "UNUSED = 7", "UNUSED = 8"),
        ("middle", "return UNUSED", "return 0"),
        ("other", "9", "10"),
    ],
)
def test_code_digest_ignores_texts_machinery_and_what_the_stage_does_not_use(
    toyhouse: Rewrite, name: str, old: str, new: str
) -> None:
    before = toyhouse({})
    assert toyhouse(edit(name, old, new)) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stage", "+ 1", "+ 2"),
        ("stage", "if not rows", "if rows is None"),
        ("middle", "LEAF + LATE", "LEAF - LATE"),
        ("middle", "start=3", "start=4"),
        ("middle", "math.floor", "math.ceil"),
        ("middle", "import math\n", "import cmath as math\n"),
        ("middle", "from toyhouse.late import LATE", "from toyhouse.other import LATE"),
        ("middle", "UNUSED = 7", "print('at import')"),
        ("deep/leaf", "LEAF = 1", "LEAF = 5"),
        ("late", "LATE = 2", "LATE = 5"),
        ("__init__", '"""A package."""', "import os\nos.environ['SWITCH'] = '1'"),
    ],
)
def test_code_digest_changes_with_what_can_change_a_number(
    toyhouse: Rewrite, name: str, old: str, new: str
) -> None:
    before = toyhouse({})
    assert toyhouse(edit(name, old, new)) != before


def test_code_digest_survives_moves_splits_and_merges(toyhouse: Rewrite) -> None:
    before = toyhouse({})
    moved = toyhouse(
        {
            "new/__init__": '"""A new room."""\n',
            "new/home": SOURCES["deep/leaf"] + SOURCES["late"],  # two modules become one
            "middle": SOURCES["middle"]
            .replace("toyhouse.deep.leaf", "toyhouse.new.home")
            .replace("toyhouse.late", "toyhouse.new.home"),
        }
    )
    assert moved == before
    split = toyhouse(
        {
            "new/middle": SOURCES["middle"],
            "stage": SOURCES["stage"].replace("from toyhouse import", "from toyhouse.new import"),
        }
    )
    assert split == before


def test_code_digest_keeps_errors_that_the_code_itself_may_catch(toyhouse: Rewrite) -> None:
    raising = SOURCES["stage"].replace("DataError(", "ValueError(")
    before = toyhouse({"stage": raising})
    assert toyhouse({"stage": raising.replace("ValueError(", "KeyError(")}) != before
    assert toyhouse({"stage": raising.replace("no rows", "none")}) == before


def test_code_digest_ignores_titles_and_descriptions_but_not_bounds(toyhouse: Rewrite) -> None:
    field = "\nfrom pydantic import Field\nSTEPS = Field(default=1, ge=1, title='Steps')\n"
    before = toyhouse({"stage": SOURCES["stage"] + field})
    assert toyhouse({"stage": SOURCES["stage"] + field.replace("'Steps'", "'Number'")}) == before
    assert toyhouse({"stage": SOURCES["stage"] + field.replace("ge=1", "ge=2")}) != before
    titled = field.replace("default=1, ge=1", "1")
    plain = toyhouse({"stage": SOURCES["stage"] + "\nfrom pydantic import Field\nSTEPS = 1\n"})
    assert toyhouse({"stage": SOURCES["stage"] + titled}) == plain


def test_code_digest_raises_when_there_is_no_such_module(toyhouse: Rewrite) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"models\.nowhere"):
        code_digest("models.nowhere")
    with pytest.raises(ModuleNotFoundError, match=r"toyhouse\.late has no NOTHING"):
        toyhouse({"middle": SOURCES["middle"].replace("import LATE", "import NOTHING as LATE")})


def test_code_digest_refuses_one_name_for_two_things_in_one_definition(toyhouse: Rewrite) -> None:
    twice = (
        "\n\ndef f(a):\n"
        "    if a:\n        from toyhouse.late import LATE\n"
        "    else:\n        from toyhouse.other import LATE\n"
        "    return LATE\n"
    )
    with pytest.raises(ValueError, match="under the one name LATE"):
        toyhouse({"stage": SOURCES["stage"] + twice})


def test_code_digest_is_remembered_in_a_home_until_a_source_changes(
    toyhouse: Rewrite, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_reading(*_: object) -> None:
        raise AssertionError("a syntax tree was read")

    first = toyhouse({})
    with monkeypatch.context() as patch:
        patch.setattr(code, "_Module", no_reading)
        assert toyhouse({}) == first
        with pytest.raises(AssertionError, match="was read"):
            toyhouse(edit("other", "9", "10"))
    assert toyhouse({}) == first  # the edited module is not the stage's
    changed = toyhouse(edit("late", "2", "3"))
    assert changed != first
    (one,) = (path for path in home.glob("cache/code/*/toyhouse.stage") if changed in read(path))
    one.write_bytes(one.read_bytes().replace(changed[:4].encode(), b"0000"))
    assert toyhouse({}) == changed  # what is damaged is made again
    home.rename(home.with_name("elsewhere"))
    assert toyhouse({}) == changed
    assert not home.exists()


class Knot:
    """Cannot go before the collector comes, and then has something parsed."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        ast.parse("1")


def test_code_digest_survives_others_that_parse(toyhouse: Rewrite) -> None:
    long = {"stage": SOURCES["stage"] + "".join(f"N{i} = [{i}]\n" for i in range(1000))}
    kept = gc.get_threshold()
    gc.set_threshold(100, 1, 1)  # the collector comes within the long source
    try:
        Knot()
        first = toyhouse(long)
        Knot()
        assert toyhouse(long) == first
    finally:
        gc.set_threshold(*kept)


def read(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


# --- the house itself -----------------------------------------------------------------------------


def stage_modules() -> list[str]:
    """The modules that stages name as theirs."""
    found = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in (ROOT / "tasks").rglob("*.py")
        if "module=__name__" in path.read_text(encoding="utf-8")
    ]
    assert len(found) >= 10
    return sorted(found)


def digests_of(root: Path, python: str = sys.executable) -> dict[str, str]:
    """The code digest of every stage of a checkout."""
    program = (
        "import json\nfrom tasks.results.code import code_digest\n"
        f"print(json.dumps({{name: code_digest(name) for name in {stage_modules()!r}}}))"
    )
    done = subprocess.run(
        [python, "-c", program], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def today() -> dict[str, str]:
    return digests_of(ROOT)


def runs(python: str) -> bool:
    """Whether an interpreter is there; a version manager's stand-in may lead nowhere."""
    found = shutil.which(python)
    return bool(found) and not subprocess.run([str(found), "-V"], capture_output=True).returncode


@pytest.mark.parametrize(
    "minor", [minor for minor in range(11, 17) if minor != sys.version_info[1]]
)
def test_every_python_gives_the_same_digests(minor: int, today: dict[str, str]) -> None:
    python = f"python3.{minor}"
    if not runs(python):
        pytest.skip(f"there is no {python} here")
    assert digests_of(ROOT, python) == today


def test_the_digest_of_every_kind_of_syntax_is_as_recorded(toyhouse: Rewrite) -> None:
    """Pythons differ in what `ast.dump` prints; what is hashed must not."""
    found = toyhouse(SOURCES | {"stage": SYNTAX})
    assert found == "e79380c2f8f30c9666e5538f732574322c97751dbfa3390f5150a3168ddd69c6"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    return tmp_path


class Reworded(ast.NodeTransformer):
    """Changes every text of every error, log line, field and docstring of a module."""

    inside = False

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self.changed(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        if "logger" in name or name.endswith("Error") or "refuse_" in name:
            return self.changed(node)
        if name == "Field":
            node.keywords = [
                self.changed(one) if one.arg in ("title", "description") else one
                for one in node.keywords
            ]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        is_docstring = isinstance(node.value, ast.Constant)
        return self.changed(node) if is_docstring else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        told = self.inside and isinstance(node.value, str)
        return ast.Constant(f"{node.value} reworded") if told else node

    def changed(self, node: ast.AST) -> ast.AST:
        outer, self.inside = self.inside, True
        node = self.generic_visit(node)
        self.inside = outer
        return node


def test_rewording_every_message_of_the_house_makes_no_stage_stale(
    copy: Path, today: dict[str, str]
) -> None:
    changed = 0
    for package in PACKAGES:
        for path in (copy / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            before = ast.dump(tree)
            tree = Reworded().visit(tree)
            changed += ast.dump(tree) != before
            path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    assert changed > 100
    assert digests_of(copy) == today


def test_a_new_error_class_makes_no_stage_stale(copy: Path, today: dict[str, str]) -> None:
    with (copy / "models" / "errors.py").open("a", encoding="utf-8") as file:
        file.write('\n\nclass NewError(QuartetError):\n    """Something new."""\n')
    assert digests_of(copy) == today


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        (
            "models/training/config.py",
            "class SFTStageConfig(FineTuningConfig):\n",
            "class SFTStageConfig(FineTuningConfig):\n    further: int = 0\n",
            {"sft", "alternatives.best_of_n"},
        ),
        (
            "models/ppo/config.py",
            "class PPOConfig(Config):\n",
            "class PPOConfig(Config):\n    further: int = 0\n",
            {"ppo"},
        ),
        ("models/ppo/losses.py", "return ", "return 1.0 * ", {"ppo"}),
        ("models/evaluation/checks.py", "MIN_PROMPTS = 30", "MIN_PROMPTS = 31",
         {"evaluate", "challenge", "evaluate_models"}),
    ],
)  # fmt: skip
def test_an_edit_makes_stale_what_it_can_change(
    copy: Path, today: dict[str, str], file: str, old: str, new: str, stale: set[str]
) -> None:
    replace(copy / file, old, new)
    changed = {name for name, digest in digests_of(copy).items() if digest != today[name]}
    assert changed == {f"tasks.stages.{name}" for name in stale}


def test_edits_of_what_never_counts_make_nothing_stale(copy: Path, today: dict[str, str]) -> None:
    for file, old, new in (
        ("models/ppo/losses.py", "def ", "FURTHER = 1\n\n\ndef "),  # nothing refers to it
        ("tasks/reports/ppo.py", "iterations", "rounds"),
        ("tasks/reports/style.py", "#", "#0"),
        ("tasks/catalogue/chain.py", '"PPO"', '"Proximal policy optimisation"'),
        ("models/evaluation/wording.py", "lies above 0", "is above 0"),
    ):
        replace(copy / file, old, new)
    assert digests_of(copy) == today


def replace(path: Path, old: str, new: str) -> None:
    """Edit a file behind its module's docstring."""
    source = path.read_text(encoding="utf-8")
    body = source.index("\n\n")
    assert old in source[body:]
    path.write_text(source[:body] + source[body:].replace(old, new), encoding="utf-8")


def test_code_digest_reaches_the_training_but_imports_none_of_it() -> None:
    program = (
        "import json, sys\n"
        "from tasks.results import code\n"
        f"stage = next(name for name in {stage_modules()!r} if name.endswith('.ppo'))\n"
        "reached = sorted({module for module, _ in code.reached_definitions(stage)})\n"
        "print(json.dumps([reached,"
        " [m for m in ('torch', 'transformers', 'models.ppo.trainer') if m in sys.modules]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reached, imported = json.loads(done.stdout)
    assert {"models.ppo.trainer", "models.ppo.losses", "models.ppo.advantages"} <= set(reached)
    assert not [name for name in reached if code._is_exempt(name)]
    assert imported == []


@pytest.mark.parametrize("module", stage_modules())
def test_stages_count_on_data_world_judging_and_labelling_only(module: str) -> None:
    rooms = {name.split(".")[1] for name, _ in reached_definitions(module) if "tasks." in name}
    own = module.split(".")[1]
    assert rooms <= {own, "stages", "data", "world", "judging", "labelling"}


def test_exempt_rooms_exist() -> None:
    for name in code.EXEMPT:
        assert code._find_source(name) is not None, name


def test_reached_definitions_are_named_by_module(toyhouse: Rewrite) -> None:
    toyhouse({})
    named = reached_definitions("toyhouse.stage")
    assert {("toyhouse.middle", "value"), ("toyhouse.deep.leaf", "LEAF")} <= named
    assert ("toyhouse.middle", "unused") not in named
