import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from folders import write_wheel

import kagglekit.kaggle.wheels
from kagglekit.files import read_json
from kagglekit.kaggle.cells import install_cell
from kagglekit.kaggle.metadata import read_dataset_metadata
from kagglekit.kaggle.wheels import build_wheel, needs, read_pins, wheels_folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The real wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_the_notebooks_and_tells_its_commit(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
        dates = {entry.date_time for entry in archive.infolist()}
    assert {f"kagglekit/notebooks/{path.name}" for path in Path("notebooks").glob("*.ipynb")} <= {*names}
    assert "kagglekit/commit.txt" in names and not [name for name in names if "tests" in name or ".pyc" in name]
    assert len(dates) == 1  # that of the commit
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    told = subprocess.run(
        [sys.executable, "-c", "from kagglekit.runs.environment import commit; print(commit())"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    ).stdout.strip()  # fmt: skip
    assert told.removesuffix("-dirty") == head


def test_outside_of_a_checkout_no_wheel_is_built_and_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(kagglekit.kaggle.wheels, "HOME", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is no checkout of kagglekit.*lacks kagglekit, notebooks"):
        build_wheel(tmp_path / "wheels")
    assert not (tmp_path / "wheels").exists()


def test_the_data_set_has_pure_wheels_once_compiled_ones_for_each_python_and_what_they_need(wheel, tmp_path):
    links = tmp_path / "links"
    write_wheel(links, "datasketch", "2.0.0", needs=["numpy>=1", "leftpad", "redis; extra == 'redis'"])
    write_wheel(links, "datasketch", "9.0")  # requirements.txt pins 2.0.0
    write_wheel(links, "leftpad", needs=["numpy"])
    for python in ("311", "312", "313"):
        write_wheel(links, "compiled", tag=f"cp{python}-cp{python}-manylinux_2_17_x86_64")
    folder = wheels_folder(tmp_path / "w", "me", ["datasketch", "compiled"], ("3.12", "3.13"), links)
    told = read_json(folder / "wheels.json")
    assert [name for name in told if not name.startswith("kagglekit-")] == [
        "compiled-1.0-cp312-cp312-manylinux_2_17_x86_64.whl",
        "compiled-1.0-cp313-cp313-manylinux_2_17_x86_64.whl",
        "datasketch-2.0.0-py3-none-any.whl",
        "leftpad-1.0-py3-none-any.whl",
    ]
    for name, record in told.items():
        content = (folder / name).read_bytes()
        expected = {"version": name.split("-")[1], "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        assert record == expected
    assert (folder / wheel.name).read_bytes() == wheel.read_bytes()  # the same files give the same bytes
    assert {path.name for path in folder.iterdir()} == {*told, "wheels.json", "dataset-metadata.json"}
    assert read_dataset_metadata(folder)["id"] == "me/kagglekit-wheels"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RuntimeError, match=r"pip download failed:(.|\n)*nowhere"):
        wheels_folder(folder, "me", ["nowhere"], ("3.12",), links)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if "part" in path.name] == []


def test_needs_leave_out_extras_and_other_systems_and_pins_are_read_by_their_plain_names(tmp_path):
    lines = ["Foo_Bar>=2", "old; python_version < '3.12'", "win; sys_platform == 'win32'", "x; extra == 'all'"]
    wheel = write_wheel(tmp_path, "thing", needs=lines)
    assert [*needs(wheel, "3.11")] == ["Foo_Bar", "old"] and [*needs(wheel, "3.12")] == ["Foo_Bar"]
    (tmp_path / "r.txt").write_text("Open_CC==1.4.2  # why\nloose>=1\n\n# a comment\n")
    assert read_pins(tmp_path / "r.txt") == {"open-cc": "==1.4.2"} and read_pins(tmp_path / "none.txt") == {}


def test_the_first_cell_says_what_is_attached_when_the_wheels_are_not(tmp_path):
    (tmp_path / "input" / "competitions" / "bbc").mkdir(parents=True)
    source = install_cell("me/kagglekit-wheels", internet=True).source
    environment = {**os.environ, "KAGGLEKIT_INPUTS": str(tmp_path / "input"), "PIP_NO_INDEX": "1"}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1 and "attach the data set me/kagglekit-wheels" in done.stderr
    assert f"{tmp_path}/input/competitions/bbc" in done.stderr and "HF_HUB_OFFLINE" not in source
