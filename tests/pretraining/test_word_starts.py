import sys

import jieba
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kagglekit.pretraining.word_starts import cut_chinese, make_word_table

ENGLISH = ["the unbelievable filmmakers were happily rewatching seven old films", "nobody films happier people"]
CHINESE = "我们非常喜欢这部电影但是结局不好"
LETTERS = sorted(set("".join(ENGLISH) + "don'tésai.!" + CHINESE) - {" "})


def wordpiece():
    words = ["the", "film", "happy", "old", "good", "##s", "##make", "##rs", "un", "##watch", "##able"]
    vocabulary = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *words, *LETTERS, *(f"##{c}" for c in LETTERS)]
    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(strip_accents=False)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return core


def sentencepiece():
    pieces = ["▁", "▁film", "s", "▁the", "▁un", "able", "▁我们", "▁影", "我们", "喜", "欢", "这部电", "影", "电影"]
    core = Tokenizer(
        models.Unigram([("[UNK]", 0.0)] + [(p, -(len(p) ** -1.0)) for p in dict.fromkeys(pieces + LETTERS)])
    )
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return core


def byte_level():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, show_progress=False, initial_alphabet=alphabet)
    core.train_from_iterator([*ENGLISH, "我们", "这部"] * 3, trainer)
    return core


KINDS = {"wordpiece": wordpiece, "sentencepiece": sentencepiece, "byte_level": byte_level}
EVERY = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def tokenizers():
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]", "sep_token": "[SEP]"}
    return {kind: PreTrainedTokenizerFast(tokenizer_object=make(), **special) for kind, make in KINDS.items()}


def pieces_of(tokenizer, text, **options):
    """The words of a text as lists of tokens."""
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    maskable = ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    starts = make_word_table(tokenizer).starts(ids, maskable, **options)[0]
    tokens, words = tokenizer.convert_ids_to_tokens(ids[0].tolist()), []
    for token, start in zip(tokens, starts, strict=True):
        words = [*words, [token]] if start else [*words[:-1], [*words[-1], token]]
    return words


@EVERY
def test_words_begin_where_the_tokenizer_itself_says(tokenizers, kind):
    tokenizer = tokenizers[kind]
    for text in ENGLISH:
        encoding = tokenizer(text, add_special_tokens=False)
        sizes = [encoding.word_ids().count(word) for word in dict.fromkeys(encoding.word_ids())]
        assert [len(word) for word in pieces_of(tokenizer, text)] == sizes and max(sizes) > 2
        assert len(sizes) == len(text.split())


@EVERY
def test_signs_are_words_of_their_own(tokenizers, kind):
    words = pieces_of(tokenizers[kind], "films don't. old!")
    texts = ["".join(word).replace("##", "").strip("▁Ġ") for word in words]
    assert texts == ["films", "don", "'", "t", ".", "old", "!"]


@EVERY
def test_letters_with_marks_stay_in_their_word(tokenizers, kind):
    assert len(pieces_of(tokenizers[kind], "désa film")) == 2


@EVERY
def test_chinese_words_are_those_of_jieba_where_no_token_lies_across(tokenizers, kind):
    tokenizer, words = tokenizers[kind], pieces_of(tokenizers[kind], CHINESE)
    found = [tokenizer.convert_tokens_to_string([token.removeprefix("##") for token in word]) for word in words]
    ends, at = set(), 0
    for word in jieba.cut(CHINESE):
        at += len(word)
        ends.add(at)
    expected, start = [], 0
    encoding = tokenizer(CHINESE, add_special_tokens=False, return_offsets_mapping=True)
    of_tokens = {end for _, end in encoding["offset_mapping"]}
    if kind == "byte_level":  # a character of such a token is a byte: a space, then three for each of the text
        lengths = [len(token) for token in tokenizer.convert_ids_to_tokens(encoding["input_ids"])]
        of_tokens = {(sum(lengths[: n + 1]) - 1) / 3 for n in range(len(lengths))}
    for end in sorted(ends & of_tokens):
        expected.append(CHINESE[start:end])
        start = end
    assert [text.replace(" ", "") for text in found] == expected and len(expected) >= 5
    if kind == "byte_level":
        assert any(
            "�" in tokenizer.convert_tokens_to_string([t]) for word in words for t in word
        )  # parts of characters
    if kind == "sentencepiece":
        assert "这部电影" in expected  # 这部 and 电影, with a token across


