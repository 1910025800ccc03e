"""The README tells the truth: its commands, its tree and its tricks."""

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

from kagglekit import tricks
from kagglekit.augment.catalogue import AUGMENTERS, make_augmenter
from kagglekit.data.clean import CLEANERS, check_cleaners
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.ensembling.methods import CALIBRATIONS, METHODS, THRESHOLDS, BlendPlan
from kagglekit.kaggle.__main__ import main as kaggle
from kagglekit.kaggle.steps import parse_steps
from kagglekit.losses.catalogue import LOSSES
from kagglekit.model.heads import HEADS
from kagglekit.model.pooling import POOLINGS
from kagglekit.pretraining.masking_catalogue import MASKINGS
from kagglekit.pretraining.stages import OBJECTIVES
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import choose_shared, parse_arguments, read_arguments, read_parameters
from kagglekit.samples import SAMPLES
from kagglekit.selftraining.options import DistillationOptions, SelfTrainingOptions
from kagglekit.training.optim import SCHEDULES
from kagglekit.tricks import make_tricks

ROOT = Path(__file__).parents[1]
DEFAULT = ("linear",)  # a head that is no trick
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_is_one_that_exists(command, capsys):
    """Parameters are checked against the notebooks; the scripts themselves run in test_notebooks.py."""
    own, _, shared = " ".join(command).partition(" -- ")
    if command[0] == "./run_all.sh":
        assert own.split()[1:] in ([], ["test"], ["lab"], ["compat"], ["path/to/folder"])
        choose_shared(find_notebook("3_train"), read_arguments(shlex.split(shared)))
    elif command[:3] == ["python", "-m", "kagglekit.run"] and command[3] != "--summary":
        notebook = find_notebook(command[3])
        assert parse_arguments(notebook, read_parameters(notebook), read_arguments(command[4:]))
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


def test_the_tree_of_the_readme_names_every_folder_and_module_and_no_other():
    tree = README.split("## The tree\n")[1].split("```")[1]
    for path in (ROOT / "kagglekit").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"{path.name}/" in tree, path
        elif path.suffix == ".py" and path.name != "__init__.py":
            assert path.name in tree, path
    for name in re.findall(r"\b(\w+)\.py\b", tree):
        assert list(ROOT.glob(f"kagglekit/{name}.py")) or list(ROOT.glob(f"tests/{name}.py")), name


def test_the_table_of_tricks_has_every_trick_of_the_catalogue():
    for name in tricks.TRICKS:
        assert f"| {name} |" in README


TRICKS = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for row in README.split("## Tricks\n")[1].split("\n## ")[0].splitlines()
    if row.startswith("| ") and row.count("|") == 7 and not row.startswith("| trick |")
]


OTHERS = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for row in README.split("**Choosing, before anything is trained**")[1].split("\n## ")[0].splitlines()
    if row.startswith("| ") and row.count("|") == 6 and not row.startswith("| trick |")
]


def check_line(switch, test, names):
    """Its tests exist, and one of these notebooks has all the parameters that a line gives; these."""
    given = re.findall(r"`(\w+)=", switch)
    assert any(set(given) <= read_parameters(find_notebook(name)).keys() for name in names), given
    assert all((ROOT / "tests" / f"{name}.py").is_file() for name in test.split(", "))
    return given


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row[0])
def test_a_line_about_text_and_labels_names_parameters_and_tests_that_exist(row):
    _, source, switch, cost, test = row
    given = check_line(switch, test, ("1_eda", "2_pretrain", "3_train"))
    assert source and cost and (given or "`objective`" in switch or "`cut`" in switch)


BELIEVED = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for row in README.split("## A score you can believe\n")[1].split("\n## ")[0].splitlines()
    if row.startswith("| ") and row.count("|") == 5 and not row.startswith("| what |")
]


@pytest.mark.parametrize("row", BELIEVED, ids=lambda row: row[0])
def test_a_line_about_the_score_names_parameters_and_tests_that_exist(row):
    _, source, switch, test = row
    assert source and check_line(switch, test, ("1_eda", "3_train", "4_ensemble"))


