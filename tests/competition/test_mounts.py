"""Inputs in the layouts of before and after 2026, and what is said when they are not there."""

import pytest

from kagglekit.competition import mounts
from kagglekit.competition.mounts import find_competition, find_marked, folders_below, is_below, show_inputs
from kagglekit.samples import find_data, write_sample

FILES = ("train.csv", "test.csv", "sample_submission.csv")


@pytest.fixture
def root(tmp_path, monkeypatch):
    place = tmp_path / "input"
    place.mkdir()
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(place))
    return place


def fill(folder, names=FILES):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("place", ["competitions/news", "news", "competitions/news/news", "news/data/csv", "c/news"])
@pytest.mark.parametrize("files", [FILES, FILES[:1]])
def test_a_competition_is_found_in_old_and_new_layouts_and_in_an_archives_folder(root, place, files):
    folder = fill(root / place)
    fill(root / "datasets" / "me" / "other", ["notes.txt"])
    assert find_competition("news", files) == find_competition("", files) == folder
    assert find_data("news", root) == folder if place != "c/news" else True


def test_the_competition_of_that_name_goes_before_a_data_set_with_the_same_files(root):
    fill(root / "datasets" / "me" / "news-copy")
    folder = fill(root / "competitions" / "news")
    assert find_competition("news", FILES) == folder
    with pytest.raises(FileNotFoundError, match=r"could be 2 of the inputs: .*news, .*news-copy\."):
        find_competition("other", FILES)


def test_a_missing_competition_is_an_error_that_shows_what_is_attached(root):
    fill(root / "datasets" / "me" / "wheels", ["a.whl"])
    with pytest.raises(FileNotFoundError) as raised:
        find_competition("news", FILES)
    shown = str(raised.value)
    assert "the competition 'news' with train.csv, test.csv, sample_submission.csv is not among the inputs" in shown
    assert f"{root / 'competitions' / 'news'} and {root / 'news'}" in shown and "competition_sources" in shown
    assert shown.endswith(f"{root} holds:\n  datasets/\n    me/\n      wheels/\n        1 file: a.whl")


def test_no_inputs_and_empty_inputs_are_told_apart(root):
    assert "is empty" in show_inputs()
    assert "does not exist" in show_inputs(root / "nowhere")
    with pytest.raises(FileNotFoundError, match="there are no inputs"):
        find_competition("news", root=root / "nowhere")


def test_the_tree_of_many_folders_and_files_stays_short(root):
    for number in range(12):
        fill(root / "datasets" / f"owner{number:02}" / "data", [f"{n}.csv" for n in range(20)])
    for depth in range(1, 20):
        (root / "/".join(["deep"] * depth)).mkdir()
    shown = show_inputs().splitlines()
    assert len(shown) < 50
    assert "        20 files: 0.csv, 1.csv, 10.csv, 11.csv, 12.csv, 13.csv, ..." in shown
    assert "    ... and 6 folders more" in shown


def test_marker_files_are_found_near_ones_first(root):
    for place in ("datasets/me/b", "a", "datasets/me/a", "competitions/news"):  # a competition holds none of ours
        fill(root / place, ["bundle.json"])
    found = [str(path.parent.relative_to(root)) for path in find_marked("bundle.json")]
    assert found == ["a", "datasets/me/a", "datasets/me/b"]
    assert find_marked("kernel.json") == []


def test_a_competition_with_very_many_folders_ends_the_search(root, monkeypatch):
    monkeypatch.setattr(mounts, "FOLDERS", 50)
    for number in range(30):
        for below in range(5):
            (root / "competitions" / "images" / f"{number:02}" / str(below)).mkdir(parents=True)
    looked_at = []
    monkeypatch.setattr(mounts, "_folders", lambda folder, real=mounts._folders: looked_at.append(1) or real(folder))
    assert len(list(folders_below(root))) < 250
    assert len(looked_at) == 50


def test_a_folder_full_of_files_is_not_searched_but_its_own_files_are_found(root, monkeypatch):
    monkeypatch.setattr(mounts, "ENTRIES", 20)
    folder = fill(root / "competitions" / "images", [*FILES, *(f"{number}.jpg" for number in range(21))])
    fill(root / "datasets" / "big", [f"{number}.jpg" for number in range(21)])
    fill(root / "datasets" / "big" / "below", ["bundle.json"])
    assert find_competition("images", FILES) == find_competition("", FILES) == folder
    assert find_marked("bundle.json") == []
    assert "more than 20 files: 0.jpg" in show_inputs()


def test_data_are_a_folder_else_a_mounted_competition_else_a_sample(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mounted = fill(root / "competitions" / "bbc" / "files", ["Train.csv", "test.csv.zip", "sample-submission.tsv"])
    assert find_data("bbc", tmp_path / "work") == mounted  # and not the sample of that name
    assert find_data(str(mounted), "w") == mounted
    mounted.parent.rename(root / "other")
    sample = find_data("drugs", tmp_path / "work")
    assert sample == write_sample("drugs", tmp_path / "work" / "data")
    with pytest.raises(FileNotFoundError, match="'spooky' is not among the inputs"):
        find_data("spooky", tmp_path / "work")
    fill(tmp_path / "spooky")
    assert find_data("spooky", "w") == tmp_path / "spooky"


def test_without_inputs_the_name_of_data_is_a_folder_as_it_always_was(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    assert find_data("spooky", "w") == tmp_path / "spooky"


def test_a_file_is_found_by_its_path_or_by_its_name_alone(tmp_path):
    (tmp_path / "img" / "more").mkdir(parents=True)
    (tmp_path / "img" / "more" / "a [1].JPG").touch()
    there = ["img/more/a [1].JPG", "a [1].JPG", "a [1]"]
    assert [name for name in [*there, "more/a [1].JPG", "a", "a [1].png", "a [1"] if is_below(tmp_path, name)] == there
