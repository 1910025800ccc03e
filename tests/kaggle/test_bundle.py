"""Bundles: what goes in comes out at its place, or an error says what is wrong with it."""

import pytest

from kagglekit.files import read_json, write_json
from kagglekit.kaggle.bundle import is_unpacked, pack, read_bundle, unpack
from kagglekit.kaggle.metadata import read_dataset_metadata

WEIGHTS = "0003-model.safetensors"


@pytest.fixture
def files(tmp_path):
    """Kernel path -> file at home, three files in three folders; the first is a link."""
    home = tmp_path / "home"
    home.mkdir()
    for name, text in (("real.json", "{}"), ("word list.tar.gz", "words"), ("model.safetensors", "weights" * 99)):
        (home / name).write_text(text)
    (home / "task.json").symlink_to(home / "real.json")
    return {
        "runs/bbc/task.json": home / "task.json",
        "inputs/words.tar.gz": home / "word list.tar.gz",
        "runs/bbc/base/fold0/model/model.safetensors": home / "model.safetensors",
    }


@pytest.fixture
def bundle(files, tmp_path):
    """The same, packed."""
    return pack(files, tmp_path / "bbc-inputs", "me/bbc-inputs", train={"name": "train.csv", "sha256": "0" * 64})


@pytest.fixture
def working(tmp_path):
    return tmp_path / "working"


def test_a_bundle_is_flat_lists_all_it_holds_and_costs_no_space_on_the_same_disk(bundle, files):
    assert all(file.is_file() and not file.is_symlink() for file in bundle.iterdir())
    told = read_bundle(bundle)
    assert told["train"]["name"] == "train.csv" and told["kagglekit"]
    assert [record["name"] for record in told["files"]] == ["0001-task.json", "0002-words.tar.gz.bin", WEIGHTS]
    assert read_dataset_metadata(bundle)["id"] == "me/bbc-inputs"
    assert not any(is_unpacked(file.name) for file in bundle.iterdir())
    assert (bundle / WEIGHTS).stat().st_ino == files[list(files)[2]].stat().st_ino


def test_what_is_packed_comes_out_at_its_place(bundle, files, working):
    links = unpack(bundle, working)
    assert [link.relative_to(working).as_posix() for link in links] == list(files)
    for link, file in zip(links, files.values(), strict=True):
        assert link.is_symlink() and not link.parent.is_symlink() and link.read_bytes() == file.read_bytes()
    assert unpack(bundle, working) == links


def test_a_real_file_that_is_there_stays_and_a_link_to_nowhere_is_made_again(bundle, working, tmp_path):
    place = working / "runs" / "bbc" / "task.json"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    assert place not in unpack(bundle, working) and place.read_text() == "mine"
    place.unlink()
    place.symlink_to(tmp_path / "gone")
    assert place in unpack(bundle, working) and place.read_text() == "{}"


def test_two_bundles_with_different_files_for_one_place_are_refused(bundle, working, tmp_path):
    (tmp_path / "other.json").write_text("{ }")
    second = pack({"runs/bbc/task.json": tmp_path / "other.json"}, tmp_path / "second-inputs", "me/second-inputs")
    unpack(bundle, working)
    with pytest.raises(ValueError, match=r"task\.json.*second-inputs has another file"):
        unpack(second, working)


def test_a_changed_file_is_found_before_anything_is_linked(bundle, working):
    weights = bundle / WEIGHTS
    text = weights.read_text()
    weights.unlink()
    weights.write_text(text[:-1] + "x")  # as long as before
    with pytest.raises(ValueError, match=rf"{WEIGHTS} has sha256.*push"):
        unpack(bundle, working)
    weights.write_text("short")
    with pytest.raises(ValueError, match="has bytes 5, and its record says 693"):
        unpack(bundle, working)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{WEIGHTS} is not there"):
        unpack(bundle, working)
    assert not working.exists()


def test_an_older_bundle_is_replaced_whole_or_not_at_all(bundle, files, tmp_path):
    before = sorted(file.name for file in bundle.iterdir())
    with pytest.raises(FileNotFoundError, match=r"gone.csv is not a file"):
        pack({**files, "inputs/gone.csv": tmp_path / "gone.csv"}, bundle, "me/bbc-inputs")
    assert sorted(file.name for file in bundle.iterdir()) == before
    pack(dict(list(files.items())[:1]), bundle, "me/bbc-inputs")
    assert len(read_bundle(bundle)["files"]) == 1 and len(list(bundle.iterdir())) == 3


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../x", "a//x", "", "~/x", "a\\x", "./x"])
def test_paths_that_leave_the_kernels_folder_are_refused_at_both_ends(bundle, working, tmp_path, path):
    with pytest.raises(ValueError, match="below the kernel's folder"):
        pack({path: tmp_path / "home" / "task.json"}, tmp_path / "bad-inputs", "me/bad-inputs")
    spoil(bundle, "path", path)
    with pytest.raises(ValueError, match="below the kernel's folder"):
        unpack(bundle, working)


def spoil(bundle, key, value):
    told = read_json(bundle / "bundle.json")
    told["files"][0][key] = value
    write_json(bundle / "bundle.json", told)


def test_a_file_that_is_also_a_folder_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match="runs/bbc is a file"):
        pack({**files, "runs/bbc": next(iter(files.values()))}, tmp_path / "bad-inputs", "me/bad-inputs")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("name", "../passwd", "plain file name"), ("bytes", "1", "files.0..bytes='1'"), ("name", WEIGHTS, "twice")],
)
def test_a_broken_list_of_files_is_named(bundle, key, value, words):
    spoil(bundle, key, value)
    with pytest.raises(ValueError, match=rf"bundle\.json: .*{words}"):
        read_bundle(bundle)
