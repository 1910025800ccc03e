"""Predictions as teams write them: arrays, tables without ids, logits, habits of names; and what must be asked for."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.imported.read import read_imported

N, CLASSES = 40, ["bad", "good", "ugly"]
IDS = [f"{row:03}" for row in range(N)]
LABELS = [CLASSES[row % 3] for row in range(N)]
SKILLED = 0.8 * np.eye(3)[[row % 3 for row in range(N)]] + 0.2 / 3  # in the order of CLASSES
SKILLED[::5] = 0.2, 0.5, 0.3
CODES = np.array([row % 3 for row in range(N)])
NAMED = pd.DataFrame(SKILLED, columns=CLASSES)


def table_of(values=SKILLED, columns=CLASSES, **first):
    return pd.DataFrame({**first, **dict(zip(columns, np.asarray(values).T, strict=True))})


def folder_of(folder, **files):
    """Files by name, in which two signs _ stand for a point; arrays as .npy, dictionaries as .npz, tables as CSV."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        if isinstance(content, dict):
            np.savez(path.with_name(path.name + ".npz"), **content)
        elif isinstance(content, np.ndarray):
            np.save(path.with_name(path.name + ".npy"), content)
        elif path.suffix == ".parquet":
            content.to_parquet(path, index=False)
        else:
            content.to_csv(path.with_name(path.name + ".csv"), index=False)
    return folder


LABEL_TABLE = pd.DataFrame({"id": IDS, "label": LABELS})
SHAPES = {  # files -> what is told
    "another id": (
        {
            "a": table_of(essay_id=IDS),
            "b": table_of(essay_id=IDS)[::-1],
            "labels": LABEL_TABLE.rename(columns={"id": "essay_id"}),
        },
        ("id", "essay_id"),
    ),
    "an id in capitals": ({"a": table_of(ID=IDS), "labels": LABEL_TABLE.rename(columns={"id": "Id"})}, None),
    "the number of the column": (
        {"a": table_of(id=IDS, label=CODES), "b": table_of(id=IDS)[["id", "ugly", "bad", "good"]]},
        ("classes", "'0' is column 'bad', '1' is column 'good', '2' is column 'ugly'"),
    ),
    "the number of the column, from 1": ({"a": table_of(id=IDS, label=CODES + 1)}, ("classes", "'1' is column 'bad'")),
    "the number of the class by alphabet, columns in another order": (
        {"a": table_of(SKILLED[:, [2, 0, 1]], ["ugly", "bad", "good"], id=IDS, label=CODES)},
        ("classes", "'0' is column 'bad'"),
    ),
    "labels beside the predictions": ({"a": table_of(id=IDS, kind=LABELS), "b": table_of(id=IDS)}, ("labels", "kind")),
    "prefixes and case": (
        {
            "a": table_of(id=IDS, columns=["prob_Bad", "prob_Good", "prob_Ugly"]),
            "b": table_of(id=IDS),
            "labels": LABEL_TABLE,
        },
        None,
    ),
    "numbered columns": (
        {"a": table_of(id=IDS, columns=["prob_0", "prob_1", "prob_2"]), "labels": LABEL_TABLE},
        ("classes", "'bad' is column 'prob_0'"),
    ),
    "arrays": ({"oof_a": SKILLED.astype(np.float16), "labels": LABEL_TABLE}, ("rows", "by their order")),
    "arrays and a label that is a number": ({"a": SKILLED, "y_true": CODES}, ("labels", "y_true.npy")),
    "an archive of arrays": (
        {"a": {"ids": np.array(IDS), "oof": SKILLED, "test": SKILLED[:2]}, "labels": LABEL_TABLE},
        None,
    ),
    "no ids": ({"a": NAMED, "b": NAMED, "labels": LABEL_TABLE[["label"]]}, ("rows", "by their order")),
    "logits": ({"a": table_of(np.log(SKILLED.clip(1e-3)) + 7, id=IDS), "labels": LABEL_TABLE}, ("a.csv", "logits")),
    "words": (
        {"a": table_of(id=IDS).assign(text="some words"), "labels": LABEL_TABLE.assign(text="x")},
        ("column 'text'", "left out"),
    ),
    "rows that nobody predicts": (
        {"a": table_of(id=IDS), "labels": pd.concat([LABEL_TABLE, pd.DataFrame({"id": ["x"], "label": ["bad"]})])},
        ("rows left out", "1"),
    ),
    "an index": (
        {"a": table_of(**{"": range(N)}, id=IDS), "labels": LABEL_TABLE},
        ("column 1 of a.csv", "has no name"),
    ),
}


