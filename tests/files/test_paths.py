from pathlib import Path

import pytest

from kagglekit.files import fold_folders, resolve, run_folder


def test_a_relative_path_means_the_same_in_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "kagglekit").mkdir()
    monkeypatch.chdir(tmp_path)
    above = resolve("runs/bbc")
    monkeypatch.chdir(tmp_path / "notebooks")
    assert resolve("runs/bbc") == above == (tmp_path / "runs" / "bbc").resolve()
    assert resolve(tmp_path) == tmp_path.resolve()
    assert resolve("~/x") == Path.home().resolve() / "x"


def test_a_folder_called_notebooks_elsewhere_is_a_folder_like_any_other(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert resolve("runs") == (tmp_path / "notebooks" / "runs").resolve()


@pytest.mark.parametrize("run", ["base", "bge-2.v1", "MLM", "0"])
def test_a_run_is_a_folder_in_the_work_folder(tmp_path, run):
    assert run_folder(tmp_path, run) == tmp_path.resolve() / run


@pytest.mark.parametrize("run", ["", "..", "a/b", ".hidden", "-x", "data", "notebooks", "tokens", "fold0", "a b"])
def test_a_name_that_cannot_be_a_run_is_an_error(tmp_path, run):
    with pytest.raises(ValueError, match="cannot name a run"):
        run_folder(tmp_path, run)


def test_only_folds_with_both_tables_are_finished(tmp_path):
    for name, files in {
        "fold10": ["oof", "test"],
        "fold2": ["oof", "test"],
        "fold3": ["test"],
        "folds": ["oof"],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / f"{file}.parquet").touch()
    assert fold_folders(tmp_path) == {2: tmp_path / "fold2", 10: tmp_path / "fold10"}
    assert fold_folders(tmp_path / "none") == {}
