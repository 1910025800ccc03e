"""A competition's files are downloaded whole, or it is said what to do."""

import shutil

import pytest
from folders import write_competition

from kagglekit.kaggle import __main__ as command_line
from kagglekit.kaggle.bundle import show_size
from kagglekit.kaggle.client import KaggleError
from kagglekit.kaggle.competition import MARK, describe_files, download, find_slug, submit_command

NAME = "feedback-prize-small"


@pytest.fixture
def data(server):
    """A competition on the small Kaggle whose rules were accepted; the folder of its files there."""
    place = server.root / "data" / NAME
    write_competition(place, [f"r{n}" for n in range(6)], ("bad", "good"), ["t1", "t2"], "bad")
    (place / "more").mkdir()
    (place / "more" / "notes.txt").write_text("notes")
    server.competitions[NAME] = (None, lambda file: "0.5")
    server.joined.add(NAME)
    return place


def listed(place):
    files = [path for path in place.rglob("*") if path.is_file() and path.name != MARK]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def test_the_files_come_unpacked_and_once_and_the_next_command_is_named(
    server, environment, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["download", f"https://www.kaggle.com/competitions/{NAME}/overview"]) == 0
    place = tmp_path / "data" / NAME
    assert listed(place) == listed(data) and len(listed(data)) == 4
    assert f"--competition {NAME} " in submit_command(tmp_path / "submission.csv", "first", place)
    told = capsys.readouterr().out
    assert f"downloading {NAME}: 4 files, {show_size(sum(map(len, listed(data).values())))}" in told
    assert f"data/{NAME}: train is train.csv, test is test.csv, sample submission is sample_submission.csv" in told
    assert told.splitlines()[-1].startswith(f"next: ./run_all.sh data/{NAME} ")
    calls = server.calls.count("DownloadDataFiles")
    assert command_line.main(["download", NAME]) == 0 and server.calls.count("DownloadDataFiles") == calls == 1
    assert "has all of its files already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["train.csv", "train.zip", "deep/train.csv"])
def test_a_single_file_comes_as_it_is(name, server, client, data, tmp_path):
    shutil.rmtree(data / "more")
    for path in (data / "test.csv", data / "sample_submission.csv"):
        path.unlink()
    if name == "train.zip":
        shutil.make_archive(str(tmp_path / "train"), "zip", data, "train.csv")
        (data / "train.csv").unlink()
        shutil.move(tmp_path / name, data / name)
    elif name != "train.csv":
        (data / "deep").mkdir()
        shutil.move(data / "train.csv", data / name)
    place = download(NAME, tmp_path / "one", api=client)
    assert listed(place) == listed(data) and list(listed(place)) == [name]
    assert describe_files(place).startswith("CAUTION: ") and "test" in describe_files(place)


def test_rules_that_are_not_accepted_and_unknown_names_are_told_with_what_to_do(server, client, data, tmp_path):
    server.joined.clear()
    with pytest.raises(
        KaggleError, match=f"accept its rules at https://www.kaggle.com/competitions/{NAME}/rules, once"
    ):
        download(NAME, tmp_path / "one", api=client)
    with pytest.raises(KaggleError, match=rf"no competition 'feedback-prise-small': did you mean {NAME}\?$"):
        download("feedback-prise-small", tmp_path / "one", api=client)
    with pytest.raises(KaggleError, match="no competition 'zzz': take its name from the address of its page"):
        download("zzz", tmp_path / "one", api=client)
    assert not (tmp_path / "one").exists()


def test_what_breaks_off_leaves_nothing_and_other_files_stay(server, client, data, tmp_path, monkeypatch):
    monkeypatch.setattr("kagglekit.kaggle.client.time.sleep", lambda seconds: None)
    server.fail("DownloadDataFiles", 500, times=3)  # it is asked again
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files: name another folder"):
        download(NAME, tmp_path / "mine", api=client)
    assert listed(download(NAME, tmp_path / "one", api=client)) == listed(data)
    server.answer("ListDataFiles", files=[{"name": "gone.csv", "totalBytes": 3}], nextPageToken="")
    with pytest.raises(KaggleError, match=r"'gone\.csv' did not come"):
        download(NAME, tmp_path / "two", api=client)
    for name in "../gone.csv", "/gone.csv":
        server.answer("ListDataFiles", files=[{"name": name, "totalBytes": 3}], nextPageToken="")
        with pytest.raises(KaggleError, match="outside of its folder"):
            download(NAME, tmp_path / "two", api=client)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["mine", "one"]
    assert listed(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_without_a_credential_it_says_where_to_put_one(environment, monkeypatch, capsys):
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    assert command_line.main(["download", NAME]) != 0
    assert "there is no credential of Kaggle here: make a new token at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "name"),
    [("bbc", "bbc"), ("c/BBC-news", "bbc-news"), ("https://www.kaggle.com/c/bbc?x=1", "bbc"), ("a/b", ""), ("", "")],
)
def test_a_competition_is_named_by_its_name_or_its_address(text, name):
    if name:
        assert find_slug(text) == name
    else:
        with pytest.raises(ValueError, match="is no name of a competition: take it from the address"):
            find_slug(text)
