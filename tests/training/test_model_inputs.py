import numpy as np
import pandas as pd
import pytest
import torch

from kagglekit.data.chunks import Chunks
from kagglekit.data.tokens import Tokens, tokenize
from kagglekit.training.model_inputs import FeatureScaler, Inputs, read_inputs, vector_files, word_vector_options
from kagglekit.training.recipe import Recipe

ROWS = 10
FITTED = np.arange(6)  # the rows to learn from; the others lie elsewhere
COLUMNS = {"numbers": ["stars"], "categories": ["place"]}


@pytest.fixture
def table(texts):
    """Ten rows with a number, a category and texts of 1 to 20 words."""
    columns = {"stars": [*"123456", "600", "", "NA", "-50"], "place": [*"aabbcc", "d", "a", "", "e"]}
    return pd.DataFrame({"id": [f"r{n}" for n in range(ROWS)], "text": texts(ROWS)[0], **columns})


@pytest.fixture
def vectors(tmp_path, table):
    """A file with vectors of 3 numbers, the last of them always 7; their array."""
    values = np.random.default_rng(0).normal(5, 2, (ROWS, 3)).astype(np.float32)
    values[6:] += 100
    values[:, 2] = 7
    frame = pd.DataFrame(values, columns=["x", "y", "z"])
    frame.insert(0, "id", table["id"])
    frame.iloc[::-1].to_parquet(tmp_path / "vectors.parquet", index=False)
    return str(tmp_path / "vectors.parquet"), values


@pytest.fixture
def inputs(table, vectors, tokenizer):
    return read_inputs(table, tokenizer, Recipe(max_length=16), vectors=vectors[0])


def test_texts_are_read_as_the_recipe_cuts_them(table, tokenizer):
    for cut in ("head", "tail", "middle"):
        found = read_inputs(table, tokenizer, Recipe(max_length=8, truncation=cut))
        assert np.array_equal(found.tokens.flat, tokenize(table["text"], tokenizer, 8, cut=cut).flat)
        assert found.pad_id == tokenizer.pad_token_id and found.vectors is None


def test_long_texts_are_read_in_chunks(table, tokenizer):
    found = read_inputs(table, tokenizer, Recipe(max_length=8, chunks=3, chunk_stride=2))
    assert isinstance(found.tokens, Chunks) and found.tokens.counts.max() == 3
    assert found.tokens.pieces.lengths.max() == 8
    with pytest.raises(ValueError, match=r"stride=6 is out of range: .* below 6, the tokens of text in a chunk"):
        read_inputs(table, tokenizer, Recipe(max_length=8, chunks=3, chunk_stride=6))


def test_vectors_come_in_the_order_of_the_rows(inputs, vectors):
    assert np.array_equal(inputs.vectors, vectors[1])


def test_each_table_has_its_file_and_one_file_cannot_have_two_vectors_of_an_id():
    assert vector_files({}, ["a"], ["a"]) == (None, None)
    assert vector_files({"vectors": "f"}, ["a"], ["b"]) == ("f", "f")
    assert vector_files({"vectors": "f", "test_vectors": "g"}, ["a"], ["a"]) == ("f", "g")
    with pytest.raises(ValueError, match=r"f can have one vector of id 'a', .* \(2 such ids\): name a file for each"):
        vector_files({"vectors": "f"}, ["c", "a", "b"], ["b", "a"])


def test_scales_and_categories_come_from_the_given_rows_alone(inputs, vectors):
    beside = FeatureScaler.fit(inputs, FITTED, COLUMNS)
    stars = np.arange(1.0, 7)
    assert beside.features.center == [stars.mean()] and beside.features.scale == [pytest.approx(stars.std())]
    assert beside.features.known == [["a", "b", "c"]] and beside.features.gaps == [False]
    assert np.allclose(beside.center, vectors[1][FITTED].mean(axis=0))
    assert np.allclose(beside.scale[:2], vectors[1][FITTED].std(axis=0)[:2]) and beside.scale[2] == 1
    inputs.vectors[6:] = 0
    inputs.columns.iloc[6:, 2:] = "9"
    assert FeatureScaler.fit(inputs, FITTED, COLUMNS) == beside


