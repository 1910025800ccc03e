"""Bundles: what goes in comes out at its place, or an error says what is wrong with it."""

import os
from pathlib import Path

import pytest

from kagglekit.files import read_json, write_json
from kagglekit.kaggle.bundle import is_unpacked, pack, read_bundle, unpack
from kagglekit.kaggle.metadata import read_dataset_metadata


@pytest.fixture
def files(tmp_path):
    """Kernel path -> file at home, three files in three folders."""
    home = tmp_path / "home"
    home.mkdir()
    for name, text in (("task.json", "{}"), ("word list.tar.gz", "words"), ("model.safetensors", "weights" * 99)):
        (home / name).write_text(text)
    return {
        "runs/bbc/task.json": home / "task.json",
        "inputs/words.tar.gz": home / "word list.tar.gz",
        "runs/bbc/base/fold0/model/model.safetensors": home / "model.safetensors",
    }


@pytest.fixture
def bundle(files, tmp_path):
    """The same, packed."""
    return pack(files, tmp_path / "bbc-inputs", "me/bbc-inputs", train={"name": "train.csv", "sha256": "0" * 64})


def test_a_bundle_is_flat_and_tells_all_it_holds(bundle):
    assert all(file.is_file() for file in bundle.iterdir())
    told = read_bundle(bundle)
    assert told["train"]["name"] == "train.csv" and told["kagglekit"]
    assert [record["name"] for record in told["files"]] == [
        "0001-task.json",
        "0002-words.tar.gz.bin",
        "0003-model.safetensors",
    ]
    assert read_dataset_metadata(bundle)["id"] == "me/bbc-inputs"
    assert not any(is_unpacked(file.name) for file in bundle.iterdir())


def test_what_is_packed_comes_out_at_its_place(bundle, files, tmp_path):
    links = unpack(bundle, tmp_path / "working")
    assert [link.relative_to(tmp_path / "working").as_posix() for link in links] == list(files)
    for link, file in zip(links, files.values(), strict=True):
        assert link.is_symlink() and not link.parent.is_symlink() and link.read_bytes() == file.read_bytes()
    assert unpack(bundle, tmp_path / "working") == links


def test_a_packed_file_costs_no_space_on_the_same_disk(bundle, files):
    assert (bundle / "0003-model.safetensors").stat().st_ino == files[list(files)[2]].stat().st_ino


def test_a_real_file_that_is_there_stays(bundle, tmp_path):
    mine = tmp_path / "working" / "runs" / "bbc" / "task.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert mine not in unpack(bundle, tmp_path / "working") and mine.read_text() == "mine"


def test_a_link_to_nowhere_is_made_anew(bundle, tmp_path):
    link = tmp_path / "working" / "runs" / "bbc" / "task.json"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "gone")
    assert link in unpack(bundle, tmp_path / "working") and link.read_text() == "{}"


def test_two_bundles_with_different_files_for_one_place_are_refused(bundle, files, tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{ }")
    second = pack({"runs/bbc/task.json": other}, tmp_path / "second-inputs", "me/second-inputs")
    unpack(bundle, tmp_path / "working")
    with pytest.raises(ValueError, match=r"task\.json.*second-inputs has another file"):
        unpack(second, tmp_path / "working")


def test_a_changed_file_is_found_before_anything_is_linked(bundle, tmp_path):
    weights = bundle / "0003-model.safetensors"
    text = weights.read_text()
    weights.unlink()
    weights.write_text(text[:-1] + "x")  # as long as before
    with pytest.raises(ValueError, match=r"0003-model.safetensors has sha256.*push"):
        unpack(bundle, tmp_path / "working")
    weights.write_text("short")
    with pytest.raises(ValueError, match="has bytes 5, and its record says 693"):
        unpack(bundle, tmp_path / "working")
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"0003-model.safetensors is not there"):
        unpack(bundle, tmp_path / "working")
    assert not (tmp_path / "working").exists()


def test_an_older_bundle_is_replaced_whole_or_not_at_all(bundle, files, tmp_path):
    before = sorted(file.name for file in bundle.iterdir())
    with pytest.raises(FileNotFoundError, match=r"gone.csv is not a file"):
        pack({**files, "inputs/gone.csv": tmp_path / "gone.csv"}, bundle, "me/bbc-inputs")
    assert sorted(file.name for file in bundle.iterdir()) == before
    pack(dict(list(files.items())[:1]), bundle, "me/bbc-inputs")
    assert len(read_bundle(bundle)["files"]) == 1 and len(list(bundle.iterdir())) == 3


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../x", "a//x", "", "~/x", "a\\x", "./x"])
def test_paths_that_leave_the_kernels_folder_are_refused_at_both_ends(bundle, tmp_path, path):
    file = tmp_path / "home" / "task.json"
    with pytest.raises(ValueError, match="below the kernel's folder"):
        pack({path: file}, tmp_path / "bad-inputs", "me/bad-inputs")
    told = read_json(bundle / "bundle.json")
    told["files"][0]["path"] = path
    write_json(bundle / "bundle.json", told)
    with pytest.raises(ValueError, match="below the kernel's folder"):
        unpack(bundle, tmp_path / "working")


def test_a_file_that_is_also_a_folder_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match="runs/bbc is a file"):
        pack({**files, "runs/bbc": next(iter(files.values()))}, tmp_path / "bad-inputs", "me/bad-inputs")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "../passwd", "plain file name"),
        ("bytes", "1", "files.0..bytes='1'"),
        ("name", "0003-model.safetensors", "twice"),
    ],
)
def test_a_broken_list_of_files_is_named(bundle, key, value, words):
    told = read_json(bundle / "bundle.json")
    told["files"][0][key] = value
    write_json(bundle / "bundle.json", told)
    with pytest.raises(ValueError, match=rf"bundle\.json: .*{words}"):
        read_bundle(bundle)


def test_a_link_is_packed_as_the_file_it_leads_to(tmp_path):
    (tmp_path / "real.txt").write_text("text")
    os.symlink(tmp_path / "real.txt", tmp_path / "link.txt")
    bundle = pack({"inputs/a.txt": Path(tmp_path / "link.txt")}, tmp_path / "some-inputs", "me/some-inputs")
    assert not (bundle / "0001-a.txt").is_symlink() and (bundle / "0001-a.txt").read_text() == "text"
