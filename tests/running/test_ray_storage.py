"""Checkpoints in storage: whole or not at all, the damaged ones named. No Ray is needed."""

import time
from pathlib import Path

import pytest

from kagglekit.running.on_ray import storage as ray_storage
from kagglekit.running.on_ray.storage import Keeper, Storage, copy_state, state_files


@pytest.fixture
def storage(tmp_path):
    found = Storage(f"file://{tmp_path}/shared", "base-1")
    found.claim({"run": "base"})
    return found


def write_run(folder, step, complete=True):
    """A run that is trained, with a checkpoint of this step."""
    place = folder / f"fold0/checkpoints/checkpoint-{step}"
    place.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text("{}")
    (place / "model.safetensors").write_bytes(bytes([step]) * 999)
    if complete:
        (place / "complete").write_text("{}")
    return folder


def states(storage):
    return sorted(Path(storage.root, "fold0").glob("*.json"))


def test_the_newest_state_comes_back_and_the_one_before_it_is_kept(storage, tmp_path):
    for step in (1, 2, 3):
        storage.save("fold0", write_run(tmp_path / f"run{step}", step))
    assert [file.name[:6] for file in states(storage)] == ["000002", "000003"]
    state, damaged = storage.load("fold0", tmp_path / "back")
    assert state.startswith("000003") and damaged == []
    assert state_files(tmp_path / "back") == state_files(tmp_path / "run3")
    for name in state_files(tmp_path / "back"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "run3" / name).read_bytes()
    assert storage.load("fold1", tmp_path / "none") == ("", []) and storage.is_shared()
    storage.drop("fold0")
    storage.drop("fold0")
    assert storage.load("fold0", tmp_path / "none") == ("", []) and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("a file is cut", "fold0/checkpoints/checkpoint-2/model.safetensors"),
        ("a file is gone", "params.json"),
        ("a file is more", "more"),
        ("the list is cut", "its list: "),
        ("the list is another", "its list: "),
    ],
)
def test_a_damaged_state_is_named_and_the_one_before_it_is_taken(storage, tmp_path, what, why):
    for step in (1, 2):
        storage.save("fold0", write_run(tmp_path / f"run{step}", step))
    listed = states(storage)[-1]
    place = listed.with_suffix("")
    match what:
        case "a file is cut":
            (place / "fold0/checkpoints/checkpoint-2/model.safetensors").write_bytes(b"\2" * 998)
        case "a file is gone":
            (place / "params.json").unlink()
        case "a file is more":
            (place / "more").touch()
        case "the list is cut":
            listed.write_text(listed.read_text()[:-20])
        case "the list is another":
            listed.write_text(listed.read_text().replace("params", "parans"))
    state, damaged = storage.load("fold0", tmp_path / "back")
    assert state.startswith("000001") and (tmp_path / "back/fold0/checkpoints/checkpoint-1").is_dir()
    assert len(damaged) == 1 and f"base-1/fold0/{place.name} is damaged ({why}" in damaged[0]
    states(storage)[0].with_suffix("").joinpath("params.json").write_text("no")
    state, damaged = storage.load("fold0", tmp_path / "again")
    assert state == "" and len(damaged) == 2 and not (tmp_path / "again").exists()


def test_what_was_not_written_to_its_end_does_not_count(storage, tmp_path, monkeypatch):
    storage.save("fold0", write_run(tmp_path / "run1", 1))
    monkeypatch.setattr(ray_storage, "write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        storage.save("fold0", write_run(tmp_path / "run2", 2))
    assert len(list(Path(storage.root, "fold0").iterdir())) == 3
    assert storage.load("fold0", tmp_path / "back")[0].startswith("000001")


def test_storage_that_cannot_be_used_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"storage='.*file/below' cannot be written: ") as wrong:
        Storage(f"{tmp_path}/file/below", "base").claim({})
    assert "\n" not in str(wrong.value)
    with pytest.raises(ValueError, match="storage='ftp://there/x' cannot be opened: "):
        Storage("ftp://there/x", "base")
    alone = Storage("mock:///runs", "base")  # in the memory of one process, and of one call
    alone.claim({})
    assert alone.is_shared() and not Storage("mock:///runs", "base").is_shared()


def test_a_state_is_of_one_moment_without_what_is_half_written(tmp_path, monkeypatch):
    run = write_run(write_run(tmp_path / "run", 1), 2, complete=False)
    (run / ".fold0.part").touch()
    assert copy_state(run, tmp_path / "copy")
    assert state_files(tmp_path / "copy") == [
        "fold0/checkpoints/checkpoint-1/complete",
        "fold0/checkpoints/checkpoint-1/model.safetensors",
        "params.json",
    ]
    copyfile = ray_storage.shutil.copyfile

    def meanwhile(source, target):
        write_run(run, 3)
        copyfile(source, target)

    monkeypatch.setattr(ray_storage.shutil, "copyfile", meanwhile)
    assert not copy_state(run, tmp_path / "other")


def test_each_checkpoint_and_table_is_kept_while_training_goes_on(storage, tmp_path):
    run = write_run(tmp_path / "run", 1)
    with Keeper(storage, "fold0", run) as keeper:
        assert states(storage) == []  # it came from there, or from home
        write_run(run, 2)
        end = time.monotonic() + 20
        while not states(storage) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(states(storage)) == 1
        (run / "fold0/oof.parquet").touch()
    assert len(states(storage)) == 2 and keeper.problem == ""
    storage.load("fold0", tmp_path / "back")
    assert (tmp_path / "back/fold0/oof.parquet").is_file()
    with pytest.raises(KeyboardInterrupt), Keeper(storage, "fold0", run):
        write_run(run, 3)
        raise KeyboardInterrupt
    storage.drop()
    Path(storage.root).touch()  # the storage fails: training goes on
    with Keeper(storage, "fold0", run) as keeper:
        write_run(run, 4)
    assert keeper.problem
