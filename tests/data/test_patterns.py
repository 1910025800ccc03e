import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kagglekit.data.patterns import count_masks, fill_pattern, find_words, make_pattern, read_pattern
from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import load_tokenizer

REVIEW, NEWS = "{text} it was {mask} .", "{mask} {mask} film: {text}"
TEXTS = ["the good film !", "", "bad", "the old plot is very " * 9, "住过几次"]
WORDS = {"no": ["bad", "poor"], "yes": ["good"]}


@pytest.fixture(scope="module")
def chinese():
    """A BERT tokenizer whose vocabulary is a few characters."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"这部电影很好差棒糟糕不错，。！房间"]
    core = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", mask_token="[MASK]", pad_token="[PAD]")


@pytest.fixture(scope="module")
def bytewise():
    """A byte-level tokenizer as RoBERTa has it: a word behind a space is another token than the word itself."""
    words = ["<unk>", "It", "ĠIt", "Ġwas", "great", "Ġgreat", "Ġbad", "bad", ".", "Ġ("]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    made.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True, special=True)})
    return made


@pytest.fixture(scope="module")
def pieces():
    """A SentencePiece tokenizer: ▁ stands for a space, and every text begins with one."""
    words = ["<unk>", "▁", "▁It", "▁was", "▁great", "great", ".", "很", "▁很", "好", "差", "▁很好"]
    core = Tokenizer(models.Unigram([(word, -float(n)) for n, word in enumerate(words)], unk_id=0))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    made = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    made.add_special_tokens({"mask_token": "<mask>"})
    return made


def shown(tokenizer, tokens):
    return [" ".join(tokenizer.convert_ids_to_tokens(ids.tolist())) for ids in tokens]


# How a pattern is written


@pytest.mark.parametrize(
    ("pattern", "sides"),
    [
        (REVIEW, [[""], [" it was ", " ."]]),
        (NEWS, [["", " ", " film: "], [""]]),
        ("{text}。很{mask}{mask}！", [[""], ["。很", "", "！"]]),
        ("{mask} ({{new}}): {text} is {mask}", [["", " ({new}): "], [" is ", ""]]),
        ("query: {text}", [["query: "], [""]]),
        ("Q: {question}\nA: {answer}\n{{ok}}? {mask}", [["Q: "], ["\nA: "], ["\n{ok}? ", ""]]),
    ],
)
def test_a_pattern_is_what_stands_before_and_behind_cut_at_its_masks(pattern, sides):
    assert read_pattern(pattern)[0] == sides
    assert count_masks(pattern) == pattern.count("{mask}")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("It was {mask}.", "has no text: write {text}, or text columns"),
        ("It was.", "names no column: write one in braces"),
        ("{a} {mask} {b}", "has a mask between two columns"),
        ("{text!r} {mask}", "between braces stands the name of a column and nothing else"),
        ("{text} {", "pattern='{text} {': .*; write a brace itself as {{"),
        ("{text} }", "write a brace itself as {{ or }}"),
        ("{} {text}", "between braces stands the name of a column and nothing else"),
    ],
)
def test_another_pattern_is_an_error_that_says_what_may_stand_there(pattern, words):
    with pytest.raises(ValueError, match=words):
        read_pattern(pattern)


# In tokens


def test_a_filled_pattern_is_what_the_tokenizer_makes_of_the_whole_text(tokenizer):
    for pattern, masks in ((REVIEW, [-3]), (NEWS, [1, 2]), ("{mask}{text}{mask}", [1, -2]), ("a {text} .", [])):
        made = make_pattern(pattern, tokenizer)
        assert made.masks == masks
        texts = [pattern.replace("{text}", text).replace("{mask}", "[MASK]") for text in TEXTS]
        expected = [tokenizer(text)["input_ids"] for text in texts]
        assert [ids.tolist() for ids in fill_pattern(TEXTS, tokenizer, made, 99)] == expected
        assert all(ids[place] == tokenizer.mask_token_id for ids in expected for place in masks)


def test_in_chinese_too(chinese):
    tokens = fill_pattern(["这部电影", "房间！"], chinese, make_pattern("{text}。很{mask}{mask}", chinese), 20)
    behind = "。 很 [MASK] [MASK] [SEP]"
    assert shown(chinese, tokens) == [f"[CLS] 这 部 电 影 {behind}", f"[CLS] 房 间 ！ {behind}"]


def test_a_space_before_the_text_and_before_a_word_is_part_of_it(bytewise):
    for pattern, expected in (
        ("It was {text} ({mask}.", "It Ġwas Ġgreat Ġ( <mask> ."),
        ("{text} It was {mask}. ", "great ĠIt Ġwas <mask> ."),
    ):
        tokens = fill_pattern(["great"], bytewise, make_pattern(pattern, bytewise), 20)
        assert shown(bytewise, tokens) == [expected]


@pytest.mark.parametrize("cut", ["head", "tail", "head_tail", "middle"])
@given(st.integers(0, 40), st.integers(8, 30))
def test_the_text_is_cut_and_the_pattern_is_whole(tokenizer, cut, words, max_length):
    made, text = make_pattern(REVIEW, tokenizer), " ".join(["good", "bad", "old", "plot"] * 10).split()[:words]
    (ids,) = fill_pattern([" ".join(text)], tokenizer, made, max_length, cut=cut)
    assert len(ids) == min(words + 6, max_length)
    assert ids[:1].tolist() == made.around[0].tolist() and ids[-5:].tolist() == made.around[-1].tolist()
    assert ids[made.masks].tolist() == [tokenizer.mask_token_id]
    alone = next(iter(tokenize([" ".join(text)], tokenizer, max_length - 4, cut=cut)))
    assert ids[1:-5].tolist() == alone[1:-1].tolist()


def test_a_mask_in_the_text_itself_is_not_that_of_the_pattern(tokenizer):
    made = make_pattern(REVIEW, tokenizer)
    (ids,) = fill_pattern(["[MASK] good [MASK]"], tokenizer, made, 20)
    assert np.flatnonzero(ids == 4).tolist() == [1, 3, 6] and len(ids) + made.masks[0] == 6


def test_tokens_of_the_texts_are_kept_and_read_again(tokenizer, tmp_path, monkeypatch):
    first = fill_pattern(TEXTS, tokenizer, make_pattern(REVIEW, tokenizer), 12, tmp_path)
    monkeypatch.setattr("kagglekit.data.tokens._tokenize", None)  # a second call would fail
    second = fill_pattern(TEXTS, tokenizer, make_pattern(REVIEW, tokenizer), 12, tmp_path)
    assert np.array_equal(first.flat, second.flat) and first.flat.dtype == np.int32


def test_what_a_tokenizer_cannot_do_is_an_error(tokenizer, backbone):
    without = load_tokenizer(backbone)
    without.mask_token = None
    with pytest.raises(ValueError, match="this backbone's tokenizer has no mask token"):
        make_pattern(REVIEW, without)
    assert make_pattern("a {text}", without).masks == []
    with pytest.raises(ValueError, match=r"has the mask token '\[MASK\]' in it: write {mask}"):
        make_pattern("{text} it was [MASK] {mask}", tokenizer)
    with pytest.raises(ValueError, match="max_length=6 is out of range: it must be above 6"):
        fill_pattern(TEXTS, tokenizer, make_pattern(REVIEW, tokenizer), 6)


# Words


def test_words_of_classes_are_their_tokens_in_the_order_of_the_classes(tokenizer):
    good, bad, poor = tokenizer.convert_tokens_to_ids(["good", "bad", "poor"])
    assert find_words(WORDS, ["no", "yes"], make_pattern(REVIEW, tokenizer), tokenizer) == [[[bad], [poor]], [[good]]]
    assert find_words(WORDS, ["yes", "no"], make_pattern("{mask}: {text}", tokenizer), tokenizer) == [
        [[good]],
        [[bad], [poor]],
    ]


def test_words_may_be_of_several_tokens_where_there_are_as_many_masks(chinese):
    words = {"差": ["糟糕"], "好": ["不错", "很棒"]}
    found = find_words(words, ["差", "好"], make_pattern("{text}。{mask}{mask}", chinese), chinese)
    assert [[chinese.convert_ids_to_tokens(ids) for ids in one] for one in found] == [
        [["糟", "糕"]],
        [["不", "错"], ["很", "棒"]],
    ]


def test_a_word_is_read_as_it_stands_at_the_mask(bytewise, pieces):
    for tokenizer, cases in (
        (bytewise, {"{text} It was {mask}.": "Ġgreat", "{text} ({mask}.": "great", "{mask} It: {text}": "great"}),
        (pieces, {"{text} It was {mask}.": "▁great"}),
    ):
        for pattern, token in cases.items():
            ((ids,),) = find_words({"x": ["great"]}, ["x"], make_pattern(pattern, tokenizer), tokenizer)
            assert tokenizer.convert_ids_to_tokens(ids) == [token]
    ((good,), (bad,)) = find_words(
        {"好": ["好"], "差": ["差"]}, ["好", "差"], make_pattern("{text}很{mask}", pieces), pieces
    )
    assert pieces.convert_ids_to_tokens([*good, *bad]) == ["好", "差"]


@pytest.mark.parametrize(
    ("verbalizer", "pattern", "words"),
    [
        ({"no": ["bad"]}, REVIEW, "class 'yes' has no word; each of no, yes needs one"),
        ({"no": ["bad"], "yes": []}, REVIEW, "class 'yes' has no word"),
        ({**WORDS, "maybe": ["fine"]}, REVIEW, "'maybe' is no class of the task: it has no, yes"),
        ({**WORDS, "yes": ["goods"]}, REVIEW, r"'goods' of class .* 2 tokens \(good, ##s\).* 1 masks.*{mask}{mask}"),
        (WORDS, NEWS, r"'bad' of class 'no' is 1 tokens \(bad\), and the pattern has 2 masks"),
        ({**WORDS, "yes": ["terrific"]}, REVIEW, "'terrific' of class 'yes' has no token in the vocabulary"),
        ({**WORDS, "yes": [" "]}, REVIEW, "has no token in the vocabulary"),
        ({"no": ["bad"], "yes": ["good", "bad"]}, REVIEW, "'bad' is a word of class 'no' and of class 'yes': drop one"),
    ],
)
def test_words_that_cannot_stand_at_the_masks_are_an_error(tokenizer, verbalizer, pattern, words):
    with pytest.raises(ValueError, match=words):
        find_words(verbalizer, ["no", "yes"], make_pattern(pattern, tokenizer), tokenizer)
