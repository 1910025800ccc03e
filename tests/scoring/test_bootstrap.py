"""Samples of rows, drawn often: their scores are those of the metric, and their spread is the known one."""

import time
import tracemalloc

import numpy as np
import pytest

from kagglekit.scoring.bootstrap import bootstrap_scores, interval, spread, standard_error
from tests.scoring.examples import make_rows


def example(rows=60):
    (probs,), labels = make_rows("multiclass", rows, skills=[1.0])
    return labels, probs


def test_copies_in_groups_add_nothing():
    labels, probs = example(200)
    once = standard_error("accuracy", labels, probs, n=1000)
    many, copies = np.repeat(labels, 4), np.repeat(probs, 4, axis=0)
    assert standard_error("accuracy", many, copies, n=1000) == pytest.approx(once / 2, rel=0.1)
    grouped = standard_error("accuracy", many, copies, n=1000, groups=np.repeat(np.arange(200), 4))
    assert grouped == pytest.approx(once, rel=0.1)


def test_predictions_are_scored_on_the_same_samples():
    labels, probs = example(300)
    scores = bootstrap_scores("log_loss", labels, [probs, probs, probs[:, ::-1]], n=50)
    assert scores.shape == (50, 3) and np.array_equal(scores[:, 0], scores[:, 1])
    alone = bootstrap_scores("log_loss", labels, [probs[:, ::-1]], n=50)
    assert np.array_equal(scores[:, 2], alone[:, 0])
    assert not np.array_equal(scores, bootstrap_scores("log_loss", labels, [probs] * 3, n=50, seed=1))


def test_samples_in_pieces_are_the_same_samples(monkeypatch):
    labels, probs = example(100)
    whole = bootstrap_scores("f1_macro", labels, [probs], n=40)
    monkeypatch.setattr("kagglekit.scoring.bootstrap.CELLS", 700)
    assert np.array_equal(bootstrap_scores("f1_macro", labels, [probs], n=40), whole)


def test_the_interval_is_that_of_a_share_and_wider_for_few_rows():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=200_000)
    assert interval(draws, 10**9) == pytest.approx((-1.96, 1.96), abs=0.03)
    low, high = interval(draws, 10)
    assert high == pytest.approx(2.262 * np.sqrt(10 / 9), abs=0.04) and low == pytest.approx(-high, abs=0.06)
    assert interval(draws, 10**9, 0.5) == pytest.approx((-0.6745, 0.6745), abs=0.02)
    assert interval([*draws, np.nan], 50) == interval(draws, 50)
    for level in (0, 1):
        with pytest.raises(ValueError, match=f"level={level} is out of range"):
            interval(draws, 50, level)
    with pytest.raises(ValueError, match="of a single row or group nothing can be said"):
        interval(draws, 1)


def test_samples_that_cannot_be_drawn_are_refused():
    labels, probs = example()
    with pytest.raises(ValueError, match="60 labels do not go with 7 groups"):
        bootstrap_scores("accuracy", labels, [probs], groups=np.arange(7))
    with pytest.raises(ValueError, match="n=1 is out of range"):
        bootstrap_scores("accuracy", labels, [probs], n=1)
    with pytest.raises(ValueError, match="fewer than two of the samples"):
        spread([0.5, np.nan])


def test_many_rows_take_little_time():
    labels, probs = example(20_000)
    start = time.perf_counter()
    for name in ("f1_macro", "log_loss", "roc_auc"):
        bootstrap_scores(name, labels, [probs], n=20)
    assert time.perf_counter() - start < 3


def test_few_large_groups_take_no_more_memory_than_rows(monkeypatch):
    labels, probs = example(4000)
    monkeypatch.setattr("kagglekit.scoring.bootstrap.CELLS", 40_000)
    tracemalloc.start()
    bootstrap_scores("roc_auc", labels, [probs], groups=np.arange(4000) % 10, n=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 4000 * 8  # the counts of all rows in all samples at once
