"""The command `kagglekit`, as an installed program calls it."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import kagglekit
from kagglekit.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]


def test_the_program_of_the_project_and_its_version_are_those_of_the_library():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, name = project["scripts"]["kagglekit"].split(":")
    assert getattr(import_module(module), name) is main and project["version"] == kagglekit.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "kagglekit run 3_train work=runs/bbc run=base"),
        ([], 2, "kagglekit sample tweets data/tweets"),
        (["train"], 2, "kagglekit kaggle build"),
        (["run", "3_trian", "work=w"], 2, "no notebook '3_trian': did you mean 3_train"),
        (["run", "3_train", "work=w", "poling=max"], 2, "3_train has no parameter 'poling': did you mean pooling"),
        (["kaggle", "--help"], 0, "dry-run"),
    ],
)
def test_a_command_goes_to_its_module(capsys, arguments, code, words):
    assert main(arguments) == code
    told = capsys.readouterr()
    assert words in (told.err if code else told.out)


def test_every_command_has_a_help_of_its_own(capsys):
    for command in COMMANDS:
        if command != "kaggle":
            with pytest.raises(SystemExit):
                main([command, "--help"])
            assert "usage:" in capsys.readouterr().out


def test_installed_in_place_it_works_from_any_folder(tmp_path):
    """A link to the checkout, as `pip install -e .` makes one; results go where the command was typed."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "kagglekit.pth").write_text(f"{ROOT}\n")
    start = "import site, sys; site.addsitedir(sys.argv[1])\nfrom kagglekit.__main__ import main\n"
    start += "sys.exit(main(sys.argv[2:]))"
    line = [sys.executable, "-c", start, str(tmp_path / "site")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = dict(cwd=tmp_path, env=environment, capture_output=True, text=True)
    done = subprocess.run([*line, "sample", "tweets", "data", "--rows", "60"], **options)
    assert done.returncode == 0 and (tmp_path / "data" / "train.csv").is_file(), done.stderr
    done = subprocess.run([*line, "run", "1_eda", "data=data", "work=runs/t", "n_folds=2"], **options)
    assert done.returncode == 0 and (tmp_path / "runs" / "t" / "folds.parquet").is_file(), done.stderr
