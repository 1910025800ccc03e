"""The pages tell the truth: their commands, their links, the map, and the tables of switches."""

import ast
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from kagglekit.__main__ import COMMANDS as PROGRAM
from kagglekit.augment.catalogue import AUGMENTERS, make_augmenter
from kagglekit.data.clean import CLEANERS, check_cleaners
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.ensembling.methods import CALIBRATIONS, METHODS, THRESHOLDS, BlendPlan
from kagglekit.kaggle.__main__ import main as kaggle
from kagglekit.kaggle.cells import parse_steps
from kagglekit.losses.catalogue import LOSSES
from kagglekit.model.heads import HEADS
from kagglekit.model.pooling import POOLINGS
from kagglekit.pretraining.masking import MASKINGS
from kagglekit.pretraining.stages import OBJECTIVES
from kagglekit.running.arguments import choose_shared, parse_arguments, read_arguments
from kagglekit.running.command_line import Where
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.samples import SAMPLES
from kagglekit.selftraining.selftraining_knobs import DistillationOptions, SelfTrainingOptions
from kagglekit.training.recipe import SCHEDULES, Recipe
from kagglekit.tricks import TRICKS, make_tricks

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), *sorted(ROOT.glob("*/*/README.md"))]
    if path.parts[len(ROOT.parts)] in ("README.md", "notebooks", "kagglekit", "tests")
}
DEFAULT = ("linear",)  # a head that is no trick
NOTEBOOKS = ("1_eda", "2_pretrain", "3_train", "4_ensemble", "5_submit")
COMMANDS = [
    shlex.split(line, comments=True)
    for page in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", page, re.S)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]


def read_tables(page):
    """The rows of all tables of a page that have a column `switch`: header -> cell."""
    rows, header = [], None
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells and header and not set(line) <= set("|-: "):
            rows.append(dict(zip(header, cells, strict=True)))
        header = header or cells if cells else None
    return [row for row in rows if "switch" in row]


ROWS = [(name, row) for name, page in PAGES.items() for row in read_tables(page)]


def test_the_front_page_is_one_page():
    assert PAGES["README.md"].count("\n") <= 180


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_somewhere(page):
    place = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert (place / target).exists(), target


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_a_page_is_one_that_exists(command, capsys):
    """Parameters are checked against the notebooks; the scripts themselves run in test_notebooks.py."""
    own, _, shared = " ".join(command).partition(" -- ")
    if command[0] == "./run_all.sh":
        assert own.split()[1:] in (
            [],
            ["test"],
            ["compat"],
            ["lowest"],
            ["path/to/folder"],
            ["lab", "path/to/folder"],
        )
        choose_shared(find_notebook("3_train"), read_arguments(shlex.split(shared)))
    elif command[:3] == ["python", "-m", "kagglekit.run"] and command[3] != "--summary":
        notebook = find_notebook(command[3])
        assert parse_arguments(notebook, read_parameters(notebook), read_arguments(Where.take(command[4:])[1]))
    elif command[:3] == ["python", "-m", "kagglekit"]:
        assert command[3] in PROGRAM
    elif command[:3] == ["python", "-m", "kagglekit.samples"]:
        assert command[3] in SAMPLES
    elif command[:3] == ["python", "-m", "kagglekit.kaggle"]:
        with pytest.raises(SystemExit):
            kaggle([command[3], "--help"])
        known, given = (set(re.findall(r"--\w[\w-]+", text)) for text in (capsys.readouterr().out, " ".join(command)))
        assert given <= known
        if command[3] == "build":
            plain = re.sub(
                r"--(owner|competition|model|kernel) \S+|--(each-fold|code-competition)", "", " ".join(command)
            )
            assert parse_steps(shlex.split(plain)[4:])
    else:
        known = [["python", "-m", "kagglekit.run", "--summary"], ["source", ".venv/bin/activate"]]
        known += [["python", "-m", "tests.benchmarks.train_speed"], ["python", "-m", "tests.benchmarks.step_cost"]]
        known += [["python", "-m", "tests.benchmarks.trick_gain"], ["python", "-m", "tests.benchmarks.chains"]]
        known += [["python", "-m", "tests.benchmarks.few_labels"]]
        assert any(command[: len(words)] == words for words in known)


def test_the_map_of_the_front_page_names_every_folder_and_module_and_no_other():
    tree = PAGES["README.md"].split("## The map\n")[1].split("```")[1]
    for path in (ROOT / "kagglekit").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"{path.name}/" in tree, path
        elif path.suffix == ".py" and not path.name.startswith("__"):
            assert path.name in tree, path
    for name in re.findall(r"\b(\w+)\.py\b", tree):
        assert list(ROOT.glob(f"kagglekit/{name}.py")) or list(ROOT.glob(f"tests/{name}.py")), name


def test_the_module_map_says_of_every_module_what_its_first_line_says():
    page, expected = PAGES["kagglekit/README.md"], []
    for path in (ROOT / "kagglekit").rglob("*.py"):
        if not path.name.startswith("__"):
            first = ast.get_docstring(ast.parse(path.read_text())).split("\n\n")[0].replace("\n", " ")
            expected.append(f"| `{path.relative_to(ROOT / 'kagglekit')}` | {first.rstrip('.')} |")
    assert [line for line in expected if line not in page] == []
    assert sorted(re.findall(r"^\| `[\w/]+\.py` \|.*", page, re.M)) == sorted(expected)


def flat_parameters(notebook):
    """Name -> parameter, of all that the command line takes."""
    return read_parameters(find_notebook(notebook))


@pytest.mark.parametrize(("page", "row"), ROWS, ids=[f"{page}: {next(iter(row.values()))}" for page, row in ROWS])
def test_a_row_of_a_table_names_parameters_and_tests_that_exist(page, row):
    given = re.findall(r"`(\w+)=", row["switch"])
    known = [flat_parameters(name).keys() for name in NOTEBOOKS]
    assert any(set(given) <= names for names in known), given
    named = set(re.findall(r"`(\w+)[=`]", row["switch"])) & set().union(*known)
    assert named or '"start": ' in row["switch"] or "_at" in row["switch"] or "torchrun" in row["switch"]
    if page != "README.md":
        assert row["source"] and row["test"] and row.get("cost", "none")
        assert all((ROOT / "tests" / f"{name}.py").is_file() for name in row["test"].split(", "))
    if page != "kagglekit/ensembling/README.md":
        assert row["measured gain"]


def test_the_tables_have_all_that_the_catalogues_have():
    switches = " ".join(row["switch"] for _, row in ROWS)
    for name in [*TRICKS, *OBJECTIVES, *MASKINGS, *AUGMENTERS]:
        assert f'"{name}"' in switches or name == "mlm", name
    for name in [*POOLINGS, *LOSSES, *HEADS, *SCHEDULES, *TRUNCATIONS]:
        assert re.search(rf"[\"`]{name}[\"`]", switches) or name in DEFAULT, name
    for name in TRICKS:
        assert f"| {name} |" in PAGES["kagglekit/tricks/README.md"], name
    for name in CLEANERS:
        assert f"`{name}`" in PAGES["kagglekit/data/README.md"], name


@pytest.mark.parametrize(
    ("knob", "names"), [("method", METHODS), ("calibrate", CALIBRATIONS), ("thresholds", THRESHOLDS)]
)
def test_the_tables_of_the_score_name_every_way_that_there_is(knob, names):
    switches = [row["switch"] for page, row in ROWS if page == "kagglekit/ensembling/README.md"]
    named = {name for switch in switches for name in re.findall(rf'`{knob}="(\w+)"', switch)}
    assert named - {"auto"} == set(names)


CHECKS = {  # parameter -> what refuses a value that does not fit
    "tricks": make_tricks,
    "clean": check_cleaners,
    "pseudo": lambda options: SelfTrainingOptions(**options),
    "distill": lambda options: DistillationOptions(**options),
    "augment": lambda recipe: make_augmenter(recipe, "minilm"),
    "pooling": lambda name: POOLINGS[name],
    "head": lambda name: HEADS[name],
    "truncation": lambda rule: Recipe(truncation=rule),
    "budget": lambda budget: Recipe(budget=budget),
    "swap": lambda swap: Recipe(swap=swap),
    "schedule": SCHEDULES.index,
    "objective": lambda name: OBJECTIVES[name],
    "masking": lambda name: MASKINGS[name],
    "options": lambda knobs: BlendPlan("multiclass", "accuracy", options=knobs),
}
SWITCHES = sorted(
    {switch for page, row in ROWS if page != "README.md" for switch in re.findall(r"`(\w+=[^`]+)`", row["switch"])}
)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_of_a_table_is_taken_as_it_stands(switch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synonyms.txt").write_text("good fine\n")
    name, _, value = switch.partition("=")
    value = ast.literal_eval(value)
    notebooks = [flat_parameters(notebook) for notebook in NOTEBOOKS]
    assert any(name in known and known[name].accepts(value) for known in notebooks)
    if name in CHECKS:
        CHECKS[name](value)


def test_help_says_how_to_use_the_script():
    told = subprocess.run([ROOT / "run_all.sh", "--help"], capture_output=True, text=True, check=True).stdout
    for words in ("./run_all.sh DIR", "./run_all.sh lab", "./run_all.sh test", "lowest", "-- a=1 b=2", "--help"):
        assert words in told
    assert "set -euo" not in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no folder nowhere, and the samples are bbc tweets reviews-zh drugs"),
        (["lba"], "there is no folder lba: did you mean lab?"),
        (["twets"], "there is no folder twets: did you mean tweets?"),
        (["epochs=2"], "parameters come after --, as in ./run_all.sh -- epochs=2"),
        ([".", "epochs=2"], "what is epochs=2? parameters come after --, as in ./run_all.sh . -- epochs=2"),
        ([".", "more"], "what is more? see ./run_all.sh --help"),
    ],
)
def test_a_wrong_word_after_the_script_is_told(words, message):
    done = subprocess.run([ROOT / "run_all.sh", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.skipif(not find_spec("jupyterlab"), reason="JupyterLab is not installed")
def test_lab_opens_copies_of_the_notebooks_with_a_kernel_that_finds_the_library(tmp_path):
    port = 8000 + os.getpid() % 1000
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.token=t", "--port-retries=0"]
    log = open(tmp_path / "log", "w")  # noqa: SIM115
    environment = {**os.environ, "RUNS": str(tmp_path)}
    process = subprocess.Popen([ROOT / "run_all.sh", "lab", *options], stdout=log, stderr=log, env=environment)
    try:
        url = f"http://127.0.0.1:{port}/api/contents/notebooks/lab?token=t"
        for _ in range(300):
            try:
                with urllib.request.urlopen(url) as answer:
                    assert b"3_train.ipynb" in answer.read()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
        else:
            pytest.fail((tmp_path / "log").read_text())
        environment = Path(f"/proc/{process.pid}/environ")
        if sys.platform == "linux":
            assert f"PYTHONPATH={ROOT}".encode() in environment.read_bytes()
    finally:
        process.terminate()
        process.wait(30)
        log.close()
