import itertools
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import load_backbone
from kagglekit.model.pooling import POOLINGS
from kagglekit.model.shallow import PLAIN, SHALLOW, embed, fit_shallow
from kagglekit.scoring.metrics import score


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """Boosting of 30 rounds at most."""
    monkeypatch.setattr("kagglekit.model.shallow.ROUNDS", 30)


def vectors(rows=150, seed=0):
    """Vectors, and numbers that depend on their first two."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, 5)).astype(np.float32)
    return x, x[:, 0] + 0.5 * x[:, 1] + 0.2 * random.standard_normal(rows)


def labels(kind, value):
    three = np.digitize(value, [-0.6, 0.6])
    return {
        "binary": (value > 0).astype(np.int64),
        "multiclass": three.astype(np.int64),
        "ordinal": three.astype(np.int64),
        "multilabel": np.column_stack([value > 0, value < -0.6]).astype(np.float32),
        "regression": np.column_stack([50 + 10 * value, -value]).astype(np.float32),
    }[kind]


COLUMNS = {"binary": 2, "multiclass": 3, "ordinal": 1, "multilabel": 2, "regression": 2}


def test_one_strength_is_a_plain_logistic_or_ridge_regression():
    x, value = vectors()
    y = labels("multiclass", value)
    (found,) = fit_shallow("multiclass", 3, x[:90], y[:90], [x[90:]], strength=10.0)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=10 / 90)).fit(x[:90], y[:90])
    assert np.allclose(found, plain.predict_proba(x[90:]), atol=1e-3)
    (found,) = fit_shallow("regression", 1, x[:90], value[:90, None], [x[90:]], strength=10.0)
    plain = make_pipeline(StandardScaler(), Ridge(alpha=9)).fit(x[:90], value[:90])
    assert np.allclose(found[:, 0], plain.predict(x[90:]), atol=1e-4)


@pytest.mark.parametrize(
    ("classifier", "kind"),
    [*itertools.product(["logistic", "svm"], COLUMNS), ("boosting", "binary"), ("boosting", "ordinal")],
)
def test_every_classifier_learns_every_kind(classifier, kind):
    x, value = vectors()
    y = labels(kind, value)
    found, other = fit_shallow(kind, COLUMNS[kind], x[:100], y[:100], [x[100:], x[:3]], classifier)
    assert found.shape == (50, COLUMNS[kind]) and other.shape == (3, COLUMNS[kind]) and found.dtype == np.float32
    if kind in ("binary", "multiclass", "multilabel"):
        assert score("roc_auc", y[100:], found) > 0.85 and ((found >= 0) & (found <= 1)).all()
    else:
        truth = y[100:].reshape(50, -1).astype(np.float64)
        assert (np.sqrt(((truth - found) ** 2).mean(axis=0)) < 0.8 * truth.std(axis=0)).all()
    if kind in ("binary", "multiclass"):
        assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("classifier", ["logistic", "svm"])
def test_probabilities_are_calibrated_on_labels_without_a_pattern(classifier):
    x, _ = vectors(300)
    y = np.random.default_rng(1).integers(0, 2, 300)
    (found,) = fit_shallow("binary", 2, x[:200], y[:200], [x[200:]], classifier)
    assert abs(found[:, 1] - 0.5).mean() < 0.15
    assert score("log_loss", y[200:], found) < 0.75


@pytest.mark.parametrize("classifier", SHALLOW)
@pytest.mark.parametrize("y", [[0, 0, 0, 2], [0, 1, 2], [4], [0, 1, 2, 3, 3, 3, 3]])
def test_classes_with_one_or_two_rows_are_learned_and_those_without_have_probability_zero(classifier, y):
    x, _ = vectors(len(y) + 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*encountered in matmul")  # of BLAS, now and then
        warnings.filterwarnings("ignore", message="scipy.optimize", category=DeprecationWarning)  # scikit-learn 1.6
        (found,) = fit_shallow("multiclass", 5, x[:-2], np.array(y), [x[-2:]], classifier)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found[:, np.setdiff1d(range(5), y)] == 0).all() and (found[:, np.unique(y)] > 0).all()


@pytest.mark.parametrize("classifier", SHALLOW)
@pytest.mark.parametrize("y", [[1.5], [2.0, 2.0, 2.0], [0.0, 5.0]])
def test_a_few_values_or_equal_ones_are_learned_too(classifier, y):
    x, _ = vectors(len(y) + 2)
    (found,) = fit_shallow("regression", 1, x[:-2], np.array(y)[:, None], [x[-2:]], classifier)
    assert np.isfinite(found).all() and (found >= min(y) - 9).all() and (found <= max(y) + 9).all()


@pytest.mark.parametrize("classifier", SHALLOW)
def test_the_same_seed_gives_the_same_predictions(classifier):
    x, value = vectors(30)
    y = labels("binary", value)
    first, second = (fit_shallow("binary", 2, x[:20], y[:20], [x[20:]], classifier, seed=3)[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_an_unknown_classifier_is_refused():
    with pytest.raises(ValueError, match="classifier='forest'"):
        fit_shallow("binary", 2, None, None, [], "forest")


# Vectors of frozen backbones


@pytest.fixture
def tokens(texts, tokenizer):
    return tokenize(texts(9)[0], tokenizer, 30)


@pytest.mark.parametrize("pooling", PLAIN[1:])  # auto is one of them
def test_each_text_has_the_vector_that_it_has_alone(backbone, tokens, pooling):
    model = load_backbone(backbone, 0.0, attention="eager").eval()
    found, pool = embed(model, tokens, 0, pooling=pooling), POOLINGS[pooling](16, 2)
    assert found.shape == (9, pool.width) and found.dtype == np.float32
    assert not list(pool.parameters())
    for row, vector in enumerate(found):
        alone = tokens[[row]].pad(0)
        with torch.no_grad():
            states = model(**alone, output_hidden_states=True).hidden_states
        assert np.allclose(vector, pool(states, alone["attention_mask"])[0], atol=1e-5)


def test_every_architecture_has_vectors(backbones, tokens, architecture):
    found = embed(load_backbone(backbones[architecture]), tokens, 0)
    assert found.shape == (9, 16) and np.isfinite(found).all()


def test_bfloat16_is_close_to_float32(backbone, tokens):
    model = load_backbone(backbone)
    assert np.allclose(embed(model, tokens, 0, "bf16"), embed(model, tokens, 0, "fp32"), atol=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_backbone_changes(backbone, tokens, training, weights, same):
    model = load_backbone(backbone, attention="eager").train(training)
    before, random = weights(model), torch.get_rng_state()
    first = embed(model, tokens, 0)
    assert model.training is training and model.config._attn_implementation == "eager"
    assert same(before, weights(model)) and torch.equal(random, torch.get_rng_state())
    assert np.array_equal(first, embed(model, tokens, 0))  # no dropout, though it was in training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_failure_leaves_the_backbone_in_its_mode(backbone, tokens):
    model = load_backbone(backbone).train()
    tokens.flat[0] = 999  # not in the vocabulary
    with pytest.raises(IndexError):
        embed(model, tokens, 0)
    assert model.training


@pytest.mark.parametrize("pooling", ["attention", "pooler", "gem", "none"])
def test_a_pooling_that_must_learn_is_refused_with_those_that_need_not(backbone, tokens, pooling):
    with pytest.raises(ValueError, match="one of auto, mean, cls"):
        embed(load_backbone(backbone), tokens, 0, pooling=pooling)
