"""Tables of texts; what the table of truncations says is what the truncations do."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.data.chunks import make_chunks
from kagglekit.data.tokens import WHOLE, tokenize
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.show.texts import row_losses, shorten, show_examples, worst_rows
from kagglekit.show.truncations import compare_truncation, show_truncation

TASK = SimpleNamespace(kind="multiclass", classes=["a", "b"], labels=["y"], columns=["a", "b"])
TRAIN = pd.DataFrame({"id": list("pqrstu"), "text": ["x " * n for n in (5, 1, 9, 2, 7, 3)], "y": list("aababb")})
NEWS = "title\n\nthe good\n\nold old\n\nthe very end"
TEXTS = ["a the good " * 10, "", "bad", NEWS, "住过几次，感觉还可以。" * 3, "a film\nno fun\nvery poor\nsad\nthe end"]
LENGTHS = np.array([5, 1, 9, 2, 7, 3])


def test_examples_are_the_shortest_the_middle_and_the_longest_of_each_class():
    table = show_examples(TRAIN, TASK, LENGTHS)
    assert table.loc["a", "tokens"].tolist() == [1, 2, 5]
    assert table.loc["b", "id"].tolist() == ["u", "t", "r"]


def test_examples_of_a_regression_are_its_lowest_middle_and_highest_targets():
    task = SimpleNamespace(kind="regression", classes=[], labels=["y"], columns=["y"])
    train = TRAIN.assign(y=["3", "-1", "10", "0", "2", "1"])
    table = show_examples(train, task, LENGTHS)
    assert table.loc["lowest y", "id"].unique().tolist() == ["q"]
    assert table.loc["highest y", "id"].unique().tolist() == ["r"]


def test_the_worst_rows_are_those_with_the_highest_loss():
    labels = np.array([0, 0, 1, 0, 1, 1])
    probs = np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6], [0.8, 0.2], [0.99, 0.01], [0.5, 0.5]])
    table = worst_rows(TASK, TRAIN, labels, probs, n=2)
    assert table["id"].tolist() == ["t", "q"]
    assert table["predicted"].tolist() == ["a (0.99)", "b (0.90)"]
    assert table["loss"].tolist() == pytest.approx([4.61, 2.3])


def test_of_several_labels_or_targets_the_worst_rows_name_the_most_wrong_one():
    truth, given = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.9, 0.2], [0.3, 0.1]])
    rows = pd.DataFrame({"id": ["p", "q"], "text": ["one", "two"], "x": ["1", "0"], "y": ["0", "1"]})
    tags = SimpleNamespace(kind="multilabel", classes=[], labels=["x", "y"])
    table = worst_rows(tags, rows, truth, given)
    assert table.drop(columns="loss").iloc[0].tolist() == ["q", "y", "y", 1.0, 0.1, "two"]
    numbers = SimpleNamespace(kind="regression", classes=[], labels=["x", "y"])
    assert worst_rows(numbers, rows, truth * [1, 1 / 3], given).loc[0, "most wrong"] == "y"
    one = worst_rows(SimpleNamespace(kind="regression", classes=[], labels=["x"]), rows, truth[:, 0], given[:, :1])
    assert list(one.columns) == ["id", "x", "predicted", "loss", "text"]


def test_losses_of_several_labels_and_of_targets():
    several = SimpleNamespace(kind="multilabel")
    assert row_losses(several, np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])) == pytest.approx([np.log(2)])
    target = SimpleNamespace(kind="regression")
    assert row_losses(target, np.array([[1.0], [3.0]]), np.array([[1.0], [1.0]])) == pytest.approx([0, 2])


def test_a_long_text_is_cut_in_the_middle_and_kept_on_one_line():
    assert shorten("a\nb") == "a b"
    assert shorten("x" * 500, 10) == "xxxxx ... xxxxx"


@pytest.mark.parametrize("max_length", [6, 8, 100])
def test_the_shares_are_those_of_the_tokens_that_are_read(tokenizer, max_length):
    table = compare_truncation(TEXTS, tokenizer, [max_length]).loc[max_length]
    whole = tokenize(TEXTS, tokenizer, WHOLE).lengths - 2
    for cut in TRUNCATIONS:
        read = tokenize(TEXTS, tokenizer, max_length, cut=cut).lengths
        assert table.loc[cut, "tokens read"] == pytest.approx(read.mean())
        assert table.loc[cut, "tokens kept"] == pytest.approx((read - 2).sum() / whole.sum())
        assert table.loc[cut, "texts cut"] == pytest.approx(np.mean(read - 2 < whole))
        assert table.loc[cut, "chunks"] == 1


def test_chunks_keep_everything_unless_there_are_too_many(tokenizer):
    whole = tokenize(TEXTS, tokenizer, WHOLE)
    for most in (None, 2):
        chunks = make_chunks(whole, tokenizer, 8, 2, most)
        line = compare_truncation(TEXTS, tokenizer, [8], stride=2, max_chunks=most).loc[(8, "chunks")]
        assert line["chunks"] == chunks.counts.mean()
        assert line["tokens read"] == pytest.approx(chunks.pieces.lengths.sum() / len(TEXTS))
        assert (line["tokens kept"] == 1) == (line["texts cut"] == 0) == (most is None)


def test_beginning_middle_and_end_say_where_the_kept_tokens_stand(tokenizer):
    table = compare_truncation(["a " * 30, "the"], tokenizer, [12]).loc[12]
    thirds = table[["beginning", "middle", "end"]]
    assert thirds.loc["head"].tolist() == [1, 0, 0]
    assert thirds.loc["tail"].tolist() == [0, 0, 1]
    assert thirds.loc["middle"].tolist() == [0, 1, 0]
    assert thirds.loc["head_tail"].tolist() == pytest.approx([0.3, 0, 0.7])
    assert thirds.loc["key_parts"].tolist() == [0.5, 0, 0.5]  # no paragraphs: half from either end
    assert thirds.loc["chunks"].tolist() == [1, 1, 1]
    assert table.loc["head", "of long texts"] == pytest.approx(1 / 3)
    assert table.loc["head", "texts cut"] == 0.5


def test_texts_that_all_fit_are_kept_whole(tokenizer):
    table = compare_truncation(["a", "", "the good film"], tokenizer, [64])
    assert (table[["tokens kept", "of long texts", "beginning", "middle", "end", "chunks"]] == 1).all(axis=None)
    assert (table["texts cut"] == 0).all()


def test_a_draw_of_the_texts_is_the_same_for_the_same_seed(tokenizer, texts):
    many = texts(300)[0]
    first, again, other = (compare_truncation(many, tokenizer, [8], rows=50, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)


def test_an_example_shows_where_something_is_left_out(tokenizer):
    shown = show_truncation(["bad", NEWS, "good"], tokenizer, 9)
    read = shown["what is read"].str.replace("[UNK]", "title")
    assert shown["tokens"].tolist() == ["7 of 8"] * 4 + ["6 of 8"]
    assert read["head"] == "title the good old old the very"
    assert read["head_tail"] == "title the [...] old old the very end"
    assert read["key_parts"] == "title the good [...] the very end"


def test_an_example_of_texts_that_all_fit_is_the_longest(tokenizer):
    assert show_truncation(["bad", "a good film"], tokenizer, 9)["what is read"].unique().tolist() == ["a good film"]
