"""Metrics by the values of a column: the groups stay with their rows, and every way to score gives the same mean."""

import pickle

import numpy as np
import pytest
from sklearn import metrics as sk

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.scoring.bootstrap import bootstrap_scores, standard_error
from kagglekit.scoring.check import check_metric, describe_groups
from kagglekit.scoring.grouped import LabelsBy
from kagglekit.scoring.metrics import find_metric, make_scorer, score
from tests.competition.shapes import competition
from tests.scoring.examples import COLUMNS, PAIRS, make_rows

every_pair = pytest.mark.parametrize(("metric", "kind"), PAIRS)


def by_part(kind, n=90, seed=0, **more):
    """Predictions (runs, n, columns), and labels whose rows are of three groups, the last with a single class."""
    predictions, labels = make_rows(kind, n, seed=seed, **more)
    parts = np.random.default_rng(seed).choice(["a", "b", "c"], n, p=[0.5, 0.4, 0.1])
    if kind in ("binary", "multiclass"):
        labels = np.where(parts == "c", 0, labels)
    return predictions, LabelsBy(labels, parts), parts


def mean_over_parts(metric, labels, predictions, parts):
    """The mean of the metric over the groups on which it is defined."""
    found = []
    for part in np.unique(parts):
        try:
            found.append(score(metric, np.asarray(labels)[parts == part], predictions[parts == part]))
        except ValueError:
            continue
    return np.mean(found) if found else np.nan


@every_pair
def test_the_score_is_the_mean_over_the_groups_on_which_it_is_defined(metric, kind):
    predictions, labels, parts = by_part(kind)
    if kind == "ordinal":
        labels[[np.argmax(parts == part) for part in "abc"]] = 4  # the highest label bounds what is decided
    wanted = [mean_over_parts(metric, labels, each, parts) for each in predictions]
    found = [score(f"{metric}_by:part", labels, each) for each in predictions]
    assert np.allclose(found, wanted, rtol=1e-12) and type(found[0]) is float
    scorer = make_scorer(f"{metric}_by:part", labels, COLUMNS[kind])
    assert np.allclose(scorer.sign * scorer.gains(scorer.view(predictions)), wanted, rtol=1e-9)
    mixed = scorer.gains(scorer.view(predictions), scorer.view(predictions[0]), 2)
    assert mixed[1] * scorer.sign == pytest.approx(
        score(f"{metric}_by:part", labels, (predictions[0] + predictions[1]) / 2)
    )


@pytest.mark.parametrize(("metric", "kind"), [pair for pair in PAIRS if pair[1] != "ordinal"])  # decided on all rows
def test_a_bootstrap_sample_has_the_score_of_its_rows(metric, kind):
    predictions, labels, parts = by_part(kind, 40, skills=[1.0])
    drawn = bootstrap_scores(f"{metric}_by:part", labels, predictions, n=6, seed=3)[:, 0]
    rng, wanted = np.random.default_rng(3), []
    for rows in rng.integers(40, size=(6, 40)):
        wanted.append(mean_over_parts(metric, labels[rows], predictions[0][rows], parts[rows]))
    assert np.allclose(drawn, wanted, rtol=1e-6, equal_nan=True)


def test_rows_keep_their_groups_and_all_else_is_an_array_without():
    labels = LabelsBy(np.arange(6) % 2, list("xxyyzz"))
    assert labels.by.tolist() == [0, 0, 1, 1, 2, 2]
    order = np.array([5, 0, 3])
    for rows in (order, order[:2], labels == 1, slice(None, None, 2), [4, 1]):
        assert labels[rows].by.tolist() == labels.by[np.asarray(rows) if not isinstance(rows, slice) else rows].tolist()
    assert pickle.loads(pickle.dumps(labels[order])).by.tolist() == [2, 0, 1]
    several = LabelsBy(np.eye(3), [7, 8, 7])
    assert several[[2, 1]].by.tolist() == [0, 1] and several[0].tolist() == [1, 0, 0]
    for other in (np.asarray(labels), labels + 0, np.sort(labels), labels[::-1] * 2, several[:, 0], labels.take(order)):
        with pytest.raises(ValueError, match="came without the column that says which rows belong together"):
            score("accuracy_by:part", other, np.eye(2)[np.zeros(len(other), int)])
    for plain in (labels == 1, labels * 2, labels.reshape(2, 3), labels.astype(float), several.mean(axis=0)):
        assert getattr(plain, "by", None) is None
    assert [type(each) for each in (labels.sum(), labels.max(), labels[2])] == [np.int64] * 3
    with pytest.raises(ValueError, match="3 labels do not go with 2 groups"):
        LabelsBy(np.arange(3), ["a", "b"])


