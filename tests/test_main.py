"""The command `kagglekit`, as an installed program calls it."""

import contextlib
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import kagglekit
from kagglekit.__main__ import COMMANDS, main
from kagglekit.kaggle.__main__ import COMMANDS as KAGGLE
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters

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
        (["rnu"], 2, "has no command 'rnu': did you mean run?\n"),
        (["train"], 2, "has no command 'train'; there are run, "),
        (["kaggle", "biuld"], 2, "has no command 'biuld': did you mean build?\n"),
        (["kaggle", "budget", "--wrk", "w", "--work", "w"], 2, "unrecognized arguments: --wrk: did you mean --work?\n"),
        (["run", "3_train", "--forse"], 2, "unrecognized arguments: --forse: did you mean --force?\n"),
        (["run", "3_train", "--epochs", "3"], 2, "--epochs 3: parameters are written name=value, without dashes\n"),
        (["run", "3_train", "--limit", "abc"], 2, "argument --limit: invalid float value: 'abc' (see "),
        (["sample", "twets", "d"], 1, "'twets' is no sample: did you mean tweets?\n"),
        (["run", "3_trian", "work=w"], 2, "no notebook '3_trian': did you mean 3_train"),
        (["run", "3_train", "work=w", "poling=max"], 2, "3_train has no parameter 'poling': did you mean pooling"),
        (["kaggle", "--help"], 0, "dry-run"),
    ],
)
def test_a_command_goes_to_its_module(capsys, arguments, code, words):
    try:
        assert main(arguments) == code
    except SystemExit as error:  # of argparse
        assert error.code == code
    told = capsys.readouterr()
    assert words in (told.err if code else told.out) and (not code or not told.out)


EVERY = [[], *([name] for name in COMMANDS), *(["kaggle", name] for name in KAGGLE)]
EVERY += [["run", name] for name in ("1_eda", "2_pretrain", "3_train", "4_ensemble", "5_submit")]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_command_has_a_help_of_its_own_within_80_columns(capsys, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        main([*words, "--help"])
    told = capsys.readouterr().out
    assert len(told.splitlines()) > 4 and max(map(len, told.splitlines())) < 80


def test_the_help_of_a_notebook_has_every_parameter_with_its_default_and_words_below_a_heading(capsys):
    main(["run", "3_train", "--help"])
    told = capsys.readouterr().out
    groups = dict(re.findall(r"^(\w+)\n((?:  .+\n?)+)", told, re.M))
    assert list(groups) == ["run", "text", "model", "training"]
    known = read_parameters(find_notebook("3_train"))
    assert sorted(re.findall(r"^  (\w+)=", told, re.M)) == sorted(known.keys() - {"recipe"})
    for heading, line in (
        ("run", '  start=""                run to begin from'),
        ("text", "  chunk_stride=32         tokens that a chunk repeats"),
        ("model", "  loss={}                 empty: cross-entropy"),
        ("training", "  learning_rate=none      of the topmost layer"),
    ):
        assert line in groups[heading]


def test_the_help_of_a_notebook_loads_neither_torch_nor_pandas():
    line = "from kagglekit.__main__ import main; import sys; main(['run', '3_train', '--help'])"
    line += "; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True).returncode == 0


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
