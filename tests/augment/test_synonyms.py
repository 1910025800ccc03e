"""Words that may stand in another's place: by vectors, by a masked-language model, and from a file."""

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, BertTokenizer

from kagglekit.augment.masked_words import MaskedPredictions
from kagglekit.augment.synonyms import NearestWords, SynonymFile, make_synonyms
from kagglekit.data.words import Words, in_case_of, is_stop_word, split_words, whole_words
from kagglekit.model.backbones import load_backbone, load_tokenizer, quiet

ANY = [
    "The good, bad film. It's 3.5 stars @bob #Fun!",
    "",
    " ... ",
    "हिन्दी में",
    "看http://t.cn/a 今天天气不错，iPhone手机好",
    "é-è_x",
]


def find(source, text, word, chinese="jieba"):
    """What `source` finds for a word of a text."""
    words = split_words(text, chinese)
    return source.find([(words, words.words.index(word))], chinese)[0]


@pytest.fixture(scope="module")
def leaning(backbone, tmp_path_factory):
    """leaning(**words): a tiny masked-language model that expects some words everywhere, word -> how much."""

    def make(**liked):
        folder = str(tmp_path_factory.mktemp("leaning"))
        with quiet():
            model, tokenizer = AutoModelForMaskedLM.from_pretrained(backbone), load_tokenizer(backbone)
            for word, bias in liked.items():
                model.get_output_embeddings().bias.data[tokenizer.convert_tokens_to_ids(word)] = bias
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def chinese_backbone(tmp_path_factory):
    """A tiny BERT over Chinese characters that expects 电 first, 影 second, and 快 乐 after them, everywhere."""
    folder = tmp_path_factory.mktemp("chinese")
    characters = list("今天我们去看电影吧很开心快乐子")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", *characters]))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes))
    for bias, character in zip((6, 5, 4, 3), "电影快乐", strict=True):
        model.get_output_embeddings().bias.data[tokenizer.convert_tokens_to_ids(character)] = bias
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("text", ANY)
@pytest.mark.parametrize("chinese", ["jieba", "characters"])
def test_a_text_is_its_words_and_what_stands_between(text, chinese):
    words = split_words(text, chinese)
    assert str(words) == text and len(words.gaps) == len(words) + 1 and all(words.words)


def test_words_are_split_by_spaces_and_chinese_ones_by_the_segmenter():
    assert split_words(ANY[0]).words == ["The", "good", "bad", "film", "It's", "3.5", "stars", "@bob", "#Fun"]
    assert split_words(ANY[3]).words == ANY[3].split()
    assert split_words("我们去看电影").words == ["我们", "去", "看", "电影"]
    assert split_words("我们去看电影", "characters").words == list("我们去看电影")
    assert split_words(ANY[4]).words[:2] == ["看", "http://t.cn/a"] and split_words(ANY[4]).words[-3] == "iPhone"


def test_a_word_is_deleted_with_its_space_and_inserted_with_one():
    text = split_words("The good, bad film.")
    text.delete(1)
    assert str(text) == "The, bad film."
    text.delete(0)
    text.insert(1, "fun")
    assert str(text) == ", bad fun film."
    chinese = Words(["我", "爱"], ["", "", "。"])
    chinese.insert(1, "也")
    assert str(chinese) == "我也爱。"


def test_a_missing_segmenter_is_named_when_there_is_chinese_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    assert split_words("a good film").words == ["a", "good", "film"]
    with pytest.raises(ModuleNotFoundError, match="pip install jieba, or set the option chinese to"):
        split_words("我们")


def test_capitals_and_small_words_are_known():
    assert [in_case_of(word, "nice") for word in ("good", "Good", "GOOD", "I")] == ["nice", "Nice", "NICE", "Nice"]
    assert is_stop_word("Not") and is_stop_word("不") and not is_stop_word("film")


def test_whole_words_are_tokens_that_the_tokenizer_makes_of_them(tokenizer):
    words = whole_words(tokenizer)
    assert words["film"] == tokenizer.convert_tokens_to_ids("film")
    assert "##s" not in words and "s" not in words and "!" not in words and "[MASK]" not in words


def test_the_nearest_words_have_the_highest_cosine(backbone, tokenizer):
    table = load_backbone(backbone).get_input_embeddings().weight.detach()
    names = [name for name in whole_words(tokenizer) if not is_stop_word(name) and name != "good" and len(name) > 1]
    vector = table[tokenizer.convert_tokens_to_ids("good")]
    cosines = [F.cosine_similarity(vector, table[tokenizer.convert_tokens_to_ids(name)], dim=0) for name in names]
    expected = [names[k] for k in np.argsort(cosines)[::-1][:3]]
    assert find(NearestWords(backbone, 3, -1.0), "a Good film", "Good") == expected
    assert find(NearestWords(backbone, 3, 0.999), "a good film", "good") == []
    assert find(NearestWords(backbone), "some unheard words", "unheard") == []


