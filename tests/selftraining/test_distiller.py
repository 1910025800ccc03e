from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import read_json, write_json
from kagglekit.learners.tfidf import Baseline
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.tables import read_parquet
from kagglekit.selftraining.distiller import Distiller
from kagglekit.selftraining.selftraining_knobs import DistillationOptions
from kagglekit.selftraining.teachers import read_teacher
from kagglekit.training.recipe import Recipe
from kagglekit.training.training_rows import ExtraRows
from tests.selftraining.students import Counting, Echo

KNOBS = {"max_length": 24, "epochs": 1, "batch_size": 6, "learning_rate": 1e-2}
FITS = []  # of the learner that was made last
OURS, HELD_OUT = np.flatnonzero(np.arange(24) % 3 != 0), np.flatnonzero(np.arange(24) % 3 == 0)


@pytest.fixture
def work(task, tmp_path):
    """A work folder with a task of 24 rows in three folds."""
    folder = tmp_path / "work"
    task("multiclass").save(folder)
    pd.DataFrame({"id": [str(n) for n in range(24)], "fold": np.arange(24) % 3}).to_parquet(folder / "folds.parquet")
    return folder


@pytest.fixture
def distiller(task, tables, backbone, work):
    """distiller(options, **knobs): for three folds of 24 rows; `change` is done to train before."""

    def make(options, change=None, kind="multiclass", learner=Counting, stop=0, **knobs):
        what = task(kind)
        train, test = tables(what)
        train = train if change is None else change(train)
        learner = learner(what, train, test, backbone, Recipe(**{**KNOBS, **knobs}))
        learner.fits, learner.stop = FITS, stop
        FITS.clear()
        return Distiller(learner, work, pd.read_parquet(work / "folds.parquet"), options)

    return make


@pytest.fixture
def base(distiller, backbone, work):
    """A finished run of three folds, `base`."""
    made = distiller({"by": "fold"})
    folder = open_run(work, "base", {"seed": 0, "backbone": backbone, **made.learner.settings})
    for fold in range(3):
        held_out = np.arange(24) % 3 == fold
        fitted = made.learner.fit(np.flatnonzero(~held_out), np.flatnonzero(held_out), folder / f"fold{fold}", fold)
        save_fold(folder, fold, fitted, made.train["id"][held_out], made.learner.test["id"], made.task)
    return folder


def learn(made, folder, **more):
    return made.fit(OURS, HELD_OUT, folder / "fold0", 7, **more)


@pytest.mark.parametrize("by", ["fold", "nested"])
def test_a_student_with_weight_zero_is_plain_training(distiller, tmp_path, by):
    made = distiller({"by": by, "weight": 0.0})
    fitted, plain = learn(made, tmp_path / "run"), made.learner.fit(OURS, HELD_OUT, tmp_path / "plain" / "fold0", 7)
    assert np.array_equal(fitted.oof, plain.oof) and np.array_equal(fitted.test, plain.test)


@pytest.mark.parametrize(
    "options", [{}, {"by": "fold", "hidden": 0.1}, {"by": "nested", "rounds": 2}], ids=["nested", "fold", "rounds"]
)
def test_labels_of_its_own_fold_never_reach_a_student(distiller, tmp_path, options):
    def change(train):
        labels = train["label"].to_numpy().copy()
        labels[HELD_OUT] = np.roll(labels[HELD_OUT], 1)
        return train.assign(label=labels)

    learner = Counting if "hidden" in options else Echo
    made = [distiller(options, turn, learner=learner) for turn in (None, change)]
    found = [learn(one, tmp_path / str(number)) for number, one in enumerate(made)]
    assert np.array_equal(found[0].oof, found[1].oof) and np.array_equal(found[0].test, found[1].test)


def test_students_of_two_folds_share_the_pair_of_both(distiller, tmp_path):
    made, fold_of = distiller({}, learner=Echo), np.arange(24) % 3
    for fold in (0, 1):
        held_out = fold_of == fold
        made.fit(np.flatnonzero(~held_out), np.flatnonzero(held_out), tmp_path / f"fold{fold}", fold)
    assert [name for name, _ in FITS] == ["0-1", "0-2", "fold0", "1-2", "fold1"]
    for fold in (0, 1):
        taught = read_parquet(tmp_path / f"fold{fold}" / "teachers" / "0.parquet").set_index("id")
        for other in {0, 1, 2} - {fold}:
            low, high = sorted((fold, other))
            pair = read_parquet(tmp_path / "pairs" / f"{low}-{high}.parquet").set_index("id")
            rows = [str(row) for row in np.flatnonzero(fold_of == other)]
            assert taught.loc[rows].equals(pair.loc[rows])


