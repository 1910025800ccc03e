"""Folders of predictions that were made elsewhere."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.imported.read import read_imported
from kagglekit.ensembling.stack import Stack
from kagglekit.scoring.metrics import score

N, CLASSES = 40, ["bad", "good", "ugly"]
IDS = [f"{row:03}" for row in range(N)]
LABELS = [CLASSES[row % 3] for row in range(N)]


def probabilities(seed=0, n=N, columns=3):
    return np.random.default_rng(seed).dirichlet(np.ones(columns), n).round(3)


def write(path, ids=IDS, columns=CLASSES, values=None, shuffle=None, **others):
    """One file of predictions, its rows shuffled."""
    values = probabilities(n=len(ids), columns=len(columns)) if values is None else values
    table = pd.DataFrame({"id": ids} | others | dict(zip(columns, np.asarray(values).T, strict=True)))
    table = table if shuffle is None else table.sample(frac=1, random_state=shuffle)
    sep = "\t" if path.name.endswith(".tsv") else ","
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False, sep=sep)


def make_folder(folder, models=("a.csv", "b.tsv", "c.parquet")):
    for number, name in enumerate(models):
        write(folder / name, values=probabilities(number), shuffle=number)
    write(folder / "labels.csv", columns=[], values=np.zeros((N, 0)), label=LABELS)
    return folder


def test_files_in_any_order_and_format_become_runs_on_the_same_rows(tmp_path):
    imported = read_imported(make_folder(tmp_path))
    assert (imported.task.kind, imported.task.metric, imported.task.classes) == ("multiclass", "log_loss", CLASSES)
    assert [run.name for run in imported.runs] == ["a", "b", "c"]
    for number, run in enumerate(imported.runs):
        assert run.oof["id"].tolist() == IDS  # "007" stays "007"
        expected = probabilities(number)
        np.testing.assert_allclose(run.oof_array, expected / expected.sum(axis=1, keepdims=True), atol=1e-6)
        assert run.oof["fold"].equals(imported.folds["fold"])
        assert {k: test.shape for k, test in run.tests.items()} == dict.fromkeys(range(5), (0, 3))
    assert imported.labels.tolist() == [row % 3 for row in range(N)]
    assert imported.made and imported.folds.columns.tolist() == ["id", "fold", "group", "forward"]
    assert imported.found["what"].tolist()[:4] == ["models", "kind", "columns", "metric"]


def test_runs_from_elsewhere_can_be_stacked(tmp_path):
    imported = read_imported(make_folder(tmp_path))
    members = np.stack([run.oof_array for run in imported.runs]).astype(np.float64)
    inputs = StackInput(members, imported.task.kind, imported.task.metric)
    stack = Stack().fit(inputs, imported.labels, imported.folds["fold"].to_numpy())
    assert np.isfinite(score(imported.task.metric, imported.labels, stack.predict(inputs)))


def test_labels_folds_and_groups_may_stand_in_the_models_files(tmp_path):
    folds = np.arange(N) % 4
    groups = [f"g{row % 8}" for row in range(N)]
    write(tmp_path / "a.csv", label=LABELS, fold=folds, group=groups)
    write(tmp_path / "b.csv", shuffle=1)
    imported = read_imported(tmp_path)
    assert not imported.made and imported.folds["fold"].tolist() == folds.tolist()
    assert imported.folds["group"].tolist() == [row % 8 for row in range(N)] and imported.task.group == "group"


def test_a_metric_by_group_reads_the_groups_of_the_files_and_no_other_column(tmp_path):
    write(tmp_path / "a.csv", label=LABELS, group=[f"g{row % 8}" for row in range(N)])
    imported = read_imported(tmp_path, metric="log_loss_by:group")
    assert imported.labels.by.tolist() == [row % 8 for row in range(N)]
    alone = [score("log_loss", np.asarray(imported.labels)[k::8], imported.runs[0].oof_array[k::8]) for k in range(8)]
    assert score("log_loss_by:group", imported.labels, imported.runs[0].oof_array) == pytest.approx(np.mean(alone))
    with pytest.raises(ValueError, match=r"give 'topic' that name in labels.csv or in a file, and say metric=log_loss"):
        read_imported(tmp_path, metric="log_loss_by:topic")


def test_folds_that_are_made_keep_groups_together(tmp_path):
    groups = [str(row // 2) for row in range(N)]
    write(tmp_path / "a.csv", label=LABELS, group=groups)
    folds = read_imported(tmp_path, n_folds=3).folds
    assert folds.groupby("group")["fold"].nunique().max() == 1 and folds["fold"].nunique() == 3


def test_test_predictions_are_joined_by_id(tmp_path):
    make_folder(tmp_path, ("a.csv", "b.csv"))
    tests = {"a": probabilities(5, 7), "b": probabilities(6, 7)}
    ids = [f"t{row}" for row in range(7)]
    for number, (name, values) in enumerate(tests.items()):
        write(tmp_path / f"{name}.test.csv", ids, values=values, shuffle=number)
    for run in read_imported(tmp_path).runs:
        table = pd.DataFrame(run.test_mean, index=run.test_ids).loc[ids].to_numpy()
        np.testing.assert_allclose(table, tests[run.name] / tests[run.name].sum(axis=1, keepdims=True), atol=1e-6)


def test_one_column_is_the_probability_of_the_second_class(tmp_path):
    values = probabilities(columns=2)[:, :1]
    write(tmp_path / "a.csv", columns=["prob"], values=values, target=np.arange(N) % 2)
    write(tmp_path / "b.csv", columns=["p1"], values=values)
    imported = read_imported(tmp_path)
    assert (imported.task.kind, imported.task.classes, imported.task.columns) == ("binary", ["0", "1"], ["0", "1"])
    for run in imported.runs:
        np.testing.assert_allclose(run.oof_array, np.column_stack([1 - values, values]), atol=1e-6)


def test_a_label_may_be_written_as_another_form_of_the_same_number(tmp_path):
    write(tmp_path / "a.csv", columns=["0", "1"], label=[f"{row % 2}.0" for row in range(N)])
    assert read_imported(tmp_path).labels.tolist() == [row % 2 for row in range(N)]


@pytest.mark.parametrize("prefix", ["", "label_"])
def test_several_labels_are_read_by_name(tmp_path, prefix):
    labels = np.random.default_rng(0).integers(0, 2, (N, 2))
    values = np.random.default_rng(1).random((N, 2))
    write(tmp_path / "a.csv", columns=["rude", "loud"], values=values)
    write(tmp_path / "labels.csv", columns=[f"{prefix}loud", f"{prefix}rude"], values=labels)
    imported = read_imported(tmp_path)
    assert (imported.task.kind, imported.task.columns, imported.task.metric) == (
        "multilabel",
        ["loud", "rude"],
        "roc_auc",
    )
    np.testing.assert_allclose(imported.labels, labels)
    np.testing.assert_allclose(imported.runs[0].oof_array, values[:, ::-1], atol=1e-6)


def test_ordered_classes_are_read_on_the_scale_of_the_labels(tmp_path):
    labels = [(1, 2, 4)[row % 3] for row in range(N)]  # no row is a 3
    write(tmp_path / "a.csv", columns=["pred"], values=np.array(labels)[:, None] + 0.25, label=labels)
    imported = read_imported(tmp_path, metric="qwk", n_folds=3)
    assert (imported.task.kind, imported.task.classes) == ("ordinal", ["1", "2", "3", "4"])
    np.testing.assert_allclose(imported.runs[0].oof_array[:, 0], np.array(labels) - 1 + 0.25)
    assert imported.labels.tolist() == [label - 1 for label in labels]


def test_numbers_are_regression(tmp_path):
    values = np.random.default_rng(0).normal(size=(N, 1))
    write(tmp_path / "a.csv", columns=["pred"], values=values, target=values[:, 0] + 0.1)
    imported = read_imported(tmp_path)
    assert (imported.task.kind, imported.task.metric) == ("regression", "rmse")
    assert score("rmse", imported.labels, imported.runs[0].oof_array) == pytest.approx(0.1, abs=1e-5)


def with_cell(row, column, value):
    """The first model's values, with another one in a cell."""
    values = probabilities().astype(object)
    values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ids": IDS[:-1]}, r"a.csv has no row with id '039', and labels.csv has \(1 such"),
        ({"ids": [*IDS, "x1"]}, "labels.csv has no row with id 'x1', and a.csv has"),
        (
            {"ids": ["001", *IDS[1:]]},
            r"a.csv: the value of column 'id' in data row 2 \(id '001'\) stands in an earlier",
        ),
        ({"ids": ["", *IDS[1:]]}, "'id' in data row 1 .* is empty"),
        (
            {"values": with_cell(4, 1, "")},
            r"a.csv: column 'good' holds '' in data row 5 \(id '004'\), which is no number",
        ),
        ({"values": with_cell(4, 1, "nan")}, "column 'good' holds 'nan'"),
        ({"values": with_cell(4, 1, "inf")}, "column 'good' holds 'inf'"),
        ({"values": with_cell(4, 2, 3.5)}, r"a.csv: column 'ugly' holds 3.5 in data row 5 \(id '004'\).*softmax"),
        ({"values": probabilities() * 0.9}, r"probabilities of data row 1 \(id '000'\) are 0.9 in sum"),
        ({"columns": ["bad", "good", "best"]}, "a.csv has the column 'best' and b.csv has not"),
        ({"": range(1, N + 1)}, "a.csv has the column 'column 2' and b.csv has not"),
        ({"label": LABELS[::-1]}, "labels.csv and a.csv differ in the label 'label' of id '001'"),
        ({"label_x": LABELS}, "labels.csv has the labels label, and a.csv has x"),
        ({"fold": ["one"] * N}, "'fold' holds 'one' for id '000'"),
        ({"fold": [0] * N}, "holds one fold"),
        ({"fold": np.arange(N) % 2, "group": ["g"] * N}, "the folds split the group 'g'"),
        ({"columns": [], "values": np.zeros((N, 0))}, "a.csv has no predictions"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, changed, words):
    make_folder(tmp_path, ("a.csv", "b.csv"))
    write(tmp_path / "a.csv", **changed)
    with pytest.raises(ValueError, match=words):
        read_imported(tmp_path)


def test_labels_that_do_not_fit_are_named(tmp_path):
    write(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"holds the labels: add labels.csv"):
        read_imported(tmp_path)
    write(tmp_path / "labels.csv", columns=[], values=np.zeros((N, 0)), label=["nice", *LABELS[1:]])
    with pytest.raises(ValueError, match=r"column 'label' holds 'nice' in data row 1 \(id '000'\)"):
        read_imported(tmp_path)
    write(tmp_path / "labels.csv", columns=[], values=np.zeros((N, 0)), label=["", *LABELS[1:]])
    with pytest.raises(ValueError, match=r"'label' has no value in data row 1"):
        read_imported(tmp_path)
    write(tmp_path / "labels.csv", columns=["x", "y"], values=(np.arange(2 * N).reshape(N, 2) % 3 == 0).astype(int))
    with pytest.raises(
        ValueError, match=r"a.csv predicts bad, good, ugly, and the labels of labels.csv are x, y: 'bad'"
    ):
        read_imported(tmp_path)


def test_other_columns_than_a_column_of_labels_are_not_read(tmp_path):
    make_folder(tmp_path, ("a.csv",))
    write(tmp_path / "labels.csv", columns=[], values=np.zeros((N, 0)), text=["a text"] * N, label=LABELS)
    assert read_imported(tmp_path).task.labels == ["label"]


def test_test_files_that_do_not_fit_are_named(tmp_path):
    make_folder(tmp_path, ("a.csv", "b.csv"))
    write(tmp_path / "a.test.csv", ["t1", "t2"])
    with pytest.raises(ValueError, match=r"b.csv has no b.test.csv beside it"):
        read_imported(tmp_path)
    write(tmp_path / "b.test.csv", ["t1", "t3"])
    with pytest.raises(ValueError, match=r"b.test.csv has no row with id 't2', and a.test.csv has"):
        read_imported(tmp_path)
    (tmp_path / "b.test.csv").rename(tmp_path / "d.test.csv")
    with pytest.raises(ValueError, match=r"d.test.csv holds the test predictions of no model"):
        read_imported(tmp_path)


def test_an_empty_folder_and_one_that_is_not_there_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(FileNotFoundError, match=r"no table of predictions.*notes.txt"):
        read_imported(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_imported(tmp_path / "gone")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("binary", "2 classes"),
        ("ordinal", "wants a number"),
        ("regression", "wants a number"),
        ("ranking", "it must be one of binary"),
    ],
)
def test_a_kind_that_does_not_fit_is_refused(tmp_path, kind, words):
    with pytest.raises(ValueError, match=words):
        read_imported(make_folder(tmp_path), kind=kind)


