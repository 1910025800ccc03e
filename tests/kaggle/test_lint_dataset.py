"""What the look before a push finds in a data set folder."""

import json
import zipfile

import pytest
from lint_folders import GONE, PLANTED, finds, make_kernel, tell

from kagglekit.files import write_json
from kagglekit.kaggle.bundle import pack
from kagglekit.kaggle.lint import lint
from kagglekit.kaggle.metadata import dataset_metadata


@pytest.fixture
def kernel(tmp_path):
    """A kernel folder without a fault, with its bundle and its wheels beside it."""
    return make_kernel(tmp_path)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"tilte": "x"}, "tilte", "did you mean title"),
        ({"title": "BBC"}, "title", "6 to 50"),
        ({"id": "me/abcde"}, "id", "6 to 50"),
        ({"id": "me/INSERT_SLUG_HERE"}, "id", "no slug"),
        ({"subtitle": "short"}, "subtitle", "20 to 80"),
        ({"licenses": [{"name": "a"}, {"name": "b"}]}, "licenses", "exactly one"),
        ({"licenses": [{"title": "a"}]}, "licenses", "exactly one"),
        ({"licenses": GONE}, "licenses", "missing"),
        ({"keywords": "nlp"}, "keywords", "list"),
    ],
)
def test_each_mistake_of_a_data_set_is_found_once(kernel, change, key, words):
    bundle = kernel.parent / "bbc-base-inputs"
    tell(bundle, **change)
    assert finds(bundle, "error", key, words)


def test_folders_archives_and_links_to_nothing_in_a_data_set_are_found(kernel):
    bundle = kernel.parent / "bbc-base-inputs"
    (bundle / "model").mkdir()
    assert finds(bundle, "error", "", "passes over")
    (bundle / "model").rmdir()
    (bundle / "link").symlink_to(bundle / "gone")
    assert finds(bundle, "error", "", "link to nothing")
    (bundle / "link").unlink()
    (bundle / "words.tar.gz").write_text("x")
    assert finds(bundle, "error", "", "words.tar.gz.bin") and finds(bundle, "warning", "", "goes along")


@pytest.mark.parametrize("name", ["bbc-base-inputs", "kagglekit-wheels"])
def test_files_must_be_those_that_were_written_down(kernel, name):
    folder = kernel.parent / name
    (file, *_) = sorted(path for path in folder.iterdir() if path.suffix != ".json" or path.name[0] == "0")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert any("has sha256" in f.message for f in lint(folder) if f.level == "error")
    file.unlink()
    assert any("is not there" in f.message for f in lint(folder) if f.level == "error")


def test_a_broken_manifest_is_an_error(kernel):
    for name, manifest in (("bbc-base-inputs", "bundle.json"), ("kagglekit-wheels", "wheels.json")):
        (kernel.parent / name / manifest).write_text(json.dumps({"files": [1]}))
        assert any(manifest in f.file and f.level == "error" for f in lint(kernel.parent / name))


def test_credentials_are_found_in_all_files_of_a_data_set_and_in_wheels(kernel, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    (tmp_path / "weights.bin").write_bytes(b"\x00\xff" + PLANTED.encode())
    bundle = pack({"inputs/weights.bin": tmp_path / "weights.bin"}, tmp_path / "other-inputs", "me/other-inputs")
    assert finds(bundle, "error", "", "the value of HF_TOKEN")
    wheels = kernel.parent / "kagglekit-wheels"
    with zipfile.ZipFile(wheels / "bad-1-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bad/settings.py", f"token = '{PLANTED}'")
    errors = [f for f in lint(wheels) if f.level == "error"]
    assert [f.message[:49] for f in errors] == ["holds the value of HF_TOKEN (bad/settings.py): ta"]


def test_a_folder_of_neither_kind_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither kernel-metadata"):
        lint(tmp_path)
    empty = tmp_path / "empty-data"
    write_json(empty / "dataset-metadata.json", dataset_metadata("me/empty-data"))
    assert finds(empty, "error", "", "no file")