def test_a_round_of_pseudo_labels_reads_the_pairs_of_the_run_wherever_it_begins(distiller, tmp_path):
    write_json(tmp_path / "run" / "params.json", {})
    first = learn(distiller({}, learner=Echo), tmp_path / "run")
    start = str(tmp_path / "run" / "fold0" / "model")
    again = learn(distiller({}, learner=Echo), tmp_path / "run" / "fold0" / "round1", start=start)
    assert [name for name, _ in FITS] == ["fold0"] and not np.array_equal(first.oof, again.oof)


def test_with_some_of_the_rows_pairs_are_of_this_fold_alone(distiller, tmp_path):
    distiller({}, learner=Echo).fit(OURS[:12], HELD_OUT, tmp_path / "fold0", 7)
    assert not (tmp_path / "pairs").exists() and len(list((tmp_path / "fold0" / "pairs").iterdir())) == 2


def test_every_round_is_taught_by_the_student_before_it(distiller, tmp_path):
    fitted = learn(distiller({"by": "fold", "rounds": 2, "weight": 1.0}), tmp_path)
    assert FITS == [("0", 10_007), ("1", 20_007), ("fold0", 7)]
    assert sorted(path.name for path in (tmp_path / "fold0" / "teachers").iterdir()) == ["0.parquet", "1.parquet"]
    assert fitted.receipts["Distillation"]["steps"] == 3 and fitted.receipts["teacher"]["labels by"] == "fold"
    assert 0 <= fitted.receipts["teacher"]["score of the labels on the training rows"] <= 1


@pytest.mark.parametrize(
    ("options", "stops"),
    [({}, (1, 2, 3)), ({"by": "fold", "hidden": 0.1, "rounds": 2}, (2, 3))],
    ids=["nested", "rounds with hidden states"],
)
def test_stopped_and_resumed_is_never_stopped(distiller, tmp_path, options, stops):
    learner = Counting if "hidden" in options else Echo
    straight, names = learn(distiller(options, learner=learner), tmp_path / "straight"), list(FITS)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            learn(distiller(options, learner=learner, stop=stop), tmp_path / f"stop{stop}")
        resumed = learn(distiller(options, learner=learner), tmp_path / f"stop{stop}")
        assert names[stop - 1 :] == FITS
        assert np.array_equal(resumed.oof, straight.oof) and np.array_equal(resumed.test, straight.test)
        assert resumed.receipts == straight.receipts


def test_a_run_teaches_by_its_model_of_the_fold(distiller, base, work, tmp_path):
    made = distiller({"teacher": "base", "hidden": 0.2, "temperature": 2.0})
    fitted = learn(made, tmp_path)
    taught = read_parquet(tmp_path / "fold0" / "teachers" / "0.parquet")
    expected = read_teacher(work, "base", made.task, made.folds, made.learner.test["id"], made.labels).predict(
        0, made.train.iloc[OURS]
    )
    assert np.allclose(taught.iloc[:, 1:], expected, atol=1e-5) and taught["id"].tolist() == [str(n) for n in OURS]
    assert fitted.receipts["Distillation"]["mean distance of states"] > 0
    assert FITS == [("fold0", 7)] and "crosses" not in made.settings
    assert (base / "fold0" / "model").is_dir()


def test_out_of_fold_predictions_of_a_run_cross_folds_and_are_marked(distiller, base, work, tmp_path):
    made = distiller({"teacher": "base", "by": "oof"})
    said = learn(made, tmp_path).receipts["teacher"]["caution"]
    assert "the out-of-fold score is too good. Set by='fold'" in said and not distiller({}).caution
    taught = read_parquet(tmp_path / "fold0" / "teachers" / "0.parquet").set_index("id")
    for fold in (1, 2):
        theirs = read_parquet(base / f"fold{fold}" / "oof.parquet").set_index("id").drop(columns="fold")
        assert np.allclose(taught.loc[theirs.index], theirs)
    assert made.settings["crosses"] is True and made.settings["distill"]["by"] == "oof"
    write_json(base / "params.json", read_json(base / "params.json") | {"recipe": made.settings | {"backbone": ""}})
    with pytest.raises(ValueError, match="teacher='base' leaks: it learned"):  # and so it is no teacher any more
        distiller({"teacher": "base"})