@pytest.mark.parametrize(("files", "told"), SHAPES.values(), ids=SHAPES)
def test_predictions_are_read_as_teams_write_them(tmp_path, files, told):
    imported = read_imported(folder_of(tmp_path, **files))
    names = [str(k) for k in range(3)] if "y_true" in files else CLASSES
    assert imported.task.classes == names or imported.task.classes == ["ugly", "bad", "good"]
    order = [imported.task.classes.index(name) for name in names]
    for run in imported.runs:
        truth = np.asarray(imported.labels)
        assert [imported.task.classes[k] for k in truth] == [names[code] for code in CODES]
        np.testing.assert_allclose(
            run.oof_array[:, order], SKILLED, atol=3e-3 if "oof_a" in files or told == ("a.csv", "logits") else 1e-6
        )
    found = imported.found[["what", "found"]].apply(tuple, axis=1).tolist()
    assert told is None or any(what == told[0] and said.startswith(told[1]) for what, said in found), found


TEST = table_of(SKILLED[:3], id=["t1", "t2", "t3"])


@pytest.mark.parametrize(
    "files",
    [
        {"a": table_of(id=IDS), "a__test": TEST},
        {"oof_a": table_of(id=IDS), "test_a": TEST[::-1]},
        {"a-oof": table_of(id=IDS), "sub-a": TEST},
        {"oof": table_of(id=IDS), "submission": TEST},
        {"oof_preds_a": table_of(id=IDS), "test_preds_a": TEST.rename(columns={"id": "ID"})},
        {"a": pd.concat([TEST, table_of(id=IDS)])},
        {"oof_a": SKILLED, "test_a": SKILLED[:3]},
        {"a": {"oof_preds": SKILLED, "test_preds": SKILLED[:3]}},
    ],
)
def test_predictions_of_test_are_found_by_names_and_ids(tmp_path, files):
    (run,) = read_imported(folder_of(tmp_path, labels=LABEL_TABLE, **files)).runs
    rows = {name: row for row, name in enumerate(run.test_ids)}
    places = [rows[name] for name in (["t1", "t2", "t3"] if "t1" in rows else ["0", "1", "2"])]
    np.testing.assert_allclose(run.test_mean[places], SKILLED[:3], atol=1e-6)


def test_what_was_guessed_can_be_said(tmp_path):
    folder_of(tmp_path, a=table_of(doc="x1", key=IDS, mark=CODES), b=table_of(doc="x1", key=IDS)[::-1])
    imported = read_imported(tmp_path, id="key", labels=["mark"], classes=["ugly", "good", "bad"])
    assert imported.runs[0].oof["id"].tolist() == IDS
    assert [imported.task.classes[k] for k in imported.labels[:3]] == ["ugly", "good", "bad"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": SKILLED[:-1], "labels": LABEL_TABLE}, r"a.npy has 39 rows and no column of ids, and labels.csv has 40"),
        ({"a": {"x": SKILLED, "y": SKILLED}, "labels": LABEL_TABLE}, r"a.npz holds the arrays x, y: there must be one"),
        ({"a": np.array(LABELS), "labels": LABEL_TABLE}, r"a.npy holds an array of shape \(40,\)"),
        ({"a": table_of(key=IDS), "labels": LABEL_TABLE}, r"a.csv has no column 'id', and labels.csv has"),
        (
            {"a": table_of(id=IDS, columns=["0", "1", "2"]), "labels": LABEL_TABLE.replace("good", "bad")},
            "say classes= in",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_asked_for(tmp_path, files, words):
    with pytest.raises(ValueError, match=words):
        read_imported(folder_of(tmp_path, **files))


def test_a_pickle_is_refused(tmp_path):
    pd.to_pickle(NAMED, folder_of(tmp_path, a=table_of(id=IDS, label=LABELS)) / "b.pkl")
    with pytest.raises(ValueError, match=r"b.pkl is a pickle, which can run code.*numpy.save"):
        read_imported(tmp_path)