def test_groups_of_one_class_are_counted_and_where_all_are_it_is_an_error():
    _, labels, _ = by_part("binary")
    found, reason = describe_groups("roc_auc_by:part", "binary", labels, 2)
    assert found == "3 values of part" and "; 1 have rows of one class alone" in reason
    assert "left out" not in describe_groups("log_loss_by:part", "binary", labels, 2)[1]
    alone = LabelsBy(np.array([0, 0, 1, 1]), list("aabb"))
    for call in (
        lambda: score("roc_auc_by:part", alone, np.eye(2)[alone]),
        lambda: make_scorer("roc_auc_by:part", alone, 2),
    ):
        with pytest.raises(ValueError, match="is not defined on any of the"):
            call()


BLENDED = {"roc_auc": "binary", "f1": "binary", "log_loss": "multiclass", "f1_macro": "multilabel", "qwk": "ordinal"}
BLENDED |= {"spearman": "regression"}


@pytest.mark.parametrize(("metric", "kind"), [(f"{name}_by:part", kind) for name, kind in BLENDED.items()])
def test_blends_thresholds_and_estimates_work_by_groups(metric, kind):
    predictions, labels, _ = by_part(kind, 60)
    folds, inputs = np.arange(60) % 3, StackInput(predictions, kind, metric)
    plan = BlendPlan(
        kind, metric, candidates=["mean"] if kind == "ordinal" else ["mean", "hill_climbing"], thresholds="auto"
    )
    estimate = make_estimate(plan.ensembler(), inputs, labels, folds, draws=20)
    assert estimate.mean_score == pytest.approx(score(metric, labels, predictions.mean(axis=0)))
    assert np.isfinite([estimate.cross_fitted, estimate.low, estimate.high]).all()
    assert standard_error(metric, labels, predictions[0], n=20) > 0


def test_names_by_group_are_known_and_checked_like_the_metric():
    assert find_metric("map@5_by:a:b").by == "a:b" and not find_metric("log_loss_by:x").higher_is_better
    with pytest.raises(ValueError, match="'rmse_by:x' does not fit kind='binary'"):
        check_metric("rmse_by:x", "binary")
    for name, hint in {
        "auc_by:x": "roc_auc_by:x",
        "roc_auc_by:": "roc_auc_by:COLUMN",
        "map_by:x": "map@3_by:x",
    }.items():
        with pytest.raises(ValueError, match=f"did you mean {hint}"):
            find_metric(name)


def test_the_column_is_read_with_train_and_its_groups_are_counted_in_the_findings(tmp_path):
    parts = {"sub": ["x", "x", "y", "y", "", " "]}
    folder = competition(
        tmp_path, {"label": ["a", "b", "a", "a", "b", "b"]}, train=parts, test={"sub": ["x", "y", "z"]}
    )
    task, findings = infer(folder, metric="roc_auc_by:sub", text=["text"])
    (told,) = findings[findings["what"] == "groups of the metric"].itertuples()
    assert told.found == "4 values of sub" and "; 3 have rows of one class alone" in told.reason
    assert "2 rows have an empty cell" in told.reason
    train, test = read_train(task), read_test(task)
    labels = encode_labels(task, train)
    assert labels.by.tolist() == [2, 2, 3, 3, 0, 1] and test["metric_by"].tolist() == ["x", "y", "z"]
    assert score(task.metric, labels, np.eye(2)[labels]) == 1.0
    for column in ("no_such", "label", "id"):
        with pytest.raises(ValueError, match=r"after _by: comes a column of train.csv: text, sub"):
            infer(folder, metric=f"roc_auc_by:{column}", text=["text"])