@pytest.mark.parametrize(
    ("knob", "names"), [("method", METHODS), ("calibrate", CALIBRATIONS), ("thresholds", THRESHOLDS)]
)
def test_the_tables_of_the_score_name_every_way_that_there_is(knob, names):
    told = {name for row in BELIEVED for name in re.findall(rf'`{knob}="(\w+)"', row[2])}
    assert told - {"auto"} == set(names)


ALL = ("1_eda", "2_pretrain", "3_train", "4_ensemble")
CHECKS = {  # parameter -> what refuses a value that does not fit
    "tricks": make_tricks,
    "clean": check_cleaners,
    "pseudo": SelfTrainingOptions.choose,
    "distill": DistillationOptions.choose,
    "augment": lambda recipe: make_augmenter(recipe, "minilm"),
    "pooling": lambda name: POOLINGS[name],
    "head": lambda name: HEADS[name],
    "cut": lambda name: TRUNCATIONS[name],
    "schedule": SCHEDULES.index,
    "objective": lambda name: OBJECTIVES[name],
    "masking": lambda name: MASKINGS[name],
    "options": lambda knobs: BlendPlan("multiclass", "accuracy", options=knobs),
}
SWITCHES = sorted({switch for row in [*TRICKS, *OTHERS, *BELIEVED] for switch in re.findall(r"`(\w+=[^`]+)`", row[2])})


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_of_the_readme_is_taken_as_it_stands(switch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synonyms.txt").write_text("good fine\n")
    name, _, value = switch.partition("=")
    value = ast.literal_eval(value)
    notebooks = [read_parameters(find_notebook(notebook)) for notebook in ALL]
    assert any(name in known and known[name].accepts(value) for known in notebooks)
    if name in CHECKS:
        CHECKS[name](value)


def test_the_tables_have_every_objective_masking_augmenter_and_cleaner():
    switches = " ".join(row[2] for row in OTHERS)
    for name in [*OBJECTIVES, *MASKINGS, *AUGMENTERS]:
        assert f'"{name}"' in switches or name == "mlm", name
    for name in CLEANERS:
        assert f"`{name}`" in README, name


@pytest.mark.parametrize("row", TRICKS, ids=lambda row: row[0])
def test_a_line_of_the_tables_names_parameters_and_tests_that_exist(row):
    _, source, switch, _, _, test = row
    parameters = read_parameters(find_notebook("3_train"))
    given = re.findall(r"`(\w+)=", switch)
    assert source and (re.search(rf"`({'|'.join(parameters)})[=`]", switch) or '"start": ' in switch or "_at" in switch)
    assert set(given) <= parameters.keys()
    assert all((ROOT / "tests" / f"{name}.py").is_file() for name in test.split(", "))


def test_the_tables_have_every_pooling_loss_head_schedule_and_cut():
    switches = " ".join(row[2] for row in TRICKS)
    for name in [*POOLINGS, *LOSSES, *HEADS, *SCHEDULES, *TRUNCATIONS]:
        assert re.search(rf"[\"`]{name}[\"`]", switches) or name in DEFAULT, name


def test_help_says_how_to_use_the_script():
    told = subprocess.run([ROOT / "run_all.sh", "--help"], capture_output=True, text=True, check=True).stdout
    for words in ("./run_all.sh DIR", "./run_all.sh lab", "./run_all.sh test", "-- a=1 b=2", "--help"):
        assert words in told
    assert "set -euo" not in told


@pytest.mark.parametrize(("words", "message"), [(["nowhere"], "no folder nowhere"), ([".", "epochs=2"], "--help")])
def test_a_wrong_word_after_the_script_is_told(words, message):
    done = subprocess.run([ROOT / "run_all.sh", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.skipif(not find_spec("jupyterlab"), reason="JupyterLab is not installed")
def test_lab_opens_the_notebooks_with_a_kernel_that_finds_the_library(tmp_path):
    port = 8000 + os.getpid() % 1000
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.token=t", "--port-retries=0"]
    log = open(tmp_path / "log", "w")  # noqa: SIM115
    process = subprocess.Popen([ROOT / "run_all.sh", "lab", *options], stdout=log, stderr=log, cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}/api/contents/notebooks?token=t"
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