def test_near_words_of_real_vectors_mean_about_the_same():
    near = NearestWords("minilm", 5)
    assert {"movie", "films"} <= set(find(near, "a film", "film"))
    assert {"great", "bad"} <= set(find(near, "good", "good"))  # and so a label can change
    assert find(near, "很好", "很") == []


def test_expected_words_are_those_that_the_model_likes_most(leaning):
    folder = leaning(fun=9.0, sad=8.0, old=7.0, the=10.0)
    source = MaskedPredictions(folder, top=2)
    assert find(source, "a good film", "good") == ["fun", "sad"]
    assert find(source, "a fun film", "fun") == ["sad", "old"]  # never the word itself, nor one that says little
    assert source.find([]) == []


def test_expected_words_do_not_hang_on_the_other_places(backbone, texts):
    source = MaskedPredictions(backbone, top=3)
    places = [(words, k) for words in map(split_words, texts(12)[0]) for k in range(len(words))]
    together = source.find(places)
    assert together == [source.find([place])[0] for place in places]
    assert len({tuple(found) for found in together}) > 5  # but on the text


def test_a_long_text_is_read_around_the_place_as_far_as_there_are_positions(backbone):
    source, far = MaskedPredictions(backbone), MaskedPredictions(backbone)
    long = [split_words(f"{'bad ' * n}a film good old plot{' sad' * n}") for n in (30, 31)]
    assert source.find([(long[0], 32)]) == far.find([(long[1], 33)]) != [[]]
    row, masked = source._hide(long[0], 32)
    assert len(row) <= 40 and row[masked].tolist() == [4] and (row == 4).sum() == 1


@pytest.mark.parametrize("name", ["roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_every_kind_of_backbone_expects_words(backbones, name):
    source = MaskedPredictions(backbones[name], top=3)
    words = split_words("a good film")
    (found,) = source.find([(words, 1)])
    row, masked = source._hide(words, 1)
    whole = source.model_(input_ids=torch.from_numpy(row[None].astype(np.int64))).logits[0, masked[0]].detach()
    tokens = whole_words(source.tokenizer_)
    fits = [word for word in tokens if word != "good" and len(word) > 1 and not is_stop_word(word)]
    assert found == sorted(fits, key=lambda word: -float(whole[tokens[word]]))[:3]


def test_no_random_number_is_drawn(backbone):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    find(MaskedPredictions(backbone), "a good film", "good")
    find(NearestWords(backbone), "a good film", "good")
    assert torch.equal(before, torch.get_rng_state())


def test_chinese_words_are_predicted_character_by_character_and_are_words(chinese_backbone):
    found = find(MaskedPredictions(chinese_backbone, top=3), "我们很开心", "开心")
    assert found[0] == "电影" and "快乐" in found  # and 电电, likelier, is no word
    characters = find(MaskedPredictions(chinese_backbone, top=2), "我们很开心", "心", "characters")
    assert characters == ["电", "影"]
    assert find(MaskedPredictions(chinese_backbone, top=2), "看电视机器人啊", "啊", "characters") == ["电", "影"]


@pytest.mark.parametrize("name", ["minilm", "llama"])
def test_a_backbone_without_a_trained_head_is_an_error(name, tiny_decoder):
    with pytest.raises(ValueError, match=r"has no masked-language head: .* Run 2_pretrain on it"):
        find(MaskedPredictions(name if name == "minilm" else tiny_decoder(name)), "a good film", "good")


def test_a_file_has_a_word_and_its_synonyms_on_each_line(tmp_path):
    (tmp_path / "words.txt").write_text(
        "\ufeff# mine\ngood nice fine\n\nGood\tvery nice\tgreat\nfilm, movie, the big screen\n高兴，快乐\n",
        encoding="utf-8",
    )
    source = make_synonyms(str(tmp_path / "words.txt"), "", 5)
    assert isinstance(source, SynonymFile)
    assert find(source, "a GOOD film", "GOOD") == ["nice", "fine", "very nice", "great"]
    assert find(source, "a GOOD film", "film") == ["movie", "the big screen"]
    assert find(source, "很高兴", "高兴") == ["快乐"]
    assert find(source, "a plot", "plot") == []


@pytest.mark.parametrize(
    "content, message",
    [
        (b"good nice\nfilm\n", "line 2: 'film' is not a word and its"),
        (b"caf\xe9 bar\n", "not in UTF-8"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, message):
    if content:
        (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"words\.txt.*{message}"):
        SynonymFile(str(tmp_path / "words.txt")).find([])
