"""Metadata of kernels and data sets, against what Kaggle's own client reads where it is installed."""

import json

import pytest

from kagglekit.files import write_json
from kagglekit.kaggle.metadata import (
    DATASET_KEYS,
    KERNEL_KEYS,
    RETIRED,
    SHAPES,
    Ref,
    dataset_metadata,
    kernel_metadata,
    read_dataset_metadata,
    read_kernel_metadata,
    same_title,
    slugify,
)

TITLES = [
    "BBC, fold 1: it's 1,000", "Über café", "a_b c", "don''t", "x &amp; y", "R&D 2,5", "A--B ", "tf-idf (v2)",
    "1,000,000 rows", "&#39;a&#39;b", "naïve Bayes & co.", "“q” – dash",
]  # fmt: skip


def test_a_reference_is_read_and_written_as_on_kaggle():
    ref = Ref.parse("me/bbc-inputs/3")
    assert (ref.owner, ref.slug, ref.version) == ("me", "bbc-inputs", 3)
    assert str(ref) == "me/bbc-inputs/3" and str(ref.bare) == "me/bbc-inputs" == str(Ref.parse("me/bbc-inputs"))


@pytest.mark.parametrize(
    "text", ["", "bbc", "me/", "/bbc", "me/bbc/0", "me/bbc/new", "me/bbc/1/2", "me/b c", "me/bbc\n"]
)
def test_a_reference_of_another_form_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"dataset=.*owner/slug"):
        Ref.parse(text, "dataset")


def test_slugs_are_those_of_python_slugify():
    assert slugify("BBC, fold 1: it's 1,000") == "bbc-fold-1-it-s-1000"
    theirs = pytest.importorskip("slugify").slugify
    for title in TITLES:
        assert slugify(title) == theirs(title), title


@pytest.mark.parametrize("slug", ["bbc-base-fold0", "12345", "kagglekit-wheels", "a" * 50, "t4-x2"])
def test_a_slug_has_a_title_that_leads_back_to_it(slug):
    assert slugify(same_title(slug)) == slug and 5 <= len(same_title(slug)) <= 50


@pytest.mark.parametrize("slug", ["bbc", "a" * 51, "a_base", "Base-1", "base--1", "-base-"])
def test_a_slug_that_no_title_leads_to_is_refused(slug):
    with pytest.raises(ValueError, match="5 to 50"):
        same_title(slug)


@pytest.mark.parametrize("gpu", ["", *SHAPES])
def test_every_key_that_has_a_default_is_told(gpu):
    metadata = kernel_metadata("me/bbc-base", "", "bbc-base.ipynb", gpu=gpu, datasets=[Ref("me", "bbc-inputs", 2)])
    assert set(metadata) == set(KERNEL_KEYS) - {"id_no"}
    assert metadata["machine_shape"] == (gpu or None) and metadata["dataset_sources"] == ["me/bbc-inputs/2"]
    assert (metadata["enable_gpu"], metadata["enable_tpu"]) == (gpu.startswith("N"), gpu.startswith("T"))
    assert metadata["enable_internet"] is False and metadata["is_private"] is True


@pytest.mark.parametrize("gpu", RETIRED)
def test_a_retired_machine_is_refused_with_those_that_exist(gpu):
    with pytest.raises(ValueError, match="NvidiaTeslaT4, "):
        kernel_metadata("me/bbc-base", "", "a.ipynb", gpu=gpu)


def test_what_is_written_is_read_again(tmp_path):
    kernel = kernel_metadata("me/bbc-base", "BBC base", "a.ipynb", competitions=["bbc"], models=["a/b/pyTorch/c/1"])
    data = dataset_metadata("me/bbc-inputs", description="What the kernel reads")
    write_json(tmp_path / "kernel-metadata.json", kernel)
    write_json(tmp_path / "dataset-metadata.json", data)
    assert read_kernel_metadata(tmp_path) == kernel
    assert read_dataset_metadata(tmp_path) == data and set(data) <= set(DATASET_KEYS)
    assert data["licenses"] == [{"name": "other"}] and data["title"] == "Bbc inputs"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": None}, "id is missing"),
        ({"id": "bbc"}, "id='bbc'.*owner/slug"),
        ({"dataset_sources": "me/x"}, "dataset_sources='me/x'.*list"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_file_and_key(tmp_path, change, words):
    write_json(tmp_path / "kernel-metadata.json", {**kernel_metadata("me/bbc-base", "", "a.ipynb"), **change})
    with pytest.raises(ValueError, match=f"kernel-metadata.json: .*{words}"):
        read_kernel_metadata(tmp_path)


def test_files_that_hold_no_metadata_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset-metadata\.json is not there"):
        read_dataset_metadata(tmp_path)
    for text, words in (("{", "is damaged"), (json.dumps([1]), "holds a list")):
        (tmp_path / "dataset-metadata.json").write_text(text)
        with pytest.raises(ValueError, match=rf"dataset-metadata\.json {words}"):
            read_dataset_metadata(tmp_path)
