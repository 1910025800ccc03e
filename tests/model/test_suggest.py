import numpy as np
import pytest

from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.model.catalogue import BACKBONES
from kagglekit.model.suggest import estimate_tokens, profile_texts, suggest_backbones

SIZES = {backbone.name: backbone.size for backbone in BACKBONES}


def suggest(texts: list[str], **wanted):
    return suggest_backbones(profile_texts(texts), **wanted)


GENERAL = {
    "en": "The bus to the station was late again, and it is not the first time that we have been waiting for it.",
    "zh": "这家餐厅的服务很好,菜也不错,就是等的时间太长了。",
    "es": "El autobús llegó tarde otra vez, y no es la primera vez que lo esperamos en la estación de la ciudad.",
    "de": "Der Bus ist wieder zu spät gekommen, und es ist nicht das erste Mal, dass wir auf ihn gewartet haben.",
    "ja": "このレストランのサービスはとても良いですが、待ち時間が長すぎます。",
    "ru": "Автобус опять опоздал, и мы ждали его не в первый раз.",
    "ko": "버스가 또 늦었고, 우리가 기다린 것은 이번이 처음이 아니다.",
}
DOMAINS = {
    "tweets": "@sam cannot wait for the weekend #friday",
    "finance": "Operating profit rose to EUR 13.1 mn in the third quarter from EUR 8.7 mn a year ago.",
    "law": "The appellant submits that the court erred in its reading of the statute.",
    "biomedicine": "The patients had no symptoms after four weeks of therapy with the higher dose.",
    "science": "We propose a novel algorithm, and experiments on the dataset show that it is faster.",
}


@pytest.mark.parametrize(("language", "expected"), [("en", "en"), ("zh", "zh")])
def test_english_and_chinese_are_recognised_by_their_letters_and_words(language, expected):
    seen = profile_texts([GENERAL[language]] * 5)
    assert seen.language == expected
    assert {"en": "in English, surely: 100%", "zh": "100% of the letters are Chinese"}[expected] in seen.why["language"]


@pytest.mark.parametrize("language", ["es", "de", "ja", "ru", "ko"])
def test_any_other_language_is_multilingual(language):
    assert profile_texts([GENERAL[language]] * 5).language == "multilingual"
    assert suggest([GENERAL[language]] * 5)["name"][0] == "mdeberta-v3-base"


def test_english_and_another_language_in_one_table_are_multilingual():
    assert profile_texts([GENERAL["en"], GENERAL["es"]] * 5).language == "multilingual"
    assert profile_texts([GENERAL["en"]] * 19 + [GENERAL["zh"]]).language == "en"  # a stray one changes nothing


def test_chinese_with_english_names_in_it_is_chinese():
    assert profile_texts(["这部手机比 iPhone 便宜,但是拍照不如 Samsung Galaxy 好。"]).language == "zh"


@pytest.mark.parametrize("texts", [[""], ["123 456", "!!!"], ["😀"]])
def test_texts_without_letters_get_a_suggestion_too(texts):
    assert profile_texts(texts).language == "multilingual"
    assert len(suggest(texts)) == 5


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_is_recognised_by_its_words_and_its_model_comes_first(domain):
    texts = [DOMAINS[domain], GENERAL["en"]] * 10
    assert profile_texts(texts).domain == domain
    table = suggest(texts)
    first = next(backbone for backbone in BACKBONES if backbone.name == table["name"][0])
    assert first.domain == domain
    assert "50% of the texts" in table["reason"][0]
    assert profile_texts([DOMAINS[domain], *[GENERAL["en"]] * 3]).domain == "general"  # a quarter of them is not enough


def test_plain_english_gets_general_models_in_the_order_of_the_catalogue():
    table = suggest([GENERAL["en"]] * 5, n=3)
    assert list(table) == ["name", "size", "max length", "reason"]
    general = [backbone for backbone in BACKBONES if backbone.language == "en" and backbone.domain == "general"]
    assert table["name"].tolist() == [backbone.name for backbone in general[:3]]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_decoders_come_with_what_fits_each_gpu(language):
    table = suggest([GENERAL[language]] * 5, n=3, kind="decoder")
    assert table["name"].tolist() == ["qwen3-4b", "qwen3-8b", "qwen3-1.7b"]
    assert list(table) == ["name", "size", "max length", "T4", "two T4s", "L4", "H100", "reason"]
    assert table.loc[1, ["T4", "two T4s", "H100"]].tolist() == ["qlora / int8", "lora / predict", "lora / predict"]
    english = suggest([GENERAL["en"]] * 5, n=99, kind="decoder")["name"]
    assert english.tolist()[-1] == "smollm2-135m"


def test_models_for_long_texts_come_first_when_a_quarter_of_the_texts_is_long():
    short, long = GENERAL["en"], GENERAL["en"] * 60
    few = suggest([short] * 4 + [long])
    assert few["name"][0] == "deberta-v3-base"
    assert "truncates the 20% of the texts that have more than 512 tokens" in few["reason"][0]
    many = suggest([short] * 2 + [long])
    assert many["name"][0] == "modernbert-base" and many["max length"][0] == 8192
    assert "truncates" not in many["reason"][0]
    assert suggest([GENERAL["zh"] * 60])["name"].tolist()[:3] == [
        *("mmbert-base", "mmbert-small", "chinese-macbert-base"),  # none of the Chinese ones reads so much
    ]


def test_lengths_that_are_known_are_not_estimated():
    assert (
        suggest_backbones(profile_texts([GENERAL["en"]] * 3, np.array([600, 600, 10])))["name"][0] == "modernbert-base"
    )


def test_size_and_number_are_limits():
    table = suggest([GENERAL["en"]], n=30, max_size=130)
    assert max(SIZES[name] for name in table["name"]) <= 130 and "roberta-base" in set(table["name"])
    assert len(suggest([GENERAL["en"]], n=2)) == 2
    with pytest.raises(ValueError, match="max_size=5: no backbone of the catalogue"):
        suggest([GENERAL["en"]], max_size=5)


def test_tokens_are_about_as_many_as_the_packaged_tokenizer_makes():
    tokenizer = load_tokenizer(find_backbone("minilm"))
    for language in ("en", "zh"):
        count = len(tokenizer(GENERAL[language])["input_ids"])
        assert 0.7 < estimate_tokens(GENERAL[language]) / count < 1.4
    assert estimate_tokens("") == 2
