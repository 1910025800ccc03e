from pathlib import Path

import numpy as np
import pytest
import torch

from kagglekit.data.tokens import tokenize
from kagglekit.learners.frozen import Frozen
from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.shallow import embed
from kagglekit.model.vocabulary import add_tokens, resize_embeddings
from kagglekit.scoring.metrics import score


@pytest.fixture
def frozen(task, tables, backbone):
    """frozen(kind, rows, **options): the learner on so many rows."""

    def make(kind="binary", rows=60, **options):
        what = task(kind)
        return Frozen(what, *tables(what, rows), backbone, max_length=30, **options)

    return make


@pytest.fixture
def pretrained(backbone, tmp_path):
    """A folder with a classifier whose encoder has other weights, and a token more, than the backbone."""
    tokenizer, encoder = load_tokenizer(backbone), load_backbone(backbone)
    add_tokens(tokenizer, ["very old"])
    resize_embeddings(encoder, tokenizer)
    with torch.no_grad():
        encoder.get_input_embeddings().weight.mul_(-1.5)
    Classifier(encoder, "softmax", 3).save(tmp_path / "start", tokenizer)
    return str(tmp_path / "start")


@pytest.mark.parametrize("classifier", ["logistic", "svm"])
def test_it_learns_from_the_vectors_of_a_random_backbone(frozen, classifier, tmp_path):
    learner = frozen(rows=300, classifier=classifier, pooling="mean")
    fitted = learner.fit(np.arange(200), np.arange(200, 300), tmp_path, 0)
    assert score("roc_auc", learner.labels[200:], fitted.oof) > 0.75


def test_a_start_gives_its_own_encoder_and_vocabulary(frozen, backbone, pretrained):
    learner = frozen(rows=20)
    own, theirs = learner.vectors().copy(), learner.vectors(pretrained)
    encoder = load_backbone(backbone)
    resize_embeddings(encoder, tokenizer := load_tokenizer(pretrained))
    encoder.load_state_dict(Classifier.load(Path(pretrained)).backbone.state_dict())
    texts = [*learner.train["text"], *learner.test["text"]]
    tokens = tokenize(texts, tokenizer, 30)
    assert 30 in tokens.flat  # the new token
    assert np.allclose(theirs, embed(encoder, tokens, 0), atol=0.05)
    assert not np.allclose(own, theirs, atol=0.05)
    assert np.array_equal(learner.vectors(backbone), own)  # a folder of transformers is a start too


def test_vectors_are_computed_once_and_read_back_for_the_same_model_and_texts_alone(frozen, pretrained, tmp_path):
    cache = tmp_path / "cache"
    first = frozen(rows=20, cache=cache).vectors()
    (file,) = cache.glob("vectors-*.npz")
    np.savez(file, vectors=first + 1)  # what is read back, and not computed
    assert np.array_equal(frozen(rows=20, cache=cache).vectors(), first + 1)
    for options in ({"pooling": "max"}, {"rows": 21}):
        other = frozen(**{"rows": 20, **options}, cache=cache).vectors()
        assert not np.allclose(other[0], first[0] + 1, atol=0.05)
    assert not np.array_equal(frozen(rows=20, cache=cache).vectors(pretrained), first + 1)


def test_settings_are_the_knobs(frozen):
    assert frozen(classifier="svm", pooling="cls", truncation="tail").settings == {
        "classifier": "svm",
        "pooling": "cls",
        "max_length": 30,
        "truncation": "tail",
        "budget": {},
    }


@pytest.mark.parametrize(
    "options", [{"classifier": "forest"}, {"pooling": "attention"}, {"truncation": "half"}, {"max_length": 400}]
)
def test_knobs_out_of_range_are_refused(task, tables, backbone, options):
    what = task("binary")
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* out of range"):
        Frozen(what, *tables(what), backbone, **options)
