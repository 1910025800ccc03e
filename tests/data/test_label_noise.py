from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from kagglekit.competition.read import read_table
from kagglekit.data.label_noise import confident_classes, show_suspects, suspect_labels, write_suspects


def noisy_classes(n=600, classes=3, share=0.1, seed=0):
    """Labels of which a share is wrong, probabilities of a model that learned from others of them, which are wrong, and
    the true ones."""
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, n)
    points = np.eye(classes)[true] * 3 + random.normal(size=(n, classes))
    wrong = random.random(n) < share
    labels = np.where(wrong, (true + random.integers(1, classes, n)) % classes, true)
    probs = cross_val_predict(LogisticRegression(), points, labels, cv=5, method="predict_proba")
    return labels, probs, wrong, true


def confident_joint(labels, probs):
    """How many rows with the label i are confidently class j (classes, classes)."""
    classes, confident = confident_classes(labels, probs)
    joint = np.zeros((probs.shape[1],) * 2, dtype=int)
    np.add.at(joint, (labels[confident], classes[confident]), 1)
    return joint


@pytest.mark.parametrize("classes", [2, 3])
def test_planted_wrong_classes_are_found(classes):
    labels, probs, wrong, true = noisy_classes(classes=classes)
    found = suspect_labels("binary" if classes == 2 else "multiclass", labels, probs)
    hits = wrong[found["row"]]
    assert hits.mean() > 0.9 and hits.sum() / wrong.sum() > 0.6  # by chance: 0.1 of what is found
    assert hits[:30].mean() > 0.95 and found["score"].is_monotonic_decreasing
    assert (found["suggested"] == true[found["row"]])[hits].mean() > 0.9
    assert (found["label"] == labels[found["row"]]).all() and (found["suggested"] != found["label"]).all()


def test_the_joint_says_how_often_classes_are_mistaken():
    labels, probs, _, true = noisy_classes(3000)
    joint = confident_joint(labels, probs)
    counted = np.zeros((3, 3))
    np.add.at(counted, (labels, true), 1)
    assert np.abs(joint / joint.sum() - counted / counted.sum()).max() < 0.02


@pytest.mark.skipif(find_spec("cleanlab") is None, reason="cleanlab is not installed")
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classes_are_suspected_as_cleanlab_does(classes):
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    labels, probs, *_ = noisy_classes(classes=classes, share=0.2)
    options = {"filter_by": "confident_learning", "return_indices_ranked_by": "normalized_margin", "n_jobs": 1}
    expected = find_label_issues(labels, probs, **options)
    found = suspect_labels("multiclass", labels, probs)["row"].to_numpy()
    assert (np.sort(found) == np.sort(expected)).all() and (found == expected).mean() > 0.9
    assert (confident_joint(labels, probs) == compute_confident_joint(labels, probs, calibrate=False)).all()


def test_a_class_the_model_is_never_sure_of_is_not_suspect_as_a_whole():
    labels = np.array([0] * 90 + [1] * 10)
    probs = np.column_stack([1 - labels * 0.4, labels * 0.4])
    assert suspect_labels("binary", labels, probs).empty  # though all rows of class 1 are predicted to be 0


def test_each_label_of_a_row_is_suspected_by_itself():
    (a, p, wrong_a, _), (b, q, wrong_b, _) = (noisy_classes(classes=2, seed=seed) for seed in (1, 2))
    found = suspect_labels("multilabel", np.column_stack([a, b]).astype(np.float32), np.column_stack([p, q])[:, [1, 3]])
    wrong = np.column_stack([wrong_a, wrong_b])[found["row"], found["column"]]
    assert wrong.mean() > 0.9 and wrong.sum() > 0.6 * (wrong_a.sum() + wrong_b.sum())
    alone = suspect_labels("binary", b, q)
    assert found.loc[found["column"] == 1, "row"].tolist() == alone["row"].tolist()


def test_outlying_values_are_found_in_units_of_their_column():
    random = np.random.default_rng(0)
    values = random.normal(size=(500, 2)) * [1, 100]
    labels = values + random.normal(size=(500, 2)) * [0.1, 10] + [5, 0]  # a constant shift is nobody's mistake
    labels[:10] += [1, 100]
    found = suspect_labels("regression", labels.astype(np.float32), values)
    assert set(zip(found["row"][:20], found["column"][:20], strict=True)) == {(r, c) for r in range(10) for c in (0, 1)}
    assert (found["score"] >= 3).all() and 6 < found["score"][:20].min() < found["score"].max() < 14
    assert np.allclose(found["suggested"], values[found["row"], found["column"]])
    assert len(suspect_labels("regression", labels, values, outlier=0)) == 1000
    assert suspect_labels("regression", labels, values, outlier=1e9).empty


def test_ordinal_labels_far_from_the_prediction_are_found_with_the_nearest_class():
    random = np.random.default_rng(0)
    true = random.integers(0, 5, 400)
    values = (true + random.normal(0, 0.3, 400)).reshape(-1, 1)
    labels = true.copy()
    labels[:20] = 4 - true[:20]
    found = suspect_labels("ordinal", labels, values)
    assert set(np.flatnonzero(np.abs(labels - true) > 1)) <= set(found["row"])
    assert (found["suggested"] == np.clip(np.rint(values[found["row"], 0]), 0, 4)).all()
    assert suspect_labels("ordinal", true, true.reshape(-1, 1), outlier=0).empty  # nothing else is nearer


