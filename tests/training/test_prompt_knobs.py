"""A pattern, the words for its masks, and the other knobs of a recipe: what contradicts itself."""

import pytest

from kagglekit.training.recipe import Recipe

VERBAL = {"pattern": "{text} it was {mask} .", "verbalizer": {"no": ["bad"], "yes": ["good"]}}


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        (
            {"verbalizer": VERBAL["verbalizer"]},
            "verbalizer has words for the mask of a pattern, and there is no pattern",
        ),
        ({"pooling": "mask"}, "pooling='mask' reads the masks of a pattern, and there is no pattern: set pattern="),
        ({"pattern": "{text}"}, "pattern='{text}' adds nothing to the text"),
        ({"pattern": "it was {mask}"}, "has no text: write {text}"),
        ({"answers": ["A", "B"], "head": "answer"}, "answers and head='answer' do not go together: words are"),
        ({"answers": ["A", "B"], "epochs": 0}, "answers and epochs=0 do not go together"),
        ({"epochs": 0}, "epochs=0 predicts with a new head, which knows nothing: set head='answer'"),
        ({"pattern": "{text} {text}"}, "has {text} twice"),
        ({**VERBAL, "pattern": "a {text}"}, "verbalizer goes with the mask of a pattern, and 'a {text}' has none"),
        ({"pattern": "a {text}", "pooling": "mask"}, "pooling='mask' goes with the mask of a pattern"),
        ({"pattern": "{text} {mask}"}, "has a mask that pooling='auto' does not look for"),
        ({**VERBAL, "chunks": 2}, "pattern stands around a text, and chunks=2 are several"),
        ({**VERBAL, "head": "queries"}, "verbalizer is a head of its own, over the masks, and head='queries'"),
        ({**VERBAL, "pooling": "cls"}, "verbalizer is a head of its own, over the masks, and pooling='cls'"),
        (
            {**VERBAL, "features": {"numbers": ["a"]}},
            "features: numbers are joined to the text vector, and a verbalizer",
        ),
        ({**VERBAL, "features": {"vectors": "a"}}, "or set vectors_at to 'embeddings'"),
        ({**VERBAL, "features": {"word_vectors": "a", "word_vectors_at": "last"}}, "or set word_vectors_at to"),
        ({**VERBAL, "auxiliary": {"a": 1.0}}, "auxiliary targets have no words in a verbalizer"),
        ({**VERBAL, "verbalizer": {"no": "bad"}}, r"verbalizer=.* must be dict\[str, list\[str\]\]"),
    ],
)
def test_knobs_that_contradict_a_pattern_are_an_error(knobs, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**knobs)


def test_vectors_at_the_embeddings_go_with_a_verbalizer():
    at = {"vectors": "a", "vectors_at": "embeddings", "word_vectors": "b", "word_vectors_at": "embeddings"}
    assert Recipe(**VERBAL, pooling="mask", features=at).features == at


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ordinal", r"this one \(ordinal\) is learned by a loss of values or labels: set loss={'cross_entropy': {}}"),
        ("regression", r"this one \(regression\) is learned by .*: leave verbalizer out"),
        ("multilabel", r"this one \(multilabel\) is learned by .*: leave verbalizer out"),
    ],
)
def test_a_task_without_classes_to_name_is_an_error(task, kind, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**VERBAL).check_task(task(kind))
