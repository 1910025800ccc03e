"""What a tokenizer does not know, by share, and the characters or words that are lost."""

from string import ascii_lowercase

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.tokens import WHOLE, Tokens, tokenize
from kagglekit.show.unknown_tokens import describe_unknown, show_unknown, unknown_share


@pytest.fixture(scope="module")
def letters():
    """A WordPiece tokenizer that knows the letters a to z, and those but q within words."""
    inside = [f"##{letter}" for letter in ascii_lowercase if letter != "q"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "was", "?", *ascii_lowercase, *inside]
    core = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]")


@pytest.fixture
def shown(letters):
    """shown(texts): the share, the table and the line."""

    def show(texts):
        tokens = tokenize(texts, letters, WHOLE)
        table = show_unknown(texts, tokens, letters)
        return unknown_share(tokens, letters), table, describe_unknown(tokens, letters, table)

    return show


def test_lost_characters_are_counted_with_a_name_a_word_and_the_cleaner_that_helps(shown):
    share, table, line = shown(["the film？ the", "film？", "the ｆilm", "the film", "was 😂"])
    assert share == 4 / 12
    assert table["texts"].to_dict() == {"？": 2, "ｆ": 1, "😂": 1}
    assert table["name"].tolist()[::2] == ["FULLWIDTH QUESTION MARK", "FACE WITH TEARS OF JOY"]
    assert table["word"].tolist() == ["film？", "ｆilm", "😂"]
    assert table["clean"].to_dict() == {"？": "nfkc", "ｆ": "nfkc", "😂": "emoji_en"}
    assert line == "33.3% of the tokens are [UNK], in place of '？', 'ｆ', '😂': clean=['emoji_en', 'nfkc'] would help"


def test_a_word_of_known_letters_is_lost_as_a_whole(shown):
    _, table, line = shown(["the aqa film", "was aqa aqa"])
    assert table["texts"].to_dict() == {"aqa": 2} and "new_tokens" in line


def test_columns_of_a_text_are_read_one_by_one(letters):
    texts = [f"the{SEPARATOR}？"]
    tokens = tokenize(["the", "？"], letters, WHOLE)
    tokens = Tokens(tokens.flat, tokens.lengths.sum(keepdims=True))
    assert show_unknown(texts, tokens, letters)["word"].tolist() == ["？"]


def test_up_to_a_hundredth_nothing_is_said(shown):
    share, table, line = shown(["the film was"] * 60 + ["the 😂"])
    assert 0 < share < 0.01 and table.empty and line == ""


def test_a_tokenizer_that_knows_all_bytes_has_nothing_unknown(letters):
    tokens = tokenize(["😂"], letters, WHOLE)

    class Bytes:
        unk_token_id = None

    assert unknown_share(tokens, Bytes()) == 0 and show_unknown(["😂"], tokens, Bytes()).empty
