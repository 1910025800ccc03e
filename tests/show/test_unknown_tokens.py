"""What a tokenizer does not know, by share, and the characters or words that are lost."""

from string import ascii_lowercase

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.tokens import WHOLE, Tokens, tokenize
from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.model.catalogue import BACKBONES
from kagglekit.show.unknown_tokens import describe_reading, show_unknown, unknown_share


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
        return unknown_share(tokens, letters), table, describe_reading(texts, letters, "own", "w", tokens, table)

    return show


def test_lost_characters_are_counted_with_a_name_a_word_and_the_cleaner_that_helps(shown):
    share, table, line = shown(["the film？ the", "film？", "the ｆilm", "the film", "was 😂"])
    assert share == 4 / 12
    assert table["texts"].to_dict() == {"？": 2, "ｆ": 1, "😂": 1}
    assert table["name"].tolist()[::2] == ["FULLWIDTH QUESTION MARK", "FACE WITH TEARS OF JOY"]
    assert table["word"].tolist() == ["film？", "ｆilm", "😂"]
    assert table["clean"].to_dict() == {"？": "nfkc", "ｆ": "nfkc", "😂": "emoji_en"}
    assert line == (
        "33% of the tokens are unknown to own ([UNK] in place of '？', 'ｆ', '😂'): "
        "clean=['emoji_en', 'nfkc'] would help"
    )


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


TEXTS = {  # language as the catalogue has it, the texts, and what MiniLM makes of them
    "Chinese": ("zh", "这家餐厅的服务很好,菜也不错,就是等的时间太长了。", "59% of the tokens are unknown to minilm"),
    "Japanese": (
        "multilingual",
        "このレストランのサービスはとても良いですが、待ち時間が長すぎます。",
        "6% of the tokens are",
    ),
    "Korean": (
        "multilingual",
        "버스가 또 늦었고, 우리가 기다린 것은 이번이 처음이 아니다.",
        "in pieces, 4.9 tokens a word",
    ),
    "Russian": (
        "multilingual",
        "Автобус опять опоздал, и мы ждали его не в первый раз.",
        "in pieces, 4.0 tokens a word",
    ),
    "Arabic": ("multilingual", "تأخرت الحافلة مرة أخرى وليست هذه هي المرة الأولى", "in pieces, 4.4 tokens a word"),
    "Hindi": ("multilingual", "बस फिर से देर से आई, और यह पहली बार नहीं है कि हमने इसका इंतज़ार किया", "14% of the tokens"),
    "Greek": ("multilingual", "Το λεωφορείο άργησε πάλι, και δεν είναι η πρώτη φορά", "in pieces, 4.3 tokens a word"),
    "Spanish": ("multilingual", "El autobús llegó tarde otra vez, y no es la primera", "was not made for Spanish"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_backbone_that_cannot_read_the_language_is_told_with_two_of_the_catalogue_that_can(language):
    code, text, words = TEXTS[language]
    line = describe_reading([text] * 8, load_tokenizer(find_backbone("minilm")), "minilm", "runs/x")
    names = line.split("; ")[1].split(" would read ")[0].split(" or ")
    known = {one.name: one.language for one in BACKBONES}
    assert words in line and len(names) == 2 and [known[name] for name in names] == [code, code]
    step = f"python -m kagglekit.run 3_train work=runs/x run={names[0]} backbone={names[0]}"
    assert line.endswith(f"would read {language}: {step}")


@pytest.mark.parametrize("text", ["The bus to the station was late again, and it is not the first time.", "12 34 5"])
def test_english_and_what_is_no_language_are_read_well_by_the_default(text):
    assert describe_reading([text] * 8, load_tokenizer(find_backbone("minilm")), "minilm", "w") == ""


def test_codes_that_fall_into_pieces_are_no_language_that_another_backbone_would_read():
    line = describe_reading(["xqzt wbrrk"] * 8, load_tokenizer(find_backbone("minilm")), "minilm", "w")
    pieces = "3.5 tokens a word, where about 1.4 are usual"
    assert line == f"minilm reads words in pieces, {pieces}: new_tokens of 2_pretrain would help"


def test_bytes_of_another_language_are_no_unknown_tokens_and_are_told_all_the_same():
    core = Tokenizer(models.BPE({sign: n for n, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="!")
    for text, words in (
        (TEXTS["Russian"][1], "tokens a word"),
        (TEXTS["Chinese"][1], "tokens a character, where 1 is"),
    ):
        line = describe_reading([text] * 8, tokenizer, "roberta-base", "w")
        assert line.startswith("roberta-base reads words in pieces, ") and words in line
