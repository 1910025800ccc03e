"""Tables and figures by class, label, target, and by parts of the rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_train
from kagglekit.scoring.metrics import score
from kagglekit.show import section
from kagglekit.show.classes import oof_and_test, report, spread_by_class
from kagglekit.show.parts import _fifths, _values, find_parts, part_scores, residual_parts, score_parts
from kagglekit.show.plots import worst_targets

RNG = np.random.default_rng(0)
ROWS = np.arange(120)


def test_each_class_has_its_scores_and_what_it_is_taken_for(task):
    truth = np.array([0, 0, 0, 1, 1, 2])
    table = report(task("multiclass"), truth, np.eye(3)[[0, 1, 1, 1, 1, 1]])
    assert list(table.index) == ["bad", "mixed", "good"]
    assert table.loc["mixed", ["precision", "recall", "F1"]].tolist() == pytest.approx([2 / 5, 1, 4 / 7])
    assert table["rows"].tolist() == [3, 2, 1] and table["predicted"].tolist() == [1, 5, 0]
    assert table["most taken for"].tolist() == ["mixed (2)", "", "mixed (1)"]
    assert table["F1"].mean() == pytest.approx(f1_score(truth, [0, 1, 1, 1, 1, 1], average="macro"))


def test_of_many_classes_the_worst_come_first_and_of_stars_none(task):
    names, truth = [f"c{k}" for k in range(40)], np.arange(80) % 40
    given = np.where(truth == 17, 3, truth)
    assert report(task("multiclass", classes=names), truth, np.eye(40)[given]).index[0] == "c17"
    stars = report(task("ordinal", classes=names), truth, given[:, None].astype(float))
    assert list(stars.index) == names and stars.loc["c17", "most taken for"] == "c3 (2)"


def test_labels_and_targets_have_scores_of_their_own(task):
    truth = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=np.float32)
    table = report(task("multilabel"), truth, np.array([[0.9, 0.1], [0.6, 0.2], [0.4, 0.2], [0.1, 0.7]]))
    assert table.loc["x", ["precision", "recall", "ROC AUC"]].tolist() == [0.5, 0.5, 0.75]
    assert np.isnan(table.loc["y", "ROC AUC"]) and table["predicted"].tolist() == [2, 1]
    alone = report(task("multilabel", labels=["x"]), truth[:, :1], np.array([[0.9], [0.6], [0.4], [0.1]]))
    assert alone.loc["x"].tolist() == table.loc["x"].tolist()
    values = np.array([[1.0], [2.0], [3.0]])
    table = report(task("regression"), values[:, 0], values + np.array([[0], [1], [-2]]))
    assert table.loc["label", ["RMSE", "MAE", "mean error"]].tolist() == pytest.approx([np.sqrt(5 / 3), 1, -1 / 3])


def test_what_does_not_fit_the_kind_of_task_is_not_drawn(task):
    assert spread_by_class(task("regression"), ROWS, ROWS[:, None]) is None
    assert residual_parts(task("binary"), ROWS % 2, np.eye(2)[ROWS % 2], None) is None
    assert oof_and_test(task("binary"), np.eye(2), np.zeros((2, 0, 2))) is None
    assert part_scores(pd.DataFrame(columns=["rows", "score", "low", "high"]), 0.5, "accuracy") is None


def test_a_section_without_anything_is_not_shown(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    section("## Nothing", None, pd.DataFrame())
    assert shown == []
    section("## Something", None, pd.DataFrame({"a": [1]}))
    assert [type(thing).__name__ for thing in shown] == ["Markdown", "DataFrame"]


@pytest.fixture
def competition(tmp_path):
    texts = ["good film " * (1 + row % 10) for row in ROWS]
    train = pd.DataFrame({"id": ROWS, "text": texts, "label": np.where(ROWS % 3, "no", "yes")})
    train["source"] = np.where(ROWS < 105, "news", "blog")
    train["page"], train["nothing"] = [f"p{row}" for row in ROWS], ""
    train["city"] = [f"city {row % 30}" if row % 2 else "广州" for row in ROWS]
    train.to_csv(tmp_path / "train.csv", index=False)
    train.drop(columns=["label", "source"]).to_csv(tmp_path / "test.csv", index=False)
    train[["id"]].assign(label="no").to_csv(tmp_path / "sample_submission.csv", index=False)
    task, _ = infer(tmp_path, text="text")
    train = read_train(task)
    return task, train, encode_labels(task, train)


def test_scores_are_parted_by_length_and_by_every_column_of_few_values(competition):
    task, train, truth = competition
    found = find_parts(task, train, ROWS)
    assert list(found) == ["length", "source", "city"]
    assert found["length"].value_counts().tolist() == [24] * 5
    assert list(found["source"].cat.categories) == ["news", "blog"]
    assert found["city"].cat.categories[0] == "广州" and found["city"].cat.categories[-1].endswith(" others")
    probs = np.eye(2)[np.where(ROWS < 110, truth, 1 - truth)]
    table = score_parts(task, truth, probs, found)
    news, blog = table.loc[("source", "news")], table.loc[("source", "blog")]
    assert news["score"] == score(task.metric, truth[:105], probs[:105]) and news["rows"] == 105
    assert blog["rows"] == 15 and np.isnan(blog["low"])  # too few for an interval
    assert (table["low"].dropna() <= table["score"][table["low"].notna()]).all()
    words = [text.get_text() for text in part_scores(table, 0.9, task.metric).axes[0].texts]
    assert any("15 rows, few" in word for word in words)
    half = find_parts(task, train, ROWS[105:])
    assert "source" not in half and len(half["length"]) == 15  # of these rows alone


@pytest.mark.parametrize(
    "numbers", [[1] * 9, [1, 1, 1, 1, 9], [0.5, 0.5, 0.25], [3], list(range(7)), [1, 2] * 50 + [3]]
)
def test_fifths_hold_every_row_whatever_the_numbers_are(numbers):
    part = _fifths(np.array(numbers))
    assert part.notna().all() and len(part) == len(numbers) and 1 <= part.nunique() <= 5
    assert part.groupby(part, observed=False).size().min() > 0


def test_an_empty_value_and_one_that_is_called_so_are_one_part():
    part = _values(pd.Series(["", "(empty)", "a", "a", "", "a"]))
    assert part.value_counts().to_dict() == {"a": 3, "(empty)": 3}


def test_a_part_on_which_the_metric_is_not_defined_has_no_score(task):
    part = {"by": pd.Series(pd.Categorical(["a"] * 30 + ["b"] * 30))}
    truth = np.array([0, 1] * 15 + [1] * 30)
    table = score_parts(task("binary"), truth, np.eye(2)[truth], part)
    assert table["score"].tolist()[0] == 1 and np.isnan(table["score"].iloc[1])


def test_the_worst_targets_are_chosen_in_units_of_their_spread():
    truth = RNG.normal(size=(50, 9)) * np.arange(1, 10)
    given = truth.copy()
    given[:, [2, 7]] += truth.std(axis=0)[[2, 7]]
    assert worst_targets(truth, given, 2) == [2, 7]
