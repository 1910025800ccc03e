"""What a second-level model reads of a row."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.stack_features import (
    document_aggregates,
    from_evidence,
    make_features,
    read_meta,
    to_evidence,
)

TRAIN = pd.DataFrame(
    {"id": ["1", "2", "3", "4"], "text": ["One two.", "Hey!!", "a\nb\nc", "这是一"], "age": ["10", "", "30", "20"]}
)
TEST = pd.DataFrame({"id": ["5", "6"], "text": ["One two.", ""], "age": ["40", "NA"]})


def reference_aggregates(values, documents):
    rows = []
    for row in range(len(values)):
        others = [o for o in range(len(values)) if o != row and documents[o] == documents[row]]
        found = []
        for column in values.T:
            them = column[others]
            found += [them.mean(), them.min(), them.max(), them.std()] if others else [np.nan] * 4
        rows.append([*found, np.log(len(others) + 1), not others])
    return np.array(rows, dtype=float)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3), st.floats(-2, 2)), min_size=1, max_size=12))
def test_aggregates_are_those_of_the_other_rows_of_the_document(rows):
    documents, *values = zip(*rows, strict=True)
    values = np.array(values, dtype=float).T
    found = document_aggregates(values, [f"d{document}" for document in documents])
    np.testing.assert_allclose(found, reference_aggregates(values, documents), atol=1e-6)


@pytest.mark.parametrize(("kind", "columns"), [("binary", 2), ("multiclass", 4), ("multilabel", 3), ("regression", 2)])
def test_evidence_leads_back_to_the_predictions(kind, columns):
    rng = np.random.default_rng(0)
    predictions = rng.dirichlet(np.ones(columns), 50) if kind != "regression" else rng.normal(size=(50, columns))
    np.testing.assert_allclose(from_evidence(to_evidence(predictions, kind), kind), predictions, atol=1e-5)


def test_certain_runs_have_finite_evidence():
    for kind in ("binary", "multiclass", "multilabel"):
        assert np.isfinite(to_evidence(np.array([[0.0, 1.0], [1.0, 0.0]]), kind)).all()


def test_features_are_the_runs_their_mean_the_document_and_meta_in_this_order():
    bases = np.array([[[0.2], [0.9]], [[0.4], [0.7]]])
    inputs = StackInput(bases, "multilabel", "log_loss", documents=np.array([7, 7]), meta=np.array([[1.0], [2.0]]))
    features, mean = make_features(inputs)
    assert features.shape == (2, 2 + 1 + 6 + 1)
    np.testing.assert_allclose(mean, (logit(bases[0]) + logit(bases[1])) / 2, atol=1e-5)
    np.testing.assert_allclose(features[:, 3], mean[::-1, 0])  # the mean of the other row
    np.testing.assert_allclose(expit(features[:, 0]), [0.2, 0.9])
    assert make_features(inputs, aggregates=False)[0].shape == (2, 4)


def test_meta_has_mean_0_and_deviation_1_over_train_and_marks_gaps():
    train, test = read_meta(["characters", "age"], TRAIN, TEST)
    assert train.shape == (4, 3) and test.shape == (2, 3)
    np.testing.assert_allclose(train[:, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(train[:, 0].std(), 1, atol=1e-6)
    np.testing.assert_allclose(train[:, 1], np.array([-1, 0, 1, 0]) * np.sqrt(1.5), atol=1e-6)  # over those present
    np.testing.assert_allclose(train[:, 2], [0, 1, 0, 0])
    np.testing.assert_allclose(test[:, 1:], [[2 * np.sqrt(1.5), 0], [0, 1]], atol=1e-6)


def test_texts_are_measured():
    order = {
        "characters": [2, 1, 1, 0],  # the place of each text among the others
        "words": [1, 0, 2, 1],  # two Chinese characters count as a word
        "lines": [0, 0, 1, 0],
        "punctuation": [1, 2, 0, 0],
    }
    train, _ = read_meta(list(order), TRAIN, TEST)
    for column, ranks in zip(train.T, order.values(), strict=True):
        expected = np.unique(column.round(6), return_inverse=True)[1].reshape(-1)
        assert expected.tolist() == [sorted(set(ranks)).index(rank) for rank in ranks]


def test_no_meta_is_no_columns():
    train, test = read_meta([], TRAIN, TEST)
    assert train.shape == (4, 0) and test.shape == (2, 0)


@pytest.mark.parametrize(
    ("names", "train", "test", "words"),
    [
        (["size"], TRAIN, TEST, "train has no column 'size'"),
        (["age"], TRAIN, TEST.drop(columns="age"), "train has the column 'age' and test has not"),
        (
            ["age"],
            TRAIN.assign(age=["1", "2", "old", "3"]),
            TEST,
            "train: column 'age' holds 'old' in data row 3 .id '3'.",
        ),
        (["age"], TRAIN, TEST.assign(age=["1", "1e999"]), "test: column 'age' holds '1e999' in data row 2"),
        (["words"], TRAIN.drop(columns="text"), TEST, "no column 'words'"),
        (["age", "age"], TRAIN, TEST, "only once"),
    ],
)
def test_meta_that_cannot_be_read_is_named(names, train, test, words):
    with pytest.raises(ValueError, match=words):
        read_meta(names, train, test)
