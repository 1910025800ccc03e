"""Stacking: better than the mean where there is something to learn, and no worse where there is not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge

from kagglekit.ensembling.crossfit import cross_fit
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.stack import MODELS, Stack, fit_ridge, fit_with_offset
from kagglekit.ensembling.stack_features import from_evidence, to_evidence
from kagglekit.scoring.metrics import score

KINDS = dict.fromkeys(("binary", "multiclass", "multilabel"), "log_loss") | {"ordinal": "qwk", "regression": "rmse"}
COLUMNS = {"binary": 2, "multiclass": 3, "multilabel": 2, "ordinal": 1, "regression": 2}
EVERY = [(kind, model) for kind, models in MODELS.items() for model in models]


def make_inputs(kind, skills=(1.5, 1.0, 0.5), n=300, seed=0, useless=0):
    """Members that know the labels, by their skill; all share a part of their errors. Labels and folds."""
    rng, columns = np.random.default_rng(seed), COLUMNS[kind]
    if kind in ("multilabel", "regression"):
        labels = rng.random((n, columns)) if kind == "regression" else rng.integers(0, 2, (n, columns))
        labels = labels.astype(np.float32)
        truth = 2.0 * labels - 1
    else:
        labels = rng.integers(0, {"binary": 2, "multiclass": 3, "ordinal": 5}[kind], n)
        truth = labels[:, None] if kind == "ordinal" else np.eye(columns)[labels]
    shared = rng.normal(size=(n, columns))
    evidence = [s * truth + 0.5 * shared + rng.normal(size=(n, columns)) for s in skills]
    evidence += [2 * rng.normal(size=(n, columns)) for _ in range(useless)]
    if kind in ("ordinal", "regression"):
        bases = [e / s for e, s in zip(evidence, (*skills, *[1] * useless), strict=True)]
    else:
        bases = [expit(e) if kind == "multilabel" else softmax(e, axis=1) for e in evidence]
    return StackInput(np.stack(bases), kind, KINDS[kind], meta=None), labels, rng.integers(0, 4, n)


def mean_of(inputs):
    return from_evidence(to_evidence(inputs.predictions, inputs.kind).mean(axis=0), inputs.kind)


@pytest.mark.parametrize(("kind", "model"), EVERY)
def test_a_stack_gives_what_runs_are_and_beats_their_mean(kind, model):
    inputs, labels, folds = make_inputs(kind, n=600)
    new = np.arange(600) >= 300
    stack = Stack(model).fit(inputs[~new], labels[~new], folds[~new] % 2)
    predictions, labels, inputs = stack.predict(inputs[new]), labels[new], inputs[new]
    assert predictions.shape == inputs.predictions.shape[1:] and np.isfinite(predictions).all()
    if kind not in ("ordinal", "regression"):
        assert predictions.min() >= 0 and predictions.max() <= 1
    if kind in ("binary", "multiclass"):
        np.testing.assert_allclose(predictions.sum(axis=1), 1)
    sign = 1 if inputs.metric == "qwk" else -1
    gained = sign * (score(inputs.metric, labels, predictions) - score(inputs.metric, labels, mean_of(inputs)))
    assert gained > 0
    assert stack.chosen_ in stack.scores_


@pytest.mark.parametrize(("kind", "models"), MODELS.items())
def test_a_stack_held_back_without_end_is_the_mean(kind, models):
    inputs, labels, folds = make_inputs(kind, n=100)
    stack = Stack(models[0], strengths=[1e12]).fit(inputs, labels, folds)
    np.testing.assert_allclose(stack.predict(inputs), mean_of(inputs), atol=1e-6)


def test_what_is_learned_without_an_offset_is_scikit_learn_s_logistic_regression():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(200, 4)), rng.integers(0, 3, 200)
    features = np.column_stack([features, features[:, 0], 1e-3 * features[:, 1]])  # a copy, and one that says the same
    ours = fit_with_offset(features, np.zeros((200, 3)), np.eye(3)[labels], [50.0, 0.5], "multiclass")
    for found, strength in zip(ours, (50.0, 0.5), strict=True):
        theirs = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-8).fit(features, labels).coef_.T
        np.testing.assert_allclose(found, theirs, atol=1e-4)


def test_several_labels_are_learned_as_by_scikit_learn_one_by_one():
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(200, 4)), (rng.random((200, 2)) < (0.5, 0.05)).astype(np.float64)
    (ours,) = fit_with_offset(features, np.zeros((200, 2)), labels, [2.0], "multilabel")
    theirs = [LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8).fit(features, y).coef_[0] for y in labels.T]
    np.testing.assert_allclose(ours.T, theirs, atol=1e-4)


def test_ridge_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    for strength, found in zip((30.0, 0.1), fit_ridge(features, targets, [30.0, 0.1]), strict=True):
        np.testing.assert_allclose(found.T, Ridge(alpha=strength, fit_intercept=False).fit(features, targets).coef_)


@pytest.mark.parametrize("kind", MODELS)
def test_useless_runs_do_not_hurt(kind):
    lost, lost_by_the_mean = [], []
    for seed in range(2):
        inputs, labels, folds = make_inputs(kind, n=300, seed=seed, useless=3)
        good = replace(inputs, predictions=inputs.predictions[:3])
        with_them, without, mean = (
            score(inputs.metric, labels, predictions)
            for predictions in (
                cross_fit(Stack(MODELS[kind][0]), inputs, labels, folds),
                cross_fit(Stack(MODELS[kind][0]), good, labels, folds),
                mean_of(inputs),
            )
        )
        lost.append(with_them - without)
        lost_by_the_mean.append(mean - without)
    assert abs(np.mean(lost)) < 0.15 * abs(np.mean(lost_by_the_mean))


def test_a_run_that_takes_one_class_for_another_is_read_right():
    inputs, labels, folds = make_inputs("multiclass", skills=(1.0, 1.5))
    swapped = inputs.predictions.copy()
    swapped[1] = swapped[1][:, [1, 2, 0]]
    inputs = replace(inputs, predictions=swapped)
    found = score("accuracy", labels, cross_fit(Stack(), inputs, labels, folds))
    assert found > score("accuracy", labels, mean_of(inputs)) + 0.1


@pytest.mark.parametrize("model", ["logistic", "boosting"])
def test_the_rest_of_the_document_and_meta_are_used(model):
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(60), 6)
    labels = (rng.random(60) < 0.5).astype(np.int64)[documents]  # all rows of a document have one label
    evidence = 2.0 * labels - 1 + 3 * rng.normal(size=len(labels))
    bases = expit(np.stack([-evidence, evidence], axis=1))[None]
    inputs, new = StackInput(bases, "binary", "accuracy", documents=documents), documents >= 30
    meta = replace(inputs, documents=None, meta=(labels + rng.normal(size=len(labels)) / 3)[:, None])
    alone, together, known = (
        score("accuracy", labels[new], stack.fit(of[~new], labels[~new], documents[~new] % 2).predict(of[new]))
        for stack, of in ((Stack(model, aggregates=False), inputs), (Stack(model), inputs), (Stack(model), meta))
    )
    assert together > alone + 0.1 and known > alone + 0.1


def test_the_strength_is_chosen_by_the_metric_on_rows_not_fitted_on():
    inputs, labels, folds = make_inputs("multiclass", n=200, useless=10)
    stack = Stack(strengths=(1e-3, 30.0)).fit(inputs, labels, folds)
    assert set(stack.scores_) == {1e-3, 30.0} and stack.chosen_ == 30.0
    assert stack.scores_[30.0] < stack.scores_[1e-3]
    cross_fitted = score("log_loss", labels, cross_fit(Stack(strengths=[30.0]), inputs, labels, folds))
    assert stack.scores_[30.0] == pytest.approx(cross_fitted, abs=1e-4)
    one_fold = Stack(strengths=(1e-3, 30.0)).fit(inputs, labels, np.zeros(200, dtype=int))
    assert one_fold.chosen_ == 30.0


def test_boosting_lives_with_classes_and_labels_that_no_row_has():
    inputs, labels, folds = make_inputs("multiclass")
    for there in ([0, 1], [2]):
        rows = np.isin(labels, there)
        probs = Stack("boosting").fit(inputs[rows], labels[rows], folds[rows]).predict(inputs)
        np.testing.assert_allclose(probs.sum(axis=1), 1)
        assert probs[:, [k for k in range(3) if k not in there]].max() < 1e-5
    inputs, labels, folds = make_inputs("multilabel")
    labels[:, 1] = 0
    probs = Stack("boosting").fit(replace(inputs, metric="log_loss"), labels, folds).predict(inputs)
    assert (probs[:, 1] > 0).all() and (probs[:, 1] < 0.01).all()


def test_no_rows_give_no_predictions():
    inputs, labels, folds = make_inputs("multiclass", n=60)
    assert Stack(strengths=[10.0]).fit(inputs, labels, folds).predict(inputs[[]]).shape == (0, 3)


@pytest.mark.parametrize(
    ("stack", "kind", "words"),
    [
        (Stack("ridge"), "binary", "model='ridge'.*kind='binary' logistic or boosting"),
        (Stack("logistic"), "ordinal", "ridge or boosting"),
        (Stack(strengths=[]), "binary", "strengths"),
        (Stack(strengths=[0.0]), "binary", "above 0"),
    ],
)
def test_knobs_that_do_not_fit_are_refused(stack, kind, words):
    with pytest.raises(ValueError, match=words):
        stack.fit(*make_inputs(kind, n=20))


def test_documents_in_only_one_of_fit_and_predict_are_refused():
    inputs, labels, folds = make_inputs("binary", n=40)
    fitted = Stack(strengths=[1.0]).fit(replace(inputs, documents=np.arange(40) // 2), labels, folds)
    with pytest.raises(ValueError, match="fitted with documents"):
        fitted.predict(inputs)


def test_a_strength_cannot_be_chosen_where_no_row_has_a_fold():
    inputs, labels = make_inputs("multiclass")[:2]
    with pytest.raises(ValueError, match="none of the 300 rows has a fold"):
        Stack().fit(inputs, labels, np.full(300, -1))
