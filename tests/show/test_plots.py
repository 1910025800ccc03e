"""Every figure of show/ is drawn by one battery; then what single figures show."""

from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from kagglekit.show import classes, curves, parts, plots, reliability, style
from kagglekit.training.learning_rates import learning_rates
from kagglekit.training.recipe import SCHEDULES

RNG = np.random.default_rng(0)
Y, P, CLASSES = RNG.integers(0, 3, 200), RNG.integers(0, 3, 200), ["a", "costs $5 or $6", "ç"]
MULTI, VALUES = (RNG.random((200, 3)) < 0.3).astype(np.float32), RNG.normal(size=(200, 2)).astype(np.float32)
HISTORY = pd.DataFrame(
    [{"fold": k, "step": s, "loss": 1 / s, "learning_rate": 1e-4 / s} for k in range(2) for s in range(1, 60)]
    + [{"fold": k, "step": s, "score": 0.9} for k in range(2) for s in (30, 59)]
)
RUNS = pd.DataFrame({"score": [0.8, 0.9], "standard_error": [0.01, 0.02]}, index=["tfidf", "base"], dtype=object)
NAMES = ["embeddings", *(f"layer {depth}" for depth in range(1, 13)), "head"]
GROUPS = [{"name": name, "lr": 2e-5 * 0.95 ** (12 - depth)} for depth, name in enumerate(NAMES)]
TRIAL = pd.DataFrame({"learning_rate": np.geomspace(1e-6, 1e-1, 50)})
TRIAL["loss"] = np.concatenate([np.linspace(1, 0.4, 35), np.linspace(0.5, 9, 15)])
TRIAL["smoothed"] = TRIAL["loss"].rolling(3, min_periods=1).mean()
PROBED = pd.DataFrame({"step": [0, 40, 80], "overall": [0.6, 0.8, 0.7], "0": [0.6, 0.7, 0.75], "1": [0.5, 0.9, 0.6]})
PROBED = PROBED.set_index("step")
STEPS = {"overall": 40, "0": 80, "1": 40}

PROBS = RNG.dirichlet(np.ones(3), 200).astype(np.float32)
MANY = RNG.dirichlet(np.ones(40), 200).astype(np.float32)
FORTY = SimpleNamespace(kind="multiclass", classes=[f"a rather long name of class {k}" for k in range(40)])
FORTY.columns = FORTY.labels = FORTY.classes
THREE = SimpleNamespace(kind="multiclass", classes=CLASSES, columns=CLASSES, labels=["y"])
TWO = SimpleNamespace(kind="binary", classes=["no", "yes"], columns=["no", "yes"], labels=["y"])
STARS = SimpleNamespace(kind="ordinal", classes=["1", "2", "3"], columns=["stars"], labels=["stars"])
TAGS = SimpleNamespace(kind="multilabel", classes=[], columns=CLASSES, labels=CLASSES)
NUMBERS = SimpleNamespace(kind="regression", classes=[], columns=["one", "two"], labels=["one", "two"])
PARTED = pd.DataFrame(
    {"rows": [190, 10], "score": [0.9, 0.8], "low": [0.85, np.nan], "high": [0.93, np.nan]},
    index=pd.MultiIndex.from_tuples([("source", "news"), ("source", "$ and 广告")], names=["by", "part"]),
)
HALVES = pd.Series(pd.Categorical(np.where(np.arange(200) % 2, "short", "long")))


def rates(schedule="linear", groups=GROUPS):
    return learning_rates(groups, schedule, 0.1, 2, 100)


