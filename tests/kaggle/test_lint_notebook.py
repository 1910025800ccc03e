"""What the look before a push finds in the notebook of a kernel."""

import nbformat
import pytest
from lint_folders import PLANTED, add_cell, finds, make_kernel, tell

from kagglekit.kaggle.lint import lint, show


@pytest.fixture
def kernel(tmp_path):
    """A kernel folder without a fault, with its bundle and its wheels beside it."""
    return make_kernel(tmp_path)


def test_a_notebook_near_the_limit_warns_and_above_it_stops(kernel):
    add_cell(kernel, "# " + "x" * 810_000)
    assert finds(kernel, "warning", "", "more than 800,000")
    add_cell(kernel, "# " + "x" * 200_000)
    assert finds(kernel, "error", "", "more than 1,000,000")


def test_a_notebook_is_measured_as_it_is_sent(kernel):
    add_cell(kernel, "# " + "新" * 180_000)  # 540 kB here, and twice that in the client's ASCII
    assert finds(kernel, "error", "", "more than 1,000,000")


def test_what_an_earlier_run_left_is_found(kernel):
    outputs = [nbformat.v4.new_output("stream", text="done")]
    add_cell(kernel, "x = 1", outputs=outputs, execution_count=3, metadata={"papermill": {"duration": 1}})
    assert [(f.level, f.key) for f in lint(kernel)] == [("warning", "cell 4")] * 3
    notebook = nbformat.read(kernel / "bbc-base.ipynb", as_version=4)
    notebook.metadata["papermill"] = {"input_path": "x"}
    nbformat.write(notebook, kernel / "bbc-base.ipynb")
    assert finds(kernel, "error", "metadata.papermill", "papermill")


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
