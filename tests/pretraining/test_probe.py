import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kagglekit.competition.task import encode_labels
from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import load_backbone
from kagglekit.pretraining.probe import STRENGTH, Probe, cross_validate


@pytest.fixture
def vectors():
    """200 vectors of which the first number tells the class, in 4 folds."""
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 6)).astype(np.float32)
    return x, (x[:, 0] + 0.3 * random.standard_normal(200) > 0).astype(np.int64), np.arange(200) % 4


def accuracy(x, y, learned, there):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH / learned.sum()))
    return accuracy_score(y[there], model.fit(x[learned], y[learned]).predict(x[there]))


def test_scores_are_means_of_logistic_regressions_without_the_fold_and_the_one_left_out(task, vectors):
    x, y, folds = vectors
    found = cross_validate(task("binary", metric="accuracy"), x, y, folds)
    assert found.overall == pytest.approx(np.mean([accuracy(x, y, folds != j, folds == j) for j in range(4)]))
    for k in range(4):
        others = [accuracy(x, y, ~np.isin(folds, [j, k]), folds == j) for j in range(4) if j != k]
        assert found.by_fold[k] == pytest.approx(np.mean(others))


@pytest.mark.parametrize("n_folds", [2, 4])
def test_no_label_of_a_fold_moves_the_score_without_it(task, vectors, n_folds):
    x, y, folds = *vectors[:2], np.arange(200) % n_folds
    found = cross_validate(task("binary"), x, y, folds)
    for k in range(n_folds):
        changed = np.where(folds == k, 1 - y, y)
        other = cross_validate(task("binary"), x, changed, folds)
        assert other.by_fold[k] == found.by_fold[k] and other.overall != found.overall


def test_better_vectors_have_better_scores(task, vectors):
    x, y, folds = vectors
    noise = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    good, bad = (cross_validate(task("binary"), rows, y, folds) for rows in (x, noise))
    assert good.overall > 0.9 > 0.65 > bad.overall
    assert all(good.by_fold[k] > bad.by_fold[k] for k in range(4))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression", "ordinal"])
def test_every_kind_of_task_is_scored_on_a_backbone_that_stays_as_it_was(
    kind, task, tables, backbone, tokenizer, weights, same
):
    table, model = task(kind), load_backbone(backbone).train()
    train, _ = tables(table, 60)
    probe = make(table, train, tokenizer)
    before, random = weights(model), torch.get_rng_state()
    found = probe.evaluate(model)
    assert np.isfinite([found.overall, *found.by_fold.values()]).all() and list(found.by_fold) == [0, 1, 2]
    assert probe.higher_is_better == (kind != "regression")
    assert model.training and same(before, weights(model)) and torch.equal(random, torch.get_rng_state())
    assert probe.evaluate(model) == found


def make(table, train, tokenizer, **options):
    tokens = tokenize(train["text"], tokenizer, 30)
    return Probe(tokens, encode_labels(table, train), np.arange(len(train)) % 3, table, 10, **options)


def test_at_most_so_many_rows_are_read_and_always_the_same(task, tables, tokenizer):
    table = task("binary")
    train, _ = tables(table, 60)
    probe, again = (make(table, train, tokenizer, rows=20) for _ in range(2))
    assert len(probe.drawn_) == 20 and np.array_equal(probe.drawn_, again.drawn_)
    assert not np.array_equal(probe.drawn_, make(table, train, tokenizer, rows=20, seed=1).drawn_)


def test_a_fold_without_a_score_is_left_out_and_none_with_one_is_an_error(task, vectors):
    x, y, folds = vectors
    y = np.where(folds == 3, 0, y)  # ROC AUC of fold 3 is not defined
    found = cross_validate(task("binary"), x, y, folds)
    assert np.isfinite(list(found.by_fold.values())).all()
    with pytest.raises(ValueError, match="too few: roc_auc"):
        cross_validate(task("binary"), x, y * 0, folds)


@pytest.mark.parametrize(("options", "match"), [({"every": 0}, "probe_every"), ({"rows": 1}, "rows=1")])
def test_a_knob_out_of_range_is_refused(options, match, task, vectors):
    _, y, folds = vectors
    with pytest.raises(ValueError, match=match):
        Probe(None, y, folds, task("binary"), **options)
    with pytest.raises(ValueError, match="two folds"):
        Probe(None, y, folds * 0, task("binary"))