def bias_auc(labels, probs, groups):
    """As the host of Jigsaw Unintended Bias in Toxicity Classification writes it, group by group."""

    def area(rows):
        both = len(set(labels[rows])) == 2
        return sk.roc_auc_score(labels[rows], probs[rows]) if both else np.nan

    def power_mean(areas):
        areas = [one for one in areas if not np.isnan(one)]
        return (sum(one**-5 for one in areas) / len(areas)) ** (-1 / 5)

    within = [area(group) for group in groups]
    negative = [area((group & (labels == 0)) | (~group & (labels == 1))) for group in groups]
    positive = [area((group & (labels == 1)) | (~group & (labels == 0))) for group in groups]
    return 0.25 * sk.roc_auc_score(labels, probs) + 0.25 * sum(map(power_mean, (within, negative, positive)))


def test_bias_auc_is_that_of_the_host_of_its_rows_and_of_each_bootstrap_sample():
    (predictions,), labels = make_rows("binary", 80, skills=[0.7])
    rng = np.random.default_rng(3)
    groups = rng.random((3, 80)) < [[0.4], [0.2], [0.05]]
    cells = ["".join("1" if one else "0" for one in row) for row in groups.T]
    by, metric = LabelsBy(labels, cells), "bias_auc_by:male,female,other"
    wanted = bias_auc(labels, predictions[:, 1], groups)
    assert score(metric, by, predictions) == pytest.approx(wanted, abs=1e-12)
    assert make_scorer(metric, by, 2).gain(predictions) == pytest.approx(wanted, abs=1e-12)
    assert pickle.loads(pickle.dumps(by))[::-1].names.tolist() == by.names.tolist()
    drawn = bootstrap_scores(metric, by, [predictions], n=4)[:, 0]
    rng = np.random.default_rng(0)
    for value, rows in zip(drawn, rng.integers(80, size=(4, 80)), strict=True):
        assert value == pytest.approx(bias_auc(labels[rows], predictions[rows, 1], groups[:, rows]), abs=1e-9)


def test_bias_auc_worked_out_by_hand():
    labels, values = np.array([0, 1, 0, 1]), np.array([0.2, 0.6, 0.5, 0.4])
    by = LabelsBy(
        labels, ["1", "1", "0", "0"]
    )  # within: 1; others' positive 0.4 above own negative 0.2: 1; 0.6 above 0.5: 1
    predictions = np.column_stack([1 - values, values])
    assert score("bias_auc_by:a,b", by, predictions) == pytest.approx((3 / 4 + 3) / 4)
    by = LabelsBy(labels, ["01", "01", "10", "10"])  # of the first: within 0, which a power mean of -5 keeps
    assert score("bias_auc_by:a,b", by, predictions) == pytest.approx((3 / 4 + 0 + 1 + 1) / 4)


def test_columns_of_groups_that_share_rows_are_read_from_0_5_on(tmp_path):
    more = {"male": ["", "0.5", "1", "0.2"], "female": ["1", "1", "0.0", ""]}
    folder = competition(tmp_path, {"label": ["0", "1", "1", "0"]}, "0.5", train=more)
    task, findings = infer(folder, metric="bias_auc_by:male,female", form="probability")
    found = findings.set_index("what")["reason"]["groups of the metric"]
    assert found == "rows with 1, or 0.5 at least: male 2, female 2; a row may be of several, or of none"
    assert read_train(task)["metric_by"].tolist() == ["01", "11", "10", "00"]
    for metric, message in (
        ("bias_auc", "is over groups that share rows: name their columns, bias_auc_by:male,female"),
        ("bias_auc_by:male,x", "after _by: comes a column of train.csv"),
        ("roc_auc_by:male,female", "after _by: comes a column of train.csv"),
    ):
        with pytest.raises(ValueError, match=message):
            infer(folder, metric=metric, form="probability")
