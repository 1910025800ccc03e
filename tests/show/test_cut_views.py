"""What the table of cuts says is what the cuts do."""

import numpy as np
import pytest

from kagglekit.data.tokens import WHOLE, make_chunks, tokenize
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.show.texts import compare_truncation, show_truncation

NEWS = "title\n\nthe good\n\nold old\n\nthe very end"
TEXTS = ["a the good " * 10, "", "bad", NEWS, "住过几次，感觉还可以。" * 3, "a film\nno fun\nvery poor\nsad\nthe end"]


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