FIGURES = {
    "label_balance": lambda: plots.label_balance(Y, CLASSES),
    "label_balance of labels": lambda: plots.label_balance(MULTI, CLASSES),
    "label_balance of many": lambda: plots.label_balance(np.arange(50), [f"c{k}" for k in range(50)]),
    "label_balance of a number": lambda: plots.label_balance(VALUES[:, :1], ["score"]),
    "label_balance of numbers": lambda: plots.label_balance(VALUES, ["one", "two"]),
    "compare_train_test": lambda: plots.compare_train_test(np.arange(9), np.arange(5)),
    "compare_train_test, long": lambda: plots.compare_train_test(10 ** np.arange(9), np.arange(1, 9)),
    "fold_scores": lambda: plots.fold_scores({0: 0.9, 1: 0.8, 2: None}, 0.85, 0.01, "accuracy", {0: [0.8], 2: [None]}),
    "confusion": lambda: plots.confusion(Y, P, CLASSES),
    "confusion of many": lambda: plots.confusion(np.arange(50), np.arange(50), list(map(str, range(50)))),
    "label_errors": lambda: plots.label_errors(MULTI, MULTI * 0.8, CLASSES),
    "run_correlation": lambda: plots.run_correlation(pd.DataFrame(np.eye(2), ["x", "y"], ["x", "y"])),
    "run_scores": lambda: plots.run_scores(RUNS, "accuracy"),
    "label_rates": lambda: plots.label_rates(RUNS.astype(float)),
    **{f"learning_rates {s}": lambda s=s: curves.learning_rates(rates(s)) for s in SCHEDULES},
    "learning_rates of one group": lambda: curves.learning_rates(rates(groups=GROUPS[-1:])),
    "learning_rates without a head": lambda: curves.learning_rates(rates(groups=GROUPS[:1])),
    "learning_rates of one step": lambda: curves.learning_rates(rates().head(1)),
    "rate_trial": lambda: curves.rate_trial(TRIAL, 1e-4),
    "rate_trial that never learned": lambda: curves.rate_trial(TRIAL.iloc[::-1].reset_index(), 1e-4),
    "rate_trial of one step": lambda: curves.rate_trial(TRIAL.head(1), 1e-7),
    "probe_scores": lambda: curves.probe_scores(PROBED, STEPS, "accuracy"),
    "probe_scores of one fold": lambda: curves.probe_scores(PROBED, {"1": 40}, "accuracy"),
    "probe_scores of one step": lambda: curves.probe_scores(PROBED.head(1), {"overall": 0}, "accuracy"),
    "probe_scores with no number": lambda: curves.probe_scores(PROBED * np.nan, {"overall": 0}, "accuracy"),
    "rate_trial with no number": lambda: curves.rate_trial(TRIAL.assign(loss=np.nan), 1e-4),
    "token_lengths": lambda: plots.token_lengths(np.arange(1, 700)),
    "token_lengths, short": lambda: plots.token_lengths(np.array([3])),
    "learning_curves": lambda: curves.learning_curves(HISTORY, "accuracy"),
    "residuals": lambda: plots.residuals(VALUES, VALUES + 1, ["one", "two"]),
    "residuals of many": lambda: plots.residuals(np.arange(3000)[:, None], np.ones((3000, 1)), ["score"]),
    "spread_by_class": lambda: classes.spread_by_class(THREE, Y, PROBS),
    "spread_by_class of two": lambda: classes.spread_by_class(TWO, Y % 2, PROBS[:, :2]),
    "spread_by_class of stars": lambda: classes.spread_by_class(STARS, Y, PROBS[:, :1] * 2),
    "spread_by_class of labels": lambda: classes.spread_by_class(TAGS, MULTI, PROBS),
    "spread_by_class of many": lambda: classes.spread_by_class(FORTY, np.arange(200) % 40, MANY),
    "oof_and_test": lambda: classes.oof_and_test(THREE, PROBS, PROBS[None]),
    "oof_and_test of two": lambda: classes.oof_and_test(TWO, PROBS[:, :2], PROBS[None, :, :2]),
    "oof_and_test of numbers": lambda: classes.oof_and_test(NUMBERS, VALUES, np.zeros((2, 3, 2))),
    "part_scores": lambda: parts.part_scores(PARTED, 0.89, "accuracy"),
    "residual_parts": lambda: parts.residual_parts(NUMBERS, VALUES, VALUES * 0.5, HALVES),
    "reliability": lambda: reliability.reliability(Y > 0, {"x": np.full((200, 2), 0.5)}, "binary"),
}


def texts(figure):
    found = [text.get_text() for ax in figure.axes for text in ax.texts]
    return found + [ax.get_title(loc="left") for ax in figure.axes]


def test_every_figure_is_in_this_battery():
    modules = (plots, curves, reliability, classes, parts)
    made = {name: draw for module in modules for name, draw in vars(module).items() if hasattr(draw, "__wrapped__")}
    drawn = {name.split()[0].rstrip(",") for name in FIGURES}
    assert drawn == {name for name, draw in made.items() if draw.__module__.startswith("kagglekit")}


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_drawn_once_and_left_closed(name, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure) and plt.get_fignums() == [] and all(ax.has_data() for ax in figure.axes)
    assert dict(matplotlib.rcParams) == before
    figure.savefig(tmp_path / "picture.png")  # no warning, no formula in a name
    assert (tmp_path / "picture.png").stat().st_size > 5000
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        assert axis.get_label_text() or any(label.get_text() for label in axis.get_ticklabels())


def test_a_failing_picture_leaves_nothing_open():
    with pytest.raises(KeyError):
        plots.run_scores(pd.DataFrame({"score": [1]}), "accuracy")
    with pytest.raises(ValueError):
        plots.fold_scores({0: "good"}, 0.5, 0.1).savefig("/dev/null")
    assert plt.get_fignums() == []


