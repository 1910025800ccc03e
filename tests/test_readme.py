"""The README tells the truth: its commands, its tree and its tricks."""

import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from kagglekit import tricks
from kagglekit.batch.parameters import read_parameters
from kagglekit.run import choose_shared, find_notebook, parse_arguments, read_arguments
from kagglekit.samples import SAMPLES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_is_one_that_exists(command):
    """Parameters are checked against the notebooks; the scripts themselves run in test_notebooks.py."""
    own, _, shared = " ".join(command).partition(" -- ")
    if command[0] == "./run_all.sh":
        assert own.split()[1:] in ([], ["test"], ["lab"], ["path/to/folder"])
        choose_shared(find_notebook("3_train"), read_arguments(shlex.split(shared)))
    elif command[:3] == ["python", "-m", "kagglekit.run"] and command[3] != "--summary":
        notebook = find_notebook(command[3])
        assert parse_arguments(notebook, read_parameters(notebook), read_arguments(command[4:]))
    elif command[:3] == ["python", "-m", "kagglekit.samples"]:
        assert command[3] in SAMPLES
    else:
        known = [["python", "-m", "kagglekit.run", "--summary"], ["source", ".venv/bin/activate"]]
        known += [["python", "-m", "tests.benchmarks.train_speed"], ["python", "-m", "tests.benchmarks.trick_cost"]]
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
    for name in tricks.__all__:
        assert name == "make_tricks" or f"| {name} |" in README


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
