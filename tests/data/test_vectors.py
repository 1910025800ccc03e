import gzip

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from kagglekit.data.vectors import read_document_vectors, read_word_vectors

IDS = ["007", "8", "a b"]
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4) / 7


def document_table():
    return pd.DataFrame({"id": IDS, **{f"v{k}": VECTORS[:, k] for k in range(4)}})


@pytest.fixture(params=["wide.parquet", "list.parquet", "wide.csv", "wide.csv.gz"])
def document_file(request, tmp_path):
    """The same vectors in each form that is read."""
    table, file = document_table(), tmp_path / request.param
    if request.param.startswith("list"):
        table = pd.DataFrame({"id": IDS, "embedding": list(VECTORS)})
    table.to_parquet(file) if file.suffix == ".parquet" else table.to_csv(file, index=False)
    return file


def test_vectors_come_in_the_order_of_the_ids(document_file):
    for order in ([0, 1, 2], [2, 0], [1, 1]):
        vectors = read_document_vectors(document_file, [IDS[k] for k in order])
        assert vectors.dtype == np.float32 and np.allclose(vectors, VECTORS[order])


def test_an_id_without_a_vector_is_named(document_file):
    with pytest.raises(ValueError, match=r"has no vector of id '7' \(2 such ids of 3\)"):
        read_document_vectors(document_file, ["8", "7", "9"])


def test_whole_numbers_can_be_ids(tmp_path):
    pd.DataFrame({"id": [10, 2], "x": [1, 2], "y": [0.5, 1]}).to_parquet(tmp_path / "v.parquet")
    assert read_document_vectors(tmp_path / "v.parquet", ["2", "10"]).tolist() == [[2, 1], [1, 0.5]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(id=["8", "8", "9"]), "column 'id' holds '8' twice"),
        (lambda t: t.rename(columns={"id": "key"}), "has no column 'id'; it has key, v0"),
        (lambda t: t.assign(v2=["x", "y", "z"]), "column 'v2' holds .*string, which is no number"),
        (lambda t: t.assign(v2=[1, None, 3]), "the vector of id '8' has a number that is not finite"),
        (lambda t: t.assign(v2=[1, 2, np.inf]), "the vector of id 'a b' has a number that is not finite"),
        (lambda t: t.rename(columns={"v0": "Unnamed: 0"}), "column 'Unnamed: 0' holds row numbers"),
        (lambda t: t[["id"]].assign(e=[[1.0], [1.0, 2.0], [1.0]]), "column 'e' holds lists of different lengths"),
        (lambda t: t[["id"]].assign(e=[[1.0], None, [1.0]]), "column 'e' holds lists of different lengths, or none"),
    ],
)
def test_files_that_cannot_be_meant_are_errors(tmp_path, change, words):
    change(document_table()).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(ValueError, match=words):
        read_document_vectors(tmp_path / "v.parquet", IDS)


def test_files_that_are_not_there_or_of_another_kind_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"v.csv does not exist"):
        read_document_vectors(tmp_path / "v.csv", IDS)
    (tmp_path / "v.npy").touch()
    with pytest.raises(ValueError, match="is neither parquet nor CSV"):
        read_document_vectors(tmp_path / "v.npy", IDS)
    (tmp_path / "v.parquet").write_text("id")
    with pytest.raises(ValueError, match=r"v.parquet is damaged"):
        read_document_vectors(tmp_path / "v.parquet", IDS)


@pytest.fixture
def word_file(tmp_path):
    """word_file(lines, name): a file of word vectors."""

    def write(lines, name="words.txt"):
        path = tmp_path / name
        data = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


LINES = ["film 1 2 3", "good -1 0 .5", "unheard 9 9 9", "s 4 5 6"]


@pytest.mark.parametrize("name", ["words.txt", "words.vec.gz"])
@pytest.mark.parametrize("header", [[], ["4 3"]])
def test_each_token_gets_the_vector_of_its_word(tokenizer, word_file, header, name):
    table = read_word_vectors(word_file([*header, *LINES], name), tokenizer)
    expected = np.zeros((len(tokenizer), 3), dtype=np.float32)
    vocabulary = tokenizer.get_vocab()
    expected[vocabulary["film"]], expected[vocabulary["good"]] = [1, 2, 3], [-1, 0, 0.5]
    expected[vocabulary["##s"]] = [4, 5, 6]  # a word piece, without its mark
    assert table.dtype == np.float32 and np.array_equal(table, expected)


def test_blanks_at_line_ends_and_words_of_several_parts_are_read(tokenizer, word_file):
    lines = ["film 1 2 3 ", ". . . 7 7 7", "at name@domain.com 8 8 8", "good 4 5 6"]
    table = read_word_vectors(word_file(lines), tokenizer)
    assert table[tokenizer.get_vocab()["good"]].tolist() == [4, 5, 6]
    assert (table != 0).any(axis=1).sum() == 2


def bpe(tokens, bytewise=True):
    """A tokenizer with the vocabulary of RoBERTa's kind (marks Ġ, bytes as letters), or of XLM-R's (▁)."""
    core = Tokenizer(models.BPE({token: number for number, token in enumerate(["<s>", *tokens])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel() if bytewise else pre_tokenizers.Metaspace()
    core.decoder = decoders.ByteLevel() if bytewise else decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")


def test_marks_of_words_and_bytes_are_removed(word_file):
    lines = ["café 1 1", "film 2 2", "好 3 3", "<s> 9 9"]
    accented = "".join(chr(b) if b < 128 else {0xC3: "Ã", 0xA9: "©"}[b] for b in "café".encode())
    table = read_word_vectors(word_file(lines), bpe([f"Ġ{accented}", "film", "Ġfilm", "Ġ", "Ċ"]))
    assert table[:, 0].tolist() == [0, 1, 2, 2, 0, 0]
    table = read_word_vectors(word_file(lines), bpe(["▁café", "film", "▁film", "▁", "▁好", "好"], bytewise=False))
    assert table[:, 0].tolist() == [0, 1, 2, 2, 0, 3, 3]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_word_as_it_is_goes_before_the_word_in_lower_case(word_file, order):
    tokenizer = bpe(["ĠApple", "ĠBlue", "apple"])
    lines = ["apple 1 1", "Apple 2 2"]
    table = read_word_vectors(word_file([*(lines[k] for k in order), "blue 3 3"]), tokenizer)
    assert table[:, 0].tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["film 1 2 3", "a 1 2"], "line 2: there are 2 numbers where 3 are expected"),
        (["film 1 2 3", "a 1 2 3 4"], "line 2: there are 4 numbers where 3 are expected"),
        (["2 5", "film 1 2 3"], "line 2: there are 3 numbers where 5 are expected"),
        (["film"], "line 1: there are 0 numbers where a word and its numbers are expected"),
        (["film 1 2 3", "good 1 x 3"], "line 2: could not convert string to float: b?'x'"),
        (["film 1 nan 3"], "line 1: the vector of 'film' has a number that is not finite"),
        (["unheard 1 2 3"], "has no word that is a token of this backbone"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tokenizer, word_file, lines, words):
    with pytest.raises(ValueError, match=words):
        read_word_vectors(word_file(lines), tokenizer)


def test_a_file_that_is_not_there_is_an_error(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_word_vectors(tmp_path / "words.txt", tokenizer)