def test_letters_that_no_font_has_are_told_once(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(style, "_told", set())
    unknown = chr(0x378)  # no letter
    for _ in range(2):
        plots.confusion(Y, P, ["a", f"{unknown} film", "c"]).savefig(tmp_path / "picture.png")  # a warning is an error
    assert (
        capsys.readouterr().out.startswith(f"{unknown} are boxes in pictures") and style.find_fonts()[0] == style.FONT
    )
    plots.confusion(Y, P, ["ä", "ж", "ελ"])
    assert capsys.readouterr().out == ""


def test_long_names_keep_their_ends_which_often_are_what_tells_them_apart():
    names = style.short([f"a rather long name of a class, number {k}" for k in range(40)], 20)
    assert len(set(names)) == 40 and max(map(len, names)) == 20


def test_token_lengths_show_the_share_that_is_truncated():
    shown = texts(plots.token_lengths(np.array([10, 100, 100, 600]), max_lengths=(64, 512)))
    assert "75.0%" in shown and "25.0%" in shown  # texts cut
    assert len(plots.token_lengths(np.array([10, 64])).axes) == 1
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


def test_learning_curves_show_the_validation_loss_and_nothing_that_is_a_single_point():
    both = HISTORY.assign(valid_loss=HISTORY["score"] / 2)
    titles = [ax.get_title(loc="left") for ax in curves.learning_curves(both, "accuracy").axes]
    assert titles == ["Training loss", "Validation loss", "Validation accuracy"]
    titles = [ax.get_title(loc="left") for ax in curves.learning_curves(both, "log_loss").axes]
    assert titles == ["Training loss", "Validation log_loss", "Learning rate"]  # which is the validation loss
    once = both[both["score"].isna() | (both["step"] == 59)]
    assert [ax.get_ylabel() for ax in curves.learning_curves(once, "accuracy").axes] == ["loss", "learning rate"]
    assert curves.learning_curves(both[both["step"] == 59], "accuracy") is None


def test_errors_are_drawn_as_the_kind_of_task_asks():
    probs = np.eye(3)[P]
    several = SimpleNamespace(kind="regression", classes=[], labels=["one", "two"])
    assert "of 200 right" in texts(plots.errors(SimpleNamespace(kind="multiclass", classes=CLASSES), Y, probs))[-2]
    assert plots.errors(SimpleNamespace(kind="ordinal", classes=CLASSES), Y, P[:, None] + 0.2)
    assert plots.errors(SimpleNamespace(kind="multilabel", classes=[], labels=CLASSES), MULTI, MULTI)
    assert len(plots.errors(several, VALUES, VALUES + 1).axes) == 4 and plt.get_fignums() == []


def test_there_is_a_line_for_every_group_and_a_name_for_the_first_and_the_last():
    (ax,) = curves.learning_rates(rates()).axes
    assert len(ax.lines) == 14
    assert np.allclose(ax.lines[12].get_ydata(), rates()["layer 12"])
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["head: 2.1e-05", "layer 12: 2e-05", "embeddings: 1.1e-05"]
    with_features = [*GROUPS, {"name": "features", "lr": 3e-3}]  # a hundred times as high as all others
    (ax,) = curves.learning_rates(rates(groups=with_features)).axes
    assert ax.get_legend().get_texts()[0].get_text() == "features: 0.003, not drawn" and ax.get_ylim()[1] < 1e-4


def test_the_deeper_the_layer_the_paler_its_line():
    (ax,) = curves.learning_rates(rates()).axes
    brightness = [sum(to_rgb(line.get_color())) for line in ax.lines[:13]]
    assert brightness == sorted(brightness, reverse=True) and len(set(brightness)) == 13


def test_a_trial_shows_the_suggestion_and_hides_what_exploded():
    (ax,) = curves.rate_trial(TRIAL, 1e-4).axes
    assert [text.get_text() for text in ax.texts] == ["0.0001"]
    assert ax.get_xscale() == "log" and ax.get_ylim()[1] < 2 < 9


def test_a_probe_shows_the_step_that_goes_on_overall_and_for_each_fold():
    (ax,) = curves.probe_scores(PROBED, STEPS, "accuracy").axes
    assert [text.get_text() for text in ax.texts] == ["step 40: 0.8000"]
    dots = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_linestyle() == "None"]
    assert dots == [[80, 0.75], [40, 0.9]]
    (alone,) = curves.probe_scores(PROBED, {"1": 40}, "accuracy").axes
    assert len(alone.lines) == 2 and "without fold 1" in alone.get_title(loc="left")