def test_folds_that_are_written_with_and_without_a_point_agree(tmp_path):
    write(tmp_path / "a.csv", label=LABELS, fold=[float(row % 4) for row in range(N)])
    write(tmp_path / "b.csv", fold=[row % 4 for row in range(N)])
    assert read_imported(tmp_path).folds["fold"].tolist() == [row % 4 for row in range(N)]


def test_predictions_may_be_called_as_in_a_submission_where_the_labels_have_their_own_file(tmp_path):
    truth, predicted = np.linspace(0, 7, N), np.linspace(1, 6, N)
    write(tmp_path / "labels.csv", columns=["target"], values=truth[:, None])
    write(tmp_path / "a.csv", columns=["target"], values=predicted[:, None])
    write(tmp_path / "a.test.csv", ids=["t1", "t2"], columns=["target"], values=[[1.5], [2.5]])
    imported = read_imported(tmp_path)
    np.testing.assert_allclose(imported.labels.ravel(), truth, rtol=1e-6)
    np.testing.assert_allclose(imported.runs[0].oof_array.ravel(), predicted, rtol=1e-6)
    assert imported.runs[0].tests[0].ravel().tolist() == [1.5, 2.5]


def test_a_class_with_fewer_rows_than_folds_is_no_hindrance(tmp_path):
    labels = ["rare", *LABELS[1:]]
    write(tmp_path / "a.csv", columns=[*CLASSES, "rare"], label=labels)
    imported = read_imported(tmp_path)
    assert (imported.labels == 3).sum() == 1 and imported.folds["fold"].value_counts().tolist() == [8] * 5


def test_a_text_that_would_be_taken_for_a_label_is_named(tmp_path):
    make_folder(tmp_path)
    write(tmp_path / "labels.csv", columns=[], values=np.zeros((N, 0)), topic=["a", "b"] * 20, text=["words"] * N)
    with pytest.raises(ValueError, match=r"topic, text are taken for labels.*call the column of the label 'label'"):
        read_imported(tmp_path)
