import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from kagglekit.files import (
    check_space,
    delete_folder,
    read_json,
    remove,
    replacing,
    sweep,
    temporary_folder,
    write_json,
)


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize("place", ["write", "replace"])
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch, place):
    write_json(tmp_path / "a.json", {"value": "old"})
    monkeypatch.setattr(*{"write": (Path, "write_text"), "replace": (os, "replace")}[place], full)
    with pytest.raises(OSError, match=r"disk is full: .*a\.json was not written") as caught:
        write_json(tmp_path / "a.json", {"value": "new"})
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert read_json(tmp_path / "a.json") == {"value": "old"} and names(tmp_path) == ["a.json"]


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


def test_a_disk_without_room_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3_000_000_000))
    check_space(tmp_path / "not" / "yet", 2_999_999_999)
    with pytest.raises(OSError, match=r"3\.00 GB free and this needs about 4\.00 GB") as caught:
        check_space(tmp_path / "not" / "yet", 4_000_000_000)
    assert caught.value.errno == errno.ENOSPC and names(tmp_path) == []


HOLD = """
import sys, time
from pathlib import Path
from kagglekit.files import replacing, temporary_folder
with replacing(Path(sys.argv[1], "model")) as part, temporary_folder() as place:
    part.mkdir()
    (part / "half").write_text("x")
    print(place, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """holder(): a process that writes a folder `model`, and its temporary folder."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    started = []

    def start():
        line = [sys.executable, "-c", HOLD, str(tmp_path / "work")]
        started.append(subprocess.Popen(line, stdout=subprocess.PIPE, text=True))
        return started[-1], Path(started[-1].stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_killed_processes_left_is_removed_whatever_their_numbers_and_what_living_ones_write_stays(
    tmp_path, holder, monkeypatch
):
    work = tmp_path / "work"
    (process, place), (_, other) = holder(), holder()
    process.kill()
    process.wait()
    monkeypatch.setattr(os, "getpid", lambda: process.pid)  # a container that was started again
    assert len(names(work)) == 2 and place.is_dir()
    with replacing(work / "model") as part:
        assert not part.exists()
        part.mkdir()
        (part / "whole").write_text("x")
    with temporary_folder() as ours:
        assert sorted(ours.parent.iterdir()) == sorted([ours, other])
    (left,) = set(names(work)) - {"model"}
    assert names(work / "model") == ["whole"] and (work / left / "model" / "half").is_file()
    (work / "fold0").mkdir()
    os.rename(work / left, work / "fold0" / left)  # it holds its lock there too
    for name in (
        ".score.json.6bd2c06bd2c06bd2.part",
        ".model.123.part",
        ".film.part",
    ):  # of a dead one, of version 0.2, of others
        (work / "fold0" / name).mkdir()
    sweep(work)
    assert names(work / "fold0") == sorted([left, ".film.part"])


def test_a_temporary_folder_of_others_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "kagglekit-dry").mkdir()
    with temporary_folder() as place:
        (place / "x").write_text("x")
    assert names(tmp_path) == ["kagglekit-dry"]


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_its_folder_after(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append(Path(os.readlink(f"/proc/self/fd/{number}")).name))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append("replace"), replace(a, b)))
    write_json(tmp_path / "a.json", {})
    assert seen == ["a.json", "replace", tmp_path.name]
    seen.clear()
    with replacing(tmp_path / "model") as part:
        (part / "inside").mkdir(parents=True)
        (part / "inside" / "weights").write_text("x")
    assert sorted(seen[:3]) == ["inside", "model", "weights"] and seen[3:] == ["replace", tmp_path.name]


def test_a_disk_that_cannot_be_told_to_write_is_no_error_and_a_full_one_is(tmp_path, monkeypatch):
    def fails(number):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", lambda _: fails(errno.EINVAL))
    write_json(tmp_path / "a.json", {"value": 1})
    monkeypatch.setattr(os, "fsync", lambda _: fails(errno.ENOSPC))
    with pytest.raises(OSError, match="the disk is full"):
        write_json(tmp_path / "a.json", {"value": 2})
    assert read_json(tmp_path / "a.json") == {"value": 1}


def test_folders_of_others_and_links_are_not_deleted(tmp_path):
    mine, link = tmp_path / "mine", tmp_path / "link"
    for folder in (mine, tmp_path / "run"):
        folder.mkdir()
        (folder / "precious").write_text("x")
    (tmp_path / "run" / "params.json").write_text("{}")
    link.symlink_to(tmp_path / "run")
    for folder, why in ((mine, "has no params.json"), (link, "is a link")):
        with pytest.raises(ValueError, match=f"{folder} {why}"):
            delete_folder(folder, "params.json")
        with pytest.raises(ValueError, match=f"{folder} {why}"), replacing(folder, "params.json"):
            pass
    remove(link)
    assert names(tmp_path) == ["mine", "run"] and names(mine) == ["precious"]
    delete_folder(tmp_path / "run", "params.json")
    assert names(tmp_path) == ["mine"]