@EVERY
def test_chinese_and_other_text_do_not_share_a_word(tokenizers, kind):
    words = pieces_of(tokenizers[kind], "film电影films")
    texts = [tokenizers[kind].convert_tokens_to_string(word).replace(" ##", "").strip() for word in words]
    assert [text.replace(" ", "") for text in texts] == ["film", "电影", "films"]


def test_without_segmentation_chinese_characters_are_words(tokenizers):
    assert [len(word) for word in pieces_of(tokenizers["wordpiece"], CHINESE, segment=False)] == [1] * len(CHINESE)


@EVERY
def test_what_is_not_maskable_is_a_word_of_its_own_and_ends_one(tokenizers, kind):
    tokenizer = tokenizers[kind]
    ids = torch.tensor([tokenizer("films[SEP]unable", add_special_tokens=False)["input_ids"]])
    maskable = ids != tokenizer.sep_token_id
    starts = make_word_table(tokenizer).starts(ids, maskable)[0]
    place = int(torch.nonzero(~maskable[0])[0, 0])
    assert starts[0] and starts[place] and starts[place + 1]


@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_a_space_within_chinese_text_parts_words(tokenizers, kind):
    assert [len(pieces_of(tokenizers[kind], text)) for text in ("电影", "电 影")] == [1, 2]


@EVERY
def test_behind_a_token_that_is_left_out_a_word_begins(tokenizers, kind):
    ids = torch.tensor([tokenizers[kind]("unbelievable", add_special_tokens=False)["input_ids"]])
    maskable = torch.arange(ids.shape[1])[None] != 1
    starts = make_word_table(tokenizers[kind]).starts(ids, maskable)[0].tolist()
    assert starts == [True, True, True] + [False] * (ids.shape[1] - 3)


def test_a_row_that_begins_within_a_word_begins_one(tokenizers):
    ids = torch.tensor([tokenizers["wordpiece"].convert_tokens_to_ids(["##s", "##able", "film"])])
    starts = make_word_table(tokenizers["wordpiece"]).starts(ids, torch.ones_like(ids, dtype=torch.bool))
    assert starts.tolist() == [[True, False, True]]


@EVERY
def test_rows_do_not_change_each_other(tokenizers, kind):
    tokenizer, words = tokenizers[kind], make_word_table(tokenizers[kind])
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (CHINESE, ENGLISH[0], "film电影 old")]
    longest, pad = max(map(len, rows)), tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    together = words.starts(ids, ids != pad)
    for row, found in zip(rows, together, strict=True):
        alone = torch.tensor([row])
        assert torch.equal(words.starts(alone, torch.ones_like(alone, dtype=torch.bool))[0], found[: len(row)])


@EVERY
def test_added_tokens_are_words(kind):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=KINDS[kind](), unk_token="[UNK]")
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("\n", "covfefe")])
    words = pieces_of(tokenizer, "films\nthe covfefe films")
    assert ["\n"] in words and ["covfefe"] in words


def test_a_vocabulary_without_marks_is_an_error():
    core = Tokenizer(models.WordLevel({"[UNK]": 0, "film": 1}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r'marks no pieces of words .* use masking = "dynamic"'):
        make_word_table(PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]"))


def test_chinese_without_jieba_is_an_error_that_says_what_to_do(tokenizers, monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    cut_chinese.cache_clear()
    with pytest.raises(ImportError, match="pip install jieba, or set the option chinese to"):
        pieces_of(tokenizers["wordpiece"], CHINESE)
    assert len(pieces_of(tokenizers["wordpiece"], ENGLISH[0])) == 9  # other text needs none
