import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from kagglekit.show import curves
from kagglekit.training.optim import SCHEDULES, learning_rates

NAMES = ["embeddings", *(f"layer {depth}" for depth in range(1, 13)), "head"]
GROUPS = [{"name": name, "lr": 2e-5 * 0.95 ** (12 - depth)} for depth, name in enumerate(NAMES)]
TRIAL = pd.DataFrame({"learning_rate": np.geomspace(1e-6, 1e-1, 50)})
TRIAL["loss"] = np.concatenate([np.linspace(1, 0.4, 35), np.linspace(0.5, 9, 15)])
TRIAL["smoothed"] = TRIAL["loss"].rolling(3, min_periods=1).mean()
PROBED = pd.DataFrame({"step": [0, 40, 80], "overall": [0.6, 0.8, 0.7], "0": [0.6, 0.7, 0.75], "1": [0.5, 0.9, 0.6]})
PROBED = PROBED.set_index("step")
STEPS = {"overall": 40, "0": 80, "1": 40}


def rates(schedule="linear", groups=GROUPS):
    return learning_rates(groups, schedule, 0.1, 2, 100)


FIGURES = {
    **{schedule: lambda ax=None, s=schedule: curves.learning_rates(rates(s), ax=ax) for schedule in SCHEDULES},
    "one group": lambda ax=None: curves.learning_rates(rates(groups=GROUPS[-1:]), ax=ax),
    "no head": lambda ax=None: curves.learning_rates(rates(groups=GROUPS[:1]), ax=ax),
    "one step": lambda ax=None: curves.learning_rates(rates().head(1), ax=ax),
    "trial": lambda ax=None: curves.rate_trial(TRIAL, 1e-4, ax=ax),
    "trial that never learned": lambda ax=None: curves.rate_trial(TRIAL.iloc[::-1].reset_index(), 1e-4, ax=ax),
    "trial of one step": lambda ax=None: curves.rate_trial(TRIAL.head(1), 1e-7, ax=ax),
    "probe": lambda ax=None: curves.probe_scores(PROBED, STEPS, "accuracy", ax=ax),
    "probe of one fold": lambda ax=None: curves.probe_scores(PROBED, {"1": 40}, "accuracy", ax=ax),
    "probe of one step": lambda ax=None: curves.probe_scores(PROBED.head(1), {"overall": 0}, "accuracy", ax=ax),
    "probe with no number": lambda ax=None: curves.probe_scores(PROBED * np.nan, {"overall": 0}, "accuracy", ax=ax),
    "trial with no number": lambda ax=None: curves.rate_trial(TRIAL.assign(loss=np.nan), 1e-4, ax=ax),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_drawn_once_and_left_closed(name, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure) and plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_can_be_drawn_into_axes_that_are_there(name):
    figure, ax = plt.subplots()
    assert FIGURES[name](ax) is figure
    plt.close(figure)


def test_there_is_a_line_for_every_group_and_a_name_for_the_first_and_the_last():
    (ax,) = curves.learning_rates(rates()).axes
    assert len(ax.lines) == 14
    assert np.allclose(ax.lines[12].get_ydata(), rates()["layer 12"])
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["head: 2.1e-05", "layer 12: 2e-05", "embeddings: 1.1e-05"]


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
