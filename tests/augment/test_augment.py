"""Texts in other words: what changes, what stays, and that it depends on text, knobs and seed alone."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.augment.catalogue import AUGMENTERS, Chain, augment_texts, make_augmenter
from kagglekit.augment.eda import AEDA, EDA, delete_words, insert_marks, swap_words
from kagglekit.augment.synonyms import Dictionary, MLMSynonyms
from kagglekit.data.words import split_words

TEXT = "The good film was not bad, and it had a fun plot!"
CHINESE = "今天天气很好，我们去看电影。"
ANY = st.lists(
    st.sampled_from([*TEXT.split(), "今天", "，", "。", "@bob", "#x", "https://a.b/c", "3.5", "😂", "\n"]), max_size=20
)


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    """A file of synonyms."""
    file = tmp_path_factory.mktemp("dictionary") / "words.txt"
    file.write_text("good great\nbad awful\nfilm movie\n电影 影片\n", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def recipes(dictionary):
    """Each augmenter with knobs that change something; back-translation has tests of its own."""
    recipes = {
        "EDA": {"synonyms": dictionary},
        "AEDA": {},
        "MLMSynonyms": {"share": 0.3},
        "Dictionary": {"file": dictionary},
    }
    assert set(AUGMENTERS) == {*recipes, "BackTranslation"}
    return recipes


def words_of(text):
    return Counter(split_words(text).words)


@settings(max_examples=60, deadline=None)
@given(ANY.map(" ".join), st.integers(0, 9))
def test_a_swap_keeps_all_words_and_all_that_stands_between(text, seed):
    words, gaps = split_words(text), split_words(text).gaps
    swap_words(words, 2, np.random.default_rng(seed), keep=["not"])
    assert Counter(words.words) == words_of(text) and words.gaps == gaps
    assert [word == "not" for word in words.words] == [word == "not" for word in split_words(text).words]


@settings(max_examples=60, deadline=None)
@given(ANY.map(" ".join), st.sampled_from([0.0, 0.3, 0.999]), st.integers(0, 9))
def test_deleting_leaves_one_word_the_kept_ones_and_the_order(text, share, seed):
    words, before = split_words(text), split_words(text)
    delete_words(words, share, np.random.default_rng(seed), keep=["NOT"])
    left = iter(before.words)
    assert all(word in left for word in words.words)  # in order
    assert len(words) >= min(1, len(before)) and words_of(str(words))["not"] >= words_of(text)["not"]
    assert share or str(words) == text


@settings(max_examples=60, deadline=None)
@given(ANY.map(" ".join), st.integers(0, 9))
def test_marks_are_all_that_is_inserted(text, seed):
    words = split_words(text)
    n = min(3, len(words))
    insert_marks(words, n, np.random.default_rng(seed))
    assert words.words == split_words(text).words
    assert len("".join(words.gaps)) >= len("".join(split_words(text).gaps)) + n


def test_each_word_is_deleted_with_the_given_probability():
    counts = [len(EDA(delete=0.2, replace=0, insert=0, swap=0)([TEXT], seed)[0].split()) for seed in range(400)]
    assert np.mean(counts) == pytest.approx(0.8 * 12, abs=0.2)


def test_one_of_four_operations_is_drawn_and_changes_a_share_of_the_words(dictionary):
    before, kinds = words_of(TEXT), Counter()
    for seed in range(200):
        after = words_of(EDA(dictionary, swap=0.3, replace=0.2)([TEXT], seed)[0])
        gone, new = (before - after).total(), (after - before).total()
        kinds["swap" if not gone + new else "delete" if not new else "insert" if not gone else "replace"] += 1
        assert new <= 2
    assert min(kinds.values()) > 25 and len(kinds) == 4


def test_synonyms_come_from_the_file_and_have_the_case_of_the_word(dictionary):
    replaced = EDA(dictionary, replace=0.9, insert=0, swap=0, delete=0)(["Good FILM, bad plot", CHINESE], 0)
    assert replaced == ["Great MOVIE, awful plot", CHINESE.replace("电影", "影片")]
    inserted = EDA(dictionary, replace=0, insert=0.1, swap=0, delete=0)([CHINESE], 0)[0]
    assert inserted.replace("影片", "", 1) == CHINESE and " " not in inserted
    assert Dictionary(dictionary, share=1.0, keep=["good"])(["Good film"], 3) == ["Good movie"]


def test_not_can_be_deleted_unless_it_is_kept():
    plain, kept = (EDA(replace=0, insert=0, swap=0, delete=0.2, keep=keep) for keep in ([], ["not", "不"]))
    assert any("not" not in plain([TEXT], seed)[0] for seed in range(20))
    assert all("not" in kept([TEXT], seed)[0] for seed in range(20))


def test_aeda_adds_up_to_a_share_of_marks_and_chinese_ones_to_chinese():
    added = Counter(sum(map(AEDA(0.3)([TEXT], seed)[0].count, ".;?:!,")) - 2 for seed in range(100))
    assert set(added) == {1, 2, 3}  # of 12 words
    chinese = AEDA(1.0)([CHINESE], 0)[0]
    assert chinese != CHINESE and not set(chinese) - set(CHINESE) - set("。；？：！，")


def test_masked_predictions_replace_a_share_of_the_words(backbone):
    after = MLMSynonyms(0.3, backbone=backbone)([TEXT], 1)[0]
    changed = [(a, b) for a, b in zip(split_words(TEXT).words, split_words(after).words, strict=True) if a != b]
    assert len(changed) == 3 and not {a for a, _ in changed} & {"The", "was", "not", "and", "it", "had", "a"}


def test_embeddings_of_the_trained_backbone_are_the_default(backbone):
    augmenter = make_augmenter({"EDA": {"insert": 0, "swap": 0, "delete": 0}}, backbone)
    assert augmenter.augmenters[0].backbone == backbone
    augmenter.augmenters[0].synonyms_ = None
    assert len(augmenter(["a film good plot"], 0)) == 1
    other = make_augmenter({"MLMSynonyms": {"backbone": "another"}}, backbone)
    assert other.augmenters[0].backbone == "another"


OFF = [EDA(replace=0, insert=0, swap=0, delete=0), AEDA(0), MLMSynonyms(0), Dictionary("none.txt", 0), Chain()]


@pytest.mark.parametrize("augmenter", OFF, ids=lambda augmenter: type(augmenter).__name__)
def test_knobs_that_are_off_leave_texts_as_they_are(augmenter):
    assert augmenter([TEXT, "", CHINESE], 0) == [TEXT, "", CHINESE]


@pytest.mark.parametrize("name", [name for name in AUGMENTERS if name != "BackTranslation"])
def test_a_result_depends_on_text_knobs_and_seed_alone(recipes, backbone, texts, name):
    many = [*texts(20)[0], TEXT, "", CHINESE, "a", "...", TEXT]
    recipe = {name: recipes[name] | ({"chinese": "characters"} if name == "MLMSynonyms" else {})}
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    augmenter = make_augmenter(recipe, backbone)
    after = augmenter(many, 3)
    assert after == make_augmenter(recipe, backbone)(many, 3)
    assert after == [augmenter([text], 3)[0] for text in many] and after[-1] == after[20]
    assert after != augmenter(many, 4) and after != many
    assert after[21] == "" and after[24] == "..."  # nothing to change
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()
    assert repr(eval(repr(augmenter.augmenters[0]))) == repr(augmenter.augmenters[0])


def test_several_work_one_after_the_other(dictionary):
    both = make_augmenter({"Dictionary": {"file": dictionary, "share": 1.0}, "AEDA": {}}, "")
    assert both([TEXT], 5) == AEDA()(Dictionary(dictionary, 1.0)([TEXT], 5), 5)


@pytest.mark.parametrize(
    "recipe, message",
    [
        (
            {"EDAA": {}},
            r"no augmenter 'EDAA': did you mean .*There are EDA, AEDA, MLMSynonyms, Dict",
        ),
        ({"AEDA": {"share": 0.1}}, r"(?s)AEDA has no knob 'share'; it has ratio, chinese"),
        ({"AEDA": {"ratio": 2}}, r"AEDA: ratio=2 is out of range: it must be from 0 to 1"),
        ({"EDA": {"keep": "not"}}, r"augment: EDA: keep='not' is out of range: it must be list\[str\]"),
        ({"EDA": {"delete": 1.0}}, r"EDA: delete=1.0 is out of range"),
        ({"EDA": {"chinese": "pkuseg"}}, r"chinese='pkuseg' .* one of jieba, characters"),
        ({"MLMSynonyms": {"top": 0}}, r"MLMSynonyms: top=0"),
        ({"Dictionary": {}}, "augment: Dictionary needs file: it has no default"),
        ({"EDA": {"synonyms": "no.txt"}}, r"'no.txt' is neither embeddings nor mlm, and no file: .* does not exist"),
        ({"BackTranslation": {"there": "a", "back": "b", "languages": ["de"]}}, r"languages=\['de'\] .* two"),
    ],
)
def test_a_recipe_that_cannot_work_is_an_error_before_anything_is_loaded(recipe, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_augmenter(recipe, "no such backbone")


def test_what_was_made_before_is_read_from_the_cache(tmp_path, dictionary):
    texts, augmenter = [TEXT, "\ud800", CHINESE], make_augmenter({"Dictionary": {"file": dictionary}}, "")
    made = augment_texts(texts, augmenter, 0, tmp_path)
    (file,) = tmp_path.iterdir()
    assert made == augmenter(texts, 0) == augment_texts(texts, augmenter, 0) == json.loads(file.read_text())
    file.write_text(json.dumps(["from", "the", "cache"]))
    assert augment_texts(texts, augmenter, 0, tmp_path) == ["from", "the", "cache"]
    for other in ((texts, augmenter, 1), (texts[:2], augmenter, 0), (texts, Chain([Dictionary(dictionary, 0.5)]), 0)):
        assert augment_texts(*other, tmp_path)[0] != "from"
    assert len(list(tmp_path.iterdir())) == 4


def test_another_content_of_a_named_file_is_made_again(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("good great")
    first = augment_texts(["good"], Dictionary(str(file)), 0, tmp_path / "cache")
    file.write_text("good excellent")
    assert [first, augment_texts(["good"], Dictionary(str(file)), 0, tmp_path / "cache")] == [["great"], ["excellent"]]
