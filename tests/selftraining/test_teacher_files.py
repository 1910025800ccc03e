"""Teachers from files: predictions of any model by id and fold, and every way in which one could leak."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from kagglekit.options import knobs_of, named
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.scoring.metrics import score
from kagglekit.selftraining.distiller import Distiller
from kagglekit.selftraining.teacher_files import read_teacher_file
from kagglekit.training.recipe import Recipe
from tests.selftraining.students import Counting

IDS, FOLD_OF, NAMES = [str(n) for n in range(24)], np.arange(24) % 3, ["bad", "mixed", "good"]
LOGITS = np.random.default_rng(0).normal(0, 2, (24, 3)).round(4)


def write(path, values=LOGITS, folds=None, ids=IDS, **more):
    """Write a file of predictions; folds: the models of these folds predict every row."""
    table = pd.DataFrame(values, columns=NAMES).assign(id=ids, **more)
    if folds is not None:
        table = pd.concat([table.assign(fold=fold) for fold in folds], ignore_index=True)
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_logits_and_probabilities_are_read_by_id_and_told_apart(task, tmp_path, ending):
    what, probs = task("multiclass"), softmax(LOGITS, axis=1)
    order = np.random.default_rng(1).permutation(24)
    for values, told in ((LOGITS, "logits, through a softmax,"), (probs.round(4), "probabilities")):
        path = write(tmp_path / f"t.{ending}", values[order], ids=np.array(IDS)[order], note="x")
        found = read_teacher_file(path, what, IDS, FOLD_OF, seen=False)
        assert told in found.told and found.told.endswith("of a model that never saw train")
        table = pd.DataFrame({"id": ["7", "0"]})
        assert np.allclose(found.predict(1, table), probs[[7, 0]], atol=1e-3) and np.allclose(
            found.oof, probs, atol=1e-3
        )
    labels = read_teacher_file(
        write(tmp_path / "m.csv", LOGITS).rename(tmp_path / "n.csv"),
        task("multilabel", labels=NAMES),
        IDS,
        FOLD_OF,
        False,
    )
    assert "sigmoid" in labels.told and np.allclose(labels.oof, 1 / (1 + np.exp(-LOGITS)), atol=1e-6)


def test_each_student_hears_of_the_model_that_did_not_learn_its_fold(task, tmp_path):
    values = np.concatenate([softmax(LOGITS + 9 * np.eye(3)[fold], axis=1) for fold in range(3)])
    table = pd.DataFrame(values, columns=NAMES).assign(id=IDS * 3, fold=np.repeat(range(3), 24))
    table.to_csv(tmp_path / "t.csv", index=False)
    found = read_teacher_file(tmp_path / "t.csv", task("multiclass"), IDS, FOLD_OF)
    assert found.folds == [0, 1, 2]
    for fold in range(3):
        others = pd.DataFrame({"id": np.array(IDS)[fold != FOLD_OF]})
        assert (found.predict(fold, others).argmax(axis=1) == fold).all()
    assert (found.oof.argmax(axis=1) == FOLD_OF).all()


BAD = {  # what is written, and what the error says
    "nobody says": (dict(), {}, r"predicts rows of train, and has no column 'fold': .* Say seen=False in"),
    "seen": (dict(), {"seen": True}, "is of a model that has learned the labels of train, each student's"),
    "both": (dict(folds=[0, 1, 2]), {"seen": False}, "seen=False is of a file without a column 'fold'"),
    "out of fold": (dict(fold=FOLD_OF), {}, r"data row 2 \(id '1'\) of train \(16 such rows\) only what"),
    "own rows": (dict(fold=(FOLD_OF + 1) % 3), {}, "by a model that did not learn fold 0: it needs"),
    "two folds": (dict(folds=[1, 2]), {"first": 0}, None),
    "missing": (dict(values=LOGITS[:22], ids=IDS[:22]), {"seen": False}, r"of data row 23 \(id '22'\)"),
    "twice": (dict(ids=["3", *IDS[1:]]), {"seen": False}, r"id '3' stands twice, again in data row 4"),
    "twice in a fold": (dict(folds=[0, 1, 1]), {}, r"id '0' of fold 1 stands twice, again in data row 49"),
    "nan": (dict(values=np.where(LOGITS[5, 1] == LOGITS, np.nan, LOGITS)), {"seen": False},
            r"column 'mixed' holds '' in data row 6 \(id '5'\), which is no number"),
    "endless": (dict(values=np.where(LOGITS.max() == LOGITS, np.inf, LOGITS)), {"seen": False}, "holds 'inf' in"),
    "shares": (dict(values=np.full((24, 3), 0.5)), {"seen": False}, r"are 1.5 in sum in data row 1 \(id '0'\)"),
    "percent": (dict(values=100 * softmax(LOGITS, axis=1)), {"seen": False}, "are 100 in sum in each row, .* percent"),
    "other ids": (dict(ids=[f"x{n}" for n in IDS]), {"seen": False}, "has no id of train: its first is 'x0', that"),
    "unknown fold": (dict(fold=7), {}, "column 'fold' holds '7', and folds.parquet has 0, 1, 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_leaks_or_is_damaged_names_the_row_and_what_to_do(task, tables, backbone, tmp_path, case):
    given, options, words = BAD[case]
    path, what = write(tmp_path / "t.csv", **given), task("multiclass")
    folds = pd.DataFrame({"id": IDS, "fold": FOLD_OF})
    learner = Counting(what, *tables(what), backbone, Recipe(max_length=24))
    options = {"teacher": str(path), **{name: value for name, value in options.items() if name == "seen"}}
    if words is None:  # folds that are there can be taught
        made = Distiller(learner, tmp_path, folds, options)
        assert made.teacher.folds == [1, 2]
        return
    with pytest.raises(ValueError, match=words):
        Distiller(learner, tmp_path, folds, options)


def test_a_student_learns_from_a_file_and_both_scores_are_told(task, tables, backbone, tmp_path, capsys):
    what, folds = task("multiclass"), pd.DataFrame({"id": IDS, "fold": FOLD_OF})
    path = write(tmp_path / "big.parquet", LOGITS)
    knobs = {"max_length": 24, "epochs": 1, "batch_size": 6, "learning_rate": 1e-2}
    learner = Counting(what, *tables(what), backbone, Recipe(**knobs))
    made = Distiller(learner, tmp_path, folds, {"teacher": str(path), "seen": False, "weight": 1.0})
    assert "teacher big.parquet: logits" in capsys.readouterr().out and not made.caution
    ours, held_out = np.flatnonzero(FOLD_OF != 0), np.flatnonzero(FOLD_OF == 0)
    fitted = made.fit(ours, held_out, tmp_path / "run" / "fold0", 0)
    worth = score("accuracy", made.labels[ours], softmax(LOGITS, axis=1)[ours])
    assert fitted.receipts["teacher"]["score of the labels on the training rows"] == pytest.approx(worth)
    own = score("accuracy", made.labels[held_out], softmax(LOGITS, axis=1)[held_out])
    assert made.describe(held_out, 0.5) == f"teacher {path}: accuracy {own:.4f} on the same rows; the student: 0.5000"
    crossing = write(tmp_path / "oof.csv", LOGITS, fold=FOLD_OF)
    warned = Distiller(learner, tmp_path, folds, {"teacher": str(crossing), "by": "oof"})
    assert "too good" in warned.caution and warned.settings["crosses"]


def test_a_teacher_with_the_ending_of_a_table_is_a_file_and_no_run():
    knobs = knobs_of(TrainingRun).values()
    for teacher, kind in (("base", "run"), ("a/big.csv", "file"), ("BIG.PARQUET", "file"), ("x.csv.gz", "file")):
        found = {one: named(knobs, {"distill": {"teacher": teacher}}, one) for one in ("run", "file")}
        assert found.pop(kind) == [("distill: teacher", teacher)] and not any(found.values())
    with pytest.raises(ValueError, match="seen=False is of a teacher from a file, and teacher='base'"):
        knobs_of(TrainingRun)["distill"].check({"teacher": "base", "seen": False})
