import errno
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from kagglekit.files import check_space, fold_folders, hash_files, read_json, replacing, resolve, run_folder, write_json


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


def test_a_file_appears_whole_in_a_folder_made_for_it(tmp_path):
    with replacing(tmp_path / "a" / "b.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert names(tmp_path / "a") == ["b.txt"]


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    for text in ("old", "new"):
        with replacing(tmp_path / "model") as part:
            part.mkdir()
            (part / text).write_text(text)
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["new"]


def test_nothing_changes_after_an_exception(tmp_path):
    write_json(tmp_path / "a.json", {"value": "old"})
    with pytest.raises(KeyError), replacing(tmp_path / "a.json") as part:
        part.write_text("{")
        raise KeyError
    assert read_json(tmp_path / "a.json") == {"value": "old"} and names(tmp_path) == ["a.json"]


def test_json_keeps_its_values_and_scripts(tmp_path):
    value = {"text": "שלום 😀", "numbers": [1, 2.5, None], "no": False}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "שלום 😀" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["write", "replace"])
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch, place):
    write_json(tmp_path / "a.json", "old")
    monkeypatch.setattr(*{"write": (Path, "write_text"), "replace": (os, "replace")}[place], full)
    with pytest.raises(OSError, match=r"disk is full: .*a\.json was not written") as caught:
        write_json(tmp_path / "a.json", "new")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert read_json(tmp_path / "a.json") == "old" and names(tmp_path) == ["a.json"]


def test_a_disk_that_is_full_for_a_folder_of_weights_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="model was not written"), replacing(tmp_path / "model") as part:
        part.mkdir()
        save_file({"w": torch.zeros(3)}, part / "model.safetensors")
    assert names(tmp_path) == []


def test_a_full_disk_that_safetensors_reports_in_its_own_words_is_named_too(tmp_path):
    with pytest.raises(OSError, match="the disk is full"), replacing(tmp_path / "model"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_other_errors_stay_as_they_are(tmp_path):
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "a") as part:
        part.mkdir()
        part.write_text("x")
    assert names(tmp_path) == []


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


def test_the_hash_of_files_depends_on_names_contents_and_order(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    for path, text in ((a, "x"), (b, "y"), (c, "x")):
        path.write_text(text)
    assert hash_files([a, b]) == hash_files([a, b])
    assert len({hash_files([a, b]), hash_files([b, a]), hash_files([c, b]), hash_files([a])}) == 4


def test_a_disk_without_room_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3_000_000_000))
    check_space(tmp_path / "not" / "yet", 2_999_999_999)
    with pytest.raises(OSError, match=r"3\.00 GB free and this needs about 4\.00 GB") as caught:
        check_space(tmp_path / "not" / "yet", 4_000_000_000)
    assert caught.value.errno == errno.ENOSPC and names(tmp_path) == []


def test_what_a_killed_process_left_behind_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".model.{dead.pid}.part").mkdir()
    (tmp_path / f".model.{dead.pid}.part" / "half").write_text("x")
    living = tmp_path / f".model.{os.getppid()}.part"
    living.write_text("x")
    with replacing(tmp_path / "model") as part:
        part.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "model"]
