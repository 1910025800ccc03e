"""Cascades: which rows a later run reads, what counts, and what other shares would have brought."""

import numpy as np
import pytest

from kagglekit.ensembling.cascade import Cascade, as_method, least_sure, replay
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.runs.blend_knobs import EnsembleRun

SURE = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8], [0.55, 0.45]])
OTHER = np.array([[0.0, 1.0]] * 5)


def fitted(shares, runs, kind="binary", **knobs):
    inputs = StackInput(np.asarray(runs, dtype=np.float64), kind, "accuracy")
    return Cascade(shares, **knobs).fit(inputs, None, None), inputs


@pytest.mark.parametrize(
    ("share", "rows"), [(0, []), (0.2, [2]), (0.4, [2, 4]), (0.41, [1, 2, 4]), (1, [0, 1, 2, 3, 4])]
)
def test_the_least_sure_rows_are_chosen(share, rows):
    assert least_sure(SURE, "binary", share).tolist() == rows


def test_labels_are_as_sure_as_the_least_certain_of_them():
    labels = np.array([[0.9, 0.51], [0.7, 0.3], [0.99, 0.2]])
    assert least_sure(labels, "multilabel", 0.34).tolist() == [0, 1]


def test_a_later_run_counts_where_it_was_asked():
    cascade, inputs = fitted([1, 0.4], [SURE, OTHER])
    found = cascade.predict(inputs)
    assert found[[2, 4]].tolist() == [[0, 1], [0, 1]] and np.array_equal(found[[0, 1, 3]], SURE[[0, 1, 3]])
    cascade, inputs = fitted([1, 0.4], [SURE, OTHER], combine="mean")
    assert np.allclose(cascade.predict(inputs)[4], [0.275, 0.725])


def test_the_third_run_reads_rows_of_the_second_alone():
    asked = []
    cascade, inputs = fitted([1, 0.4, 0.2], [SURE, [[0.5, 0.5]] * 5, OTHER])

    def ask(k, rows):
        asked.append(rows.tolist())
        return inputs.predictions[k][rows]

    found = cascade.run("binary", 5, ask)
    assert asked == [[0, 1, 2, 3, 4], [2, 4], [2]] and np.array_equal(found, cascade.predict(inputs))


def test_no_row_of_a_test_without_rows_is_asked_for():
    cascade, _ = fitted([1, 0.5], [SURE, OTHER])
    assert cascade.run("binary", 0, lambda k, rows: np.empty((len(rows), 2))).shape == (0, 2)


def test_without_shares_each_run_reads_half():
    cascade, _ = fitted([], [SURE] * 3)
    assert cascade.shares_ == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("cascade", "words"),
    [
        ([["small", 1.0]], "two or more"),
        ([["small", 0.5], ["large", 0.3]], r"cascade: shares=\[0.5, 0.3\] is out of range: .* the first 1"),
        ([["small", 1.0], ["large", 0.3], ["huge", 0.4]], "none above the one before"),
        ([["small", 1.0], ["large", 1.3]], "none above"),
        ([["small", 1.0], ["small", 0.3]], "different runs"),
        ([["small", 1.0], ["large"]], "pair 2"),
        ([["small", "1"], ["large", 0.3]], "pair 1"),
    ],
)
def test_what_is_no_cascade_is_told_before_a_run_is_read(cascade, words):
    with pytest.raises(ValueError, match=words):
        EnsembleRun(cascade=cascade)


def test_a_cascade_is_a_method_of_its_runs():
    given = [["small", 1], ["large", 0.3]]
    options = {"cascade": {"combine": "mean"}, "classes": {"bags": 3}}
    expected = {"cascade": {"shares": [1.0, 0.3], "combine": "mean"}, "classes": {"bags": 3}}
    assert as_method(given, options) == (["small", "large"], "cascade", expected)
    with pytest.raises(ValueError, match="shares stand in cascade= already"):
        as_method(given, {"cascade": {"shares": [1, 0.5]}})


def test_the_replay_has_each_share_with_its_score_and_time():
    random = np.random.default_rng(0)
    labels = random.integers(2, size=400)
    small, large = (np.clip(labels + random.normal(0, noise, 400), 0.01, 0.99) for noise in (0.9, 0.4))
    cascade, inputs = fitted([1, 0.3], [np.stack([1 - one, one], axis=1) for one in (small, large)])
    table = replay(cascade, inputs, labels, [(0.0, 0.001), (60.0, 0.1)], 60_000)
    assert {0.0, 0.3, 1.0} <= set(table.index)
    assert table["minutes"][[0.0, 0.3, 1.0]].round(6).tolist() == [1, 32, 102]
    alone = [float(np.mean((one > 0.5) == labels)) for one in (small, large)]
    assert table["score"][[0.0, 1.0]].tolist() == alone
    assert table["difference"][1.0] == 0 == table["standard_error"][1.0]
    assert table["difference"][0.0] < 0 < table["standard_error"][0.0]
    assert alone[0] < table["score"][0.3] <= alone[1] + 0.02
    for rows, unit, longest in ((60, "seconds", 66.1), (2_000_000, "hours", 56.1)):
        other = replay(cascade, inputs, labels, [(0.0, 0.001), (60.0, 0.1)], rows)
        assert other.columns[-1] == unit and other[unit][1.0] == longest
    assert replay(cascade, inputs, labels, [None, (0.0, 0.1)], 60_000).columns[-1] == "standard_error"