@pytest.mark.parametrize(("at", "name"), [("last", "vectors"), ("embeddings", "embedded")])
def test_batches_have_columns_and_vectors_in_standard_units(inputs, at, name):
    beside = FeatureScaler.fit(inputs, FITTED, {**COLUMNS, "vectors": "f", "vectors_at": at})
    labels = np.arange(ROWS)
    batch = beside.examples(inputs, FITTED, labels[FITTED]).__getitems__([5, 0, 3])
    assert set(batch) == {"input_ids", "attention_mask", "numbers", "categories", name, "labels"}
    assert batch["labels"].tolist() == [5, 0, 3] and batch["categories"].flatten().tolist() == [3, 1, 2]
    everything = beside.examples(inputs)
    arrays = everything.arrays
    assert len(everything) == ROWS and "labels" not in arrays and arrays[name].dtype == np.float32
    assert np.allclose(arrays[name][FITTED].mean(axis=0), 0, atol=1e-5)
    assert np.allclose(arrays[name][FITTED].std(axis=0), [1, 1, 0], atol=1e-5)
    assert arrays["categories"].flatten().tolist() == [1, 1, 2, 2, 3, 3, 0, 1, 0, 0]
    assert torch.equal(batch[name], torch.from_numpy(arrays[name][[5, 0, 3]]))


def test_a_vector_far_away_stays_finite_in_half_precision(inputs):
    beside = FeatureScaler.fit(inputs, FITTED, {})
    inputs.vectors[7] = 1e30
    assert np.abs(beside.examples(inputs).arrays["vectors"]).max() == 1e4


def test_vectors_of_another_width_are_an_error(inputs, table, tokenizer):
    beside = FeatureScaler.fit(inputs, FITTED, {})
    inputs.vectors = inputs.vectors[:, :2]
    with pytest.raises(ValueError, match="the vectors have 2 numbers, those of train 3"):
        beside.examples(inputs)
    with pytest.raises(ValueError, match="the vectors have 0 numbers, those of train 3"):
        beside.examples(read_inputs(table, tokenizer, Recipe(max_length=16)))


NOTHING = {"numbers": 0, "categories": [], "vectors": 0}


@pytest.mark.parametrize(
    ("beside", "features", "embedded"),
    [
        ({}, None, 0),
        ({"numbers": ["stars"]}, {**NOTHING, "numbers": 1}, 0),
        ({"categories": ["place"]}, {**NOTHING, "categories": [4]}, 0),
        ({"vectors": "f"}, {"vectors": 3}, 0),
        ({"vectors": "f", "vectors_at": "embeddings"}, None, 3),
        ({**COLUMNS, "vectors": "f", "vectors_at": "embeddings"}, {**NOTHING, "numbers": 1, "categories": [4]}, 3),
    ],
)
def test_the_model_is_told_how_wide_it_all_is(inputs, beside, features, embedded):
    if "vectors" not in beside:
        inputs.vectors = None
    assert FeatureScaler.fit(inputs, FITTED, beside).options() == {"features": features, "embedded_vectors": embedded}


@pytest.mark.parametrize(
    "beside", [{}, COLUMNS, {"vectors": "f"}, {**COLUMNS, "vectors": "f", "vectors_at": "embeddings"}]
)
def test_saved_and_loaded_it_reads_new_rows_alike(inputs, tmp_path, beside):
    if "vectors" not in beside:
        inputs.vectors = None
    fitted = FeatureScaler.fit(inputs, FITTED, beside)
    fitted.save(tmp_path)
    loaded = FeatureScaler.load(tmp_path)
    assert loaded == fitted
    ours, theirs = loaded.examples(inputs).arrays, fitted.examples(inputs).arrays
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_without_anything_beside_there_are_tokens_alone():
    inputs = Inputs(Tokens(np.arange(6, dtype=np.int32), np.array([3, 3])), 0, pd.DataFrame({"id": ["a", "b"]}))
    assert FeatureScaler.fit(inputs, np.arange(1), {}).examples(inputs).arrays == {}


def test_word_vectors_go_where_they_are_told(tmp_path, tokenizer):
    (tmp_path / "words.txt").write_text("good 1 2\nbad -1 -2\nnowhere 3 3\n")
    file = str(tmp_path / "words.txt")
    for at, option in (("last", "word_vectors"), ("embeddings", "embedded_words")):
        options, table = word_vector_options(file, at, tokenizer)
        assert options == {option: [30, 2]} == {option: list(table.shape)}
        assert table[tokenizer.get_vocab()["good"]].tolist() == [1, 2] and (table != 0).any(dim=1).sum() == 2
    assert word_vector_options(None, "last", tokenizer) == word_vector_options("", "last", tokenizer) == ({}, None)
