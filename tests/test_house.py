"""The order of the library: imports run one way, folders that one can hold in the head."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kagglekit.running.warm_kernels import find_imports, import_path

LIBRARY = Path(__file__).parents[1] / "kagglekit"
FOUNDATION = (
    "annotations",
    "options",
    "declared",
    "files",
    "progress",
    "time_budget",
    "device",
)  # any folder may use these
ROOMS = (  # from below to above
    *FOUNDATION,
    *(
        "scoring",
        "competition",
        "samples",
        "data",
        "losses",
        "decoders",
        "model",
        "augment",
        "tricks",
        "runs",
        "training",
    ),
    *("ensembling", "selftraining", "pretraining", "learners", "show", "running", "reports"),
    *("kaggle", "gains", "run", "__main__"),
)
MODULES = {".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts): path for path in LIBRARY.rglob("*.py")}


def imported(module):
    """The modules of the library that a module imports, also those inside functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        for name in names:
            found |= {name, f"{name}.__init__"} & MODULES.keys()
    packages = {name for name in found if name.endswith(".__init__")}
    named = {
        name for name in packages if any(other.startswith(name.removesuffix("__init__")) for other in found - packages)
    }
    return found - named - {module}


IMPORTS = {module: imported(module) for module in MODULES}


def room(module):
    return module.split(".")[1]


@pytest.mark.parametrize("place", sorted({room(module) for module in MODULES} - {"__init__"}))
def test_a_module_imports_from_its_own_room_and_from_those_below(place):
    ours = [module for module in MODULES if room(module) == place]
    above = ROOMS[ROOMS.index(place) + 1 :]
    assert [(module, other) for module in ours for other in IMPORTS[module] if room(other) in above] == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_what_any_folder_may_use_uses_no_folder():
    for name in FOUNDATION:
        inside = [module for module in MODULES if room(module) == name]
        assert {room(other) for module in inside for other in IMPORTS[module]} <= set(FOUNDATION), name


def test_a_folder_can_be_held_in_the_head():
    loose = [path for path in LIBRARY.glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= 8
    for folder in LIBRARY.iterdir():
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= (23 if folder.name == "kaggle" else 17), folder.name


def test_no_file_is_named_for_nothing_in_particular():
    words = {"utils", "helpers", "helper", "util", "common", "misc", "manager", "base_classes"}
    assert words & {path.stem for path in MODULES.values()} == set()


def test_the_tests_mirror_the_library():
    tests = Path(__file__).parent
    folders = {path.parent.name for path in tests.glob("*/test_*.py")}
    assert folders == {path.name for path in LIBRARY.iterdir() if path.is_dir() and list(path.glob("*.py"))}


def test_no_two_test_files_have_one_name():
    """pytest imports them by their bare names, as their folders are no packages."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


READERS = re.compile(
    r"json\.loads?|(pq|parquet)\.(read_table|ParquetFile)|pd\.read_\w+|np\.load|safe_open|load_file|load_model"
    r"|zipfile\.ZipFile|torch\.load|(Auto\w+|kind)\.from_pretrained"
)
TOLERANT = ("terminal", "push", "secrets", "lint_notebook")  # they can do without what they read, or say why not


def _is_named(node):
    """Whether errors of the readers in a statement name their file."""
    if isinstance(node, ast.With):
        return re.search(r"\b(reading|loading|going_on)\(", " ".join(map(ast.unparse, node.items)))
    return isinstance(node, ast.Try) and any("ValueError" in ast.unparse(one.type) for one in node.handlers)


def test_files_that_can_be_damaged_are_read_where_errors_name_them():
    """In a `with reading(...)` or `loading(...)`, whose errors name the file and what makes it again."""
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text())
        inside = {id(each) for node in ast.walk(tree) if _is_named(node) for each in ast.walk(node)}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in inside]
        found = [ast.unparse(call) for call in calls if READERS.fullmatch(ast.unparse(call.func))]
        if not re.search(r"read_text\(|read_bytes\(|(?<!P)open\(", path.read_text()):
            found = [call for call in found if not call.startswith("json.loads(")]  # of what is in memory
        found = [call for call in found if not re.match(r"json\.loads\(json\.dumps\(|zipfile\.ZipFile\(\w+, 'w'", call)]
        assert not found or path.stem in TOLERANT, name


def test_what_kaggle_has_is_not_below_what_the_library_needs():
    root = LIBRARY.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needed = map(Requirement, sum(project["optional-dependencies"].values(), project["dependencies"]))
    lines = (root / ".ci" / "kaggle-image.txt").read_text().splitlines()
    there = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    checked = {one.name: there[one.name] in one.specifier for one in needed if one.name in there}
    assert len(checked) > 15 and all(checked.values()), checked


@pytest.mark.parametrize(
    ("what", "heavy"),
    [
        ("kagglekit.run", "numpy pandas torch sklearn nbformat jupyter_client matplotlib"),
        ("kagglekit.running.jupyter_kernel, papermill", "rfc3987_syntax torch sklearn matplotlib"),
        ("kagglekit.kaggle.build", "sklearn scipy.stats torch transformers matplotlib"),
        ("1_eda", "transformers.modeling_utils transformers.trainer accelerate"),
        ("4_ensemble", "torch transformers"),
        ("5_submit", "torch transformers sklearn"),
    ],
)
def test_nobody_waits_for_imports_that_are_not_needed(what, heavy):
    notebook = LIBRARY.parent / "notebooks" / f"{what}.ipynb"
    lines = find_imports(notebook) if notebook.exists() else [f"import {what}"]
    code = "\n".join([*lines, "import sys", f"print(*(name for name in {heavy.split()} if name in sys.modules))"])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **import_path()}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.split() == [], done.stdout + done.stderr
