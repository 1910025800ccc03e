"""Copies of the notebooks for JupyterLab: what is tried there changes nothing that runs in batch."""

import json
import sys
from pathlib import Path

import pytest

from kagglekit.running import lab
from kagglekit.running.lab import main, make_copies
from kagglekit.running.notebook import LAB, notebook_folder, tell_changed_defaults
from kagglekit.running.parameters import read_notebook, read_parameters

NAMES = [path.name for path in sorted(notebook_folder().glob("*.ipynb"))]


def save(notebook, **values):
    """Save a notebook as JupyterLab does, with other literals in its parameter cell."""
    content = read_notebook(notebook)
    lab.fill_in(content, values)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False))


def test_the_copies_name_the_data_and_the_work_folder_and_nothing_else_differs(tmp_path, capsys):
    data, work = tmp_path / 'a "b"', tmp_path / "runs" / "a"
    data.mkdir()
    folder = make_copies(str(data), work)
    assert folder == work / "notebooks" / "lab" and [path.name for path in sorted(folder.glob("*"))] == NAMES
    for name in NAMES:
        ours, copy = (read_parameters(where / name) for where in (notebook_folder(), folder))
        differ = {key: one.default for key, one in copy.items() if one.default != ours[key].default}
        assert differ == ({"data": str(data)} if name == "1_eda.ipynb" else {}) | {"work": str(work)}
        assert [str(one) for key, one in copy.items() if key not in differ] == [
            str(one) for key, one in ours.items() if key not in differ
        ]
        assert copy["work"].comment == ours["work"].comment
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_what_is_tried_in_a_copy_stays_and_reaches_no_batch_run(tmp_path, capsys):
    shipped = [(notebook_folder() / name).read_bytes() for name in NAMES]
    folder = make_copies("bbc", tmp_path)
    save(folder / "3_train.ipynb", epochs="tried")
    make_copies("bbc", tmp_path)
    assert read_parameters_of(folder / "3_train.ipynb")["epochs"] == '"tried"'
    assert [(notebook_folder() / name).read_bytes() for name in NAMES] == shipped
    assert "kagglekit's own is another" not in capsys.readouterr().out


def read_parameters_of(notebook):
    """name -> literal, also where its type is wrong."""
    (cell,) = lab.parameter_cells(read_notebook(notebook))
    lines = [line.split(" = ") for line in "".join(cell["source"]).splitlines() if " = " in line]
    return {name.split(":")[0]: value.split("  #")[0] for name, value in lines}


def test_a_copy_of_an_older_notebook_and_other_data_are_told(tmp_path, capsys, monkeypatch):
    folder = make_copies("bbc", tmp_path / "work")
    newer = tmp_path / "newer"
    newer.mkdir()
    for name in NAMES:
        text = (notebook_folder() / name).read_text()
        (newer / name).write_text(text.replace("# 4 · ", "# 4: "))
    monkeypatch.setattr(lab, "notebook_folder", lambda: newer)
    capsys.readouterr()
    make_copies("tweets", tmp_path / "work")
    told = capsys.readouterr().out.splitlines()[1:]
    assert len(told) == 2 and "1_eda.ipynb: its data is 'bbc'" in told[0] and "4_ensemble.ipynb: kagg" in told[1]
    (folder / "4_ensemble.ipynb").unlink()
    make_copies("bbc", tmp_path / "work")
    assert len(capsys.readouterr().out.splitlines()) == 1 and "# 4: " in (folder / "4_ensemble.ipynb").read_text()


def test_a_shipped_notebook_that_was_changed_is_told_before_it_runs(tmp_path, capsys):
    own = tmp_path / "3_train.ipynb"
    own.write_bytes((notebook_folder() / own.name).read_bytes())
    tell_changed_defaults(own, read_parameters(own), "3_train base")
    assert capsys.readouterr().out == ""
    text = own.read_text().replace("folds: list[int] = []", "folds: list[int] = [0]")
    own.write_text(text)
    tell_changed_defaults(own, read_parameters(own), "3_train base")
    assert "folds=[0] (kagglekit: [])" in capsys.readouterr().out
    copy = make_copies("tweets", tmp_path / "w") / "1_eda.ipynb"
    assert copy.parent.name == LAB
    capsys.readouterr()
    tell_changed_defaults(copy, read_parameters(copy), "1_eda")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("hidden", [False, True])
def test_jupyter_opens_the_copy_of_1_eda_below_a_folder_that_it_can_show(tmp_path, monkeypatch, hidden):
    monkeypatch.chdir(tmp_path)
    begun = []
    monkeypatch.setattr(lab.os, "execve", lambda *arguments: begun.append(arguments))
    runs = tmp_path / (".runs" if hidden else "runs")
    main(["bbc", f"work={runs / 'my bbc'}", "--no-browser", "--port", "8889"])
    ((program, command, environment),) = begun
    root = runs / "my bbc" if hidden else tmp_path
    page = "notebooks/lab/1_eda.ipynb" if hidden else "runs/my%20bbc/notebooks/lab/1_eda.ipynb"
    assert program == sys.executable and command[1:4] == ["-m", "jupyter", "lab"]
    assert command[4:] == [
        f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{page}", "--no-browser", "--port", "8889"
    ]  # fmt: skip
    assert str(Path(lab.__file__).parents[2]) in environment["PYTHONPATH"].split(":")


@pytest.mark.parametrize(
    ("words", "data", "work", "rest"),
    [
        (["--port", "8889"], "bbc", "runs/bbc", ["--port", "8889"]),
        (["tweets", "--port", "8889", "work=w"], "tweets", "w", ["--port", "8889"]),
        (["work=w", "--no-browser"], "bbc", "w", ["--no-browser"]),
        (["tweets", "runs/w"], "tweets", "runs/w", []),
    ],
)
def test_options_are_those_of_jupyter_wherever_work_stands(monkeypatch, words, data, work, rest):
    seen = []
    monkeypatch.setattr(lab, "make_copies", lambda *given: seen.extend(given))
    monkeypatch.setattr(lab, "open_lab", lambda folder, options: seen.append(options))
    main(words)
    assert seen == [data, work, rest]


@pytest.mark.parametrize("words", [["nowhere"], ["nowhere", "work=w"], ["./tweets"]])
def test_a_folder_that_is_not_there_is_told_and_nothing_is_made(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert f"there is no folder {words[0]}; the samples are bbc" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