def test_suspects_are_shown_with_what_the_file_says(task, tables):
    for kind in ("multiclass", "multilabel", "regression", "ordinal"):
        one, random = task(kind), np.random.default_rng(0)
        train, _ = tables(one, rows=60)
        labels = np.arange(60) % 3 if one.classes else np.zeros((60, len(one.labels)), dtype=np.float32)
        width = len(one.columns)
        predictions = np.full((60, width), 0.1) + random.random((60, width)) * 0.01
        if kind == "multiclass":
            predictions[np.arange(60), labels] = 0.8
        if kind == "ordinal":
            predictions += labels[:, None]
        predictions[7] = [0.9, 0.1, 0.0] if kind == "multiclass" else 2.0 if kind == "ordinal" else 0.9
        if kind == "multilabel":
            labels[8:12], predictions[8:12] = 1, 0.85
        found = show_suspects(one, train, labels, predictions, n=1)
        assert found["id"].tolist() == ["7"] and found["text"].tolist() == [train["text"][7]], kind
        assert ("column" in found) == (kind == "multilabel")
        expected = {"multiclass": ("mixed", "bad"), "ordinal": ("2", "3"), "multilabel": (0, 1)}.get(kind, (0, 0.9))
        assert tuple(found.loc[0, ["label", "suggested"]]) == expected
    assert list(found) == ["id", "label", "suggested", "score", "text"]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("multiclass", ["7", "mixed", "bad", "0.9", ""]),
        ("multilabel", ["7", "x", "0", "1", "0.9", ""]),
        ("regression", ["7", "100", "0.9", "87.637", ""]),
    ],
)
def test_suspects_are_written_to_be_edited_and_edits_stay(task, tables, tmp_path, kind, line):
    one, file = task(kind), tmp_path / "suspects.csv"
    train, _ = tables(one, rows=60)
    train.loc[7, "text"] = 'Größe; "so"\nlang ' * 20
    labels = np.arange(60) % 3 if kind == "multiclass" else np.zeros((60, len(one.labels)), dtype=np.float32)
    labels = labels + np.float32(100) if kind == "regression" else labels
    predictions = np.full((60, len(one.columns)), 0.1)
    if kind == "multiclass":
        predictions[np.arange(60), labels] = 0.8
    if kind == "multilabel":
        labels[8:12, 0], predictions[8:12, 0] = 1, 0.85
    if kind == "regression":
        predictions[:, 0] = 100 + np.linspace(-1.5, 1.5, 60)
    predictions[7, 0] = 0.9
    said = write_suspects(file, one, train, labels, predictions)
    assert said.startswith("1 labels in 60 rows look wrong") and said.endswith(f"fixes={file}")
    assert file.read_bytes().startswith(b"\xef\xbb\xbfid,")
    table = read_table(file)
    assert list(table)[-1] == "fix" and table.drop(columns="text").to_numpy().tolist() == [line]
    assert table["text"][0] == ('Größe; "so" lang ' * 20)[:100]
    file.write_text(file.read_text(encoding="utf-8-sig").rstrip() + "1\n")
    assert write_suspects(file, one, train, labels, predictions) == f"{file} has 1 fixes and stays as it is."
    assert read_table(file)["fix"].tolist() == ["1"]
    known = {("7", one.labels[0]): "1", ("20", one.labels[0]): "<drop>"}  # what a run has learned comes again
    write_suspects(file, one, train, labels, predictions, known)
    table = read_table(file)
    assert table[["id", "fix"]].to_numpy().tolist() == [["7", "1"], ["20", "<drop>"]]
    assert table["text"][1] == train["text"][20][:100] and table["predicted"][1] == ""
    assert kind != "multilabel" or table["column"].tolist() == ["x", "x"]


def test_a_file_without_suspects_is_written_again(task, tables, tmp_path):
    one = task("multiclass")
    train, _ = tables(one, 60)
    labels = np.arange(60) % 3
    for _ in range(2):
        said = write_suspects(tmp_path / "suspects.csv", one, train, labels, np.eye(3)[labels])
        assert said == "No label looks wrong."


def test_what_does_not_fit_is_refused(task):
    labels, probs = np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]])
    with pytest.raises(ValueError, match="row 1 has no prediction"):
        suspect_labels("binary", labels, probs)
    with pytest.raises(ValueError, match="do not fit a multilabel task"):
        suspect_labels("multilabel", labels, probs)
    with pytest.raises(ValueError, match="do not fit"):
        suspect_labels("binary", np.array([0, 2]), np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="outlier"):
        suspect_labels("regression", labels, np.zeros((2, 1)), outlier=-1)
    with pytest.raises(ValueError, match="kind"):
        suspect_labels("ranking", labels, np.zeros((2, 1)))
    with pytest.raises(ValueError, match="train has 1 rows"):
        show_suspects(task("binary"), pd.DataFrame({"id": ["1"], "text": [""]}), labels, probs)