def test_a_teacher_that_lacks_a_fold_is_an_error(distiller, base, tmp_path):
    (base / "fold2" / "oof.parquet").unlink()
    with pytest.raises(ValueError, match=r"teacher='base' has no out-of-fold predictions of folds \[2\]: train them"):
        learn(distiller({"teacher": "base", "by": "oof"}), tmp_path)


def test_rows_beside_those_of_train_are_learned_too(distiller, tmp_path):
    made = distiller({"by": "fold"})
    labels = np.eye(3, dtype=np.float32)[np.arange(7) % 3]
    extra = ExtraRows(made.learner.test, labels, np.full(7, 0.5, dtype=np.float32))
    fitted = learn(made, tmp_path / "more", extra=extra)
    assert fitted.receipts["Distillation"]["steps"] == 4  # 16 rows and 7 in batches of 6
    alone = made.fit(OURS[:0], HELD_OUT, tmp_path / "alone" / "fold0", 7, extra=extra)
    assert "Distillation" not in alone.receipts


@pytest.mark.parametrize("kind", ["multilabel", "regression", "ordinal"])
def test_other_kinds_are_taught(distiller, tmp_path, kind):
    fitted = learn(distiller({"by": "fold"}, kind=kind), tmp_path)
    assert fitted.receipts["Distillation"]["mean distance from the teacher"] > 0 and np.isfinite(fitted.oof).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teachers": "base"}, "distill has no knob 'teachers': did you mean teacher"),
        ({"rounds": 0}, "distill: rounds=0 is out of range: it must be 1 or more"),
        ({"weight": "1"}, "distill: weight='1' is out of range: it must be float"),
        ({"by": "all"}, "distill: by='all' is out of range: it must be one of \"\", fold, nested, oof"),
        ({"by": "oof"}, "by='oof' are predictions of a run that is there: name it as teacher"),
        ({"teacher": "base", "by": "nested"}, "by='nested' trains teachers of its own: leave teacher empty"),
        ({"hidden": 1.0}, "hidden needs one teacher with all rows of the student: set by='fold'"),
        ({"loss": "mse", "temperature": 2.0}, "temperature=2.0 is of loss='kl', not of 'mse'"),
    ],
)
def test_options_out_of_range_are_errors(options, words):
    with pytest.raises(ValueError, match=words):
        DistillationOptions(**options)


def test_losses_of_probabilities_are_errors_for_values():
    with pytest.raises(ValueError, match="are of probabilities, and the task is regression: set loss='mse'"):
        DistillationOptions(temperature=2.0).check_kind("regression")


def test_what_cannot_be_compared_is_an_error(distiller, backbones, classifier, tmp_path):
    with pytest.raises(ValueError, match="Mixup mixes two: leave one of them out"):
        distiller({"by": "fold", "hidden": 1.0}, tricks={"Mixup": {}})
    with pytest.raises(ValueError, match="chunks or answers are several texts: set hidden=0"):
        distiller({"by": "fold", "hidden": 1.0}, chunks=2, chunk_stride=4)
    made = distiller({})
    with pytest.raises(ValueError, match="a student is a fine-tuned model, and Baseline makes none"):
        replace(made, learner=Baseline(made.task, made.train, made.learner.test))
    with pytest.raises(ValueError, match="is of one fold, so that it may have seen the other"):
        learn(made, tmp_path, start=str(tmp_path / "other" / "fold0" / "model"))


def test_a_start_without_labels_serves_pairs_and_students(distiller, backbone, tmp_path):
    run = tmp_path / "mlm"
    run.mkdir()
    (run / "model").symlink_to(backbone)
    write_json(run / "params.json", {})
    plain, begun = learn(distiller({}), tmp_path / "plain"), learn(distiller({}), tmp_path, start=str(run / "model"))
    assert np.array_equal(plain.oof, begun.oof)  # the same weights, by another way
