"""Every learner without fine-tuning, on every kind of task."""

import numpy as np
import pytest

from kagglekit.learners.frozen import Frozen
from kagglekit.learners.tfidf import Baseline

KINDS = {"binary": 2, "multiclass": 3, "multilabel": 2, "regression": 1, "ordinal": 1}  # kind -> columns
ROWS = np.arange(40), np.arange(40, 60)
each = pytest.mark.parametrize("name", ["tfidf", "frozen", "svm"])


@pytest.fixture
def build(task, tables, backbone):
    """build(name, kind, train, test, **task options): a learner of 60 rows."""

    def make(name, kind="binary", train=None, test=None, **options):
        what, (some, others) = task(kind, **options), tables(task(kind), 60)
        given = some if train is None else train, others if test is None else test
        if name == "tfidf":
            return Baseline(what, *given)
        return Frozen(what, *given, backbone, "svm" if name == "svm" else "logistic", max_length=30)

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tfidf", "frozen"])
def test_every_kind_gives_its_columns_and_leaves_no_folder(build, name, kind, tmp_path):
    fitted = build(name, kind).fit(*ROWS, tmp_path / "fold0", 0)
    assert fitted.oof.shape == (20, KINDS[kind]) and fitted.test.shape == (7, KINDS[kind])
    assert fitted.oof.dtype == fitted.test.dtype == np.float32
    assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all() and not list(tmp_path.iterdir())
    if kind in ("binary", "multiclass"):
        assert np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-6)
    if kind == "multilabel":
        assert ((fitted.oof >= 0) & (fitted.oof <= 1)).all()


@pytest.mark.parametrize(
    ("name", "kind"), [("tfidf", "multiclass"), ("tfidf", "regression"), ("frozen", "regression"), ("svm", "binary")]
)
def test_no_held_out_label_is_read_and_the_same_seed_gives_the_same_predictions(
    build, name, kind, task, tables, tmp_path
):
    train, _ = tables(task(kind), 60)
    spoiled = train.copy()
    spoiled.loc[40:, "label"] = spoiled["label"][0]
    assert not spoiled.equals(train)
    one, other = (build(name, kind, table).fit(*ROWS, tmp_path, 0) for table in (train, spoiled))
    assert np.array_equal(one.oof, other.oof) and np.array_equal(one.test, other.test)


@each
def test_classes_with_one_or_two_rows_or_none_give_probabilities(build, name, task, tables, tmp_path):
    train, _ = tables(task("multiclass"), 60)
    train.loc[3, "label"], train.loc[[5, 8], "label"], train.loc[50, "label"] = "odd", "rare", "none"
    learner = build(name, "multiclass", train, classes=["bad", "mixed", "good", "odd", "rare", "none"])
    fitted = learner.fit(*ROWS, tmp_path, 0)
    assert fitted.oof.shape == (20, 6) and np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-5)
    assert (fitted.oof[:, 5] == 0).all()
