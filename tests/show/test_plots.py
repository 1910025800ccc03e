from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kagglekit.show import curves, plots

RNG = np.random.default_rng(0)
Y, P, CLASSES = RNG.integers(0, 3, 200), RNG.integers(0, 3, 200), ["a", "costs $5 or $6", "ç"]
MULTI, VALUES = (RNG.random((200, 3)) < 0.3).astype(np.float32), RNG.normal(size=(200, 2)).astype(np.float32)
HISTORY = pd.DataFrame(
    [{"fold": k, "step": s, "loss": 1 / s, "learning_rate": 1e-4 / s} for k in range(2) for s in range(1, 60)]
    + [{"fold": k, "step": s, "score": 0.9} for k in range(2) for s in (30, 59)]
)
RUNS = pd.DataFrame({"score": [0.8, 0.9], "standard_error": [0.01, 0.02]}, index=["tfidf", "base"], dtype=object)
FIGURES = {
    "label_balance": lambda ax=None: plots.label_balance(Y, CLASSES, ax=ax),
    "label_balance of labels": lambda ax=None: plots.label_balance(MULTI, CLASSES, ax=ax),
    "label_balance of many": lambda ax=None: plots.label_balance(np.arange(50), [f"c{k}" for k in range(50)], ax=ax),
    "label_balance of a number": lambda ax=None: plots.label_balance(VALUES[:, :1], ["score"], ax=ax),
    "label_balance of numbers": lambda ax=None: plots.label_balance(VALUES, ["one", "two"], ax=ax),
    "compare_train_test": lambda ax=None: plots.compare_train_test(np.arange(9), np.arange(5), ax=ax),
    "compare_train_test, long": lambda ax=None: plots.compare_train_test(10 ** np.arange(9), np.arange(1, 9), ax=ax),
    "fold_scores": lambda ax=None: plots.fold_scores({0: 0.9, 1: 0.8}, 0.85, 0.01, "accuracy", ax=ax),
    "confusion": lambda ax=None: plots.confusion(Y, P, CLASSES, ax=ax),
    "confusion of many": lambda ax=None: plots.confusion(
        np.arange(50), np.arange(50), list(map(str, range(50))), ax=ax
    ),
    "label_errors": lambda ax=None: plots.label_errors(MULTI, MULTI * 0.8, CLASSES, ax=ax),
    "run_correlation": lambda ax=None: plots.run_correlation(pd.DataFrame(np.eye(2), ["x", "y"], ["x", "y"]), ax=ax),
    "run_scores": lambda ax=None: plots.run_scores(RUNS, "accuracy", ax=ax),
    "label_rates": lambda ax=None: plots.label_rates(RUNS.astype(float), ax=ax),
}
PANELS = {
    "token_lengths": lambda axes=None: plots.token_lengths(np.arange(1, 700), axes=axes),
    "token_lengths, short": lambda axes=None: plots.token_lengths(np.array([3]), axes=axes),
    "learning_curves": lambda axes=None: curves.learning_curves(HISTORY, "accuracy", axes=axes),
    "residuals": lambda axes=None: plots.residuals(VALUES[:, 0], VALUES[:, 1], "score", axes=axes),
    "residuals of many": lambda axes=None: plots.residuals(np.arange(3000), np.ones(3000), axes=axes),
}


def texts(figure):
    found = [text.get_text() for ax in figure.axes for text in ax.texts]
    return found + [ax.get_title(loc="left") for ax in figure.axes]


@pytest.mark.parametrize("name", [*FIGURES, *PANELS])
def test_a_picture_is_drawn_once_and_left_closed(name, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = (FIGURES | PANELS)[name]()
    assert isinstance(figure, Figure) and plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    figure.savefig(tmp_path / "picture.png")  # no warning, no formula in a name
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        assert axis.get_label_text() or any(label.get_text() for label in axis.get_ticklabels())


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_can_be_drawn_into_given_axes(name):
    figure, ax = plt.subplots()
    assert FIGURES[name](ax) is figure and ax.has_data()
    assert plt.get_fignums() == [figure.number]  # the caller's figure stays open
    plt.close(figure)


@pytest.mark.parametrize("name", PANELS)
def test_panels_can_be_drawn_into_given_axes(name):
    figure, axes = plt.subplots(1, 3)
    assert PANELS[name](axes[:2]) is figure and all(ax.has_data() for ax in axes[:2])
    plt.close(figure)


def test_a_failing_picture_leaves_nothing_open():
    with pytest.raises(KeyError):
        plots.run_scores(pd.DataFrame({"score": [1]}), "accuracy")
    with pytest.raises(ValueError):
        plots.fold_scores({0: "good"}, 0.5, 0.1, ax=None).savefig("/dev/null")
    assert plt.get_fignums() == []


def test_token_lengths_tell_the_share_that_is_cut():
    shown = texts(plots.token_lengths(np.array([10, 100, 100, 600]), max_lengths=(64, 512)))
    assert "75.0%" in shown and "25.0%" in shown  # texts cut
    assert f"{1 - (10 + 3 * 64) / 810:.1%}" in shown and f"{88 / 810:.1%}" in shown  # tokens lost


def test_confusion_shows_counts_and_row_shares():
    shown = texts(plots.confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["a", "b"]))
    assert {"2\n67%", "1\n33%", "1\n100%"} < set(shown) and "75.0% of 4 right" in shown


def test_the_best_run_is_on_top():
    for metric, best in (("accuracy", "base"), ("log_loss", "tfidf")):
        ax = plots.run_scores(RUNS, metric).axes[0]
        assert ax.get_yticklabels()[0].get_text() == best and ax.get_ylim()[0] > ax.get_ylim()[1]


def test_learning_curves_have_a_line_per_fold_and_a_panel_per_figure():
    figure = curves.learning_curves(HISTORY, "accuracy")
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert [line.get_label() for line in figure.axes[1].lines] == ["fold 0", "fold 1"]
    assert len(curves.learning_curves(HISTORY[["fold", "step", "loss"]]).axes) == 1


def test_errors_are_drawn_as_the_kind_of_task_asks():
    probs = np.eye(3)[P]
    several = SimpleNamespace(kind="regression", classes=[], labels=["one", "two"])
    assert "of 200 right" in texts(plots.errors(SimpleNamespace(kind="multiclass", classes=CLASSES), Y, probs))[-2]
    assert plots.errors(SimpleNamespace(kind="ordinal", classes=CLASSES), Y, P[:, None] + 0.2)
    assert plots.errors(SimpleNamespace(kind="multilabel", classes=[], labels=CLASSES), MULTI, MULTI)
    assert len(plots.errors(several, VALUES, VALUES + 1).axes) == 4 and plt.get_fignums() == []
