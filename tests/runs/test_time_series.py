"""Folds that go forward in time, through the steps that learn from rows of other folds."""

import numpy as np
import pytest

from kagglekit.competition.task import encode_labels
from kagglekit.data.folds import assign_folds
from kagglekit.files import fold_folders
from kagglekit.pretraining.pretraining_run import StageRun
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.tables import choose_folds, read_folds, read_run, training_rows, write_folds
from kagglekit.selftraining.distiller import Distiller
from kagglekit.selftraining.selftrainer import SelfTrainer
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

ALIKE = Stage(objective="simcse_supervised", steps=2, max_length=16, batch_size=4, pack=False)


@pytest.fixture
def place(task, tables, tmp_path):
    """The work folder, task, train, test and folds of 24 rows in time: fold -1 to 2, and six rows in each."""
    what, work = task("multiclass"), tmp_path / "work"
    train, test = tables(what)
    what.save(work)
    times = np.random.default_rng(0).permutation(24)
    write_folds(work, train["id"], assign_folds(encode_labels(what, train), n_splits=3, times=times), forward=True)
    return work, what, train, test, read_folds(work, train["id"])


def tuner(place, backbone, change=None):
    _, what, train, test, _ = place
    train = train if change is None else change(train)
    learner = FineTuner(what, train, test, backbone, Recipe(max_length=24, epochs=1, batch_size=6, learning_rate=1e-2))
    learner.precision = "fp32"
    return learner


def test_a_run_forward_in_time_has_scores_and_no_predictions_of_the_first_block(place, backbone):
    work, what, train, test, table = place
    folder = open_run(work, "base", {"seed": 0, "backbone": backbone})
    assert sorted(table["fold"].unique()) == [-1, 0, 1, 2] and choose_folds(table, []) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"fold -1 is not in folds.parquet: it has 0 to 2"):
        choose_folds(table, [-1])
    for fold in choose_folds(table, []):
        held_out = np.flatnonzero(table["fold"] == fold)
        fitted = Fitted(np.full((len(held_out), 3), 1 / 3), np.full((len(test), 3), 1 / 3))
        save_fold(folder, fold, fitted, train["id"].iloc[held_out], test["id"], what)
    run = read_run(work, "base", what, table, test["id"])
    assert sorted(fold_folders(folder)) == run.folds == [0, 1, 2] and len(run.rows) == 18
    assert set(score_run(run, what, encode_labels(what, train))["folds"]) == {0, 1, 2}


@pytest.mark.parametrize("options", [{"by": "nested"}, {"by": "oof", "teacher": "base"}])
def test_labels_that_the_first_rows_cannot_have_are_refused(place, backbone, options):
    if "teacher" in options:
        test_a_run_forward_in_time_has_scores_and_no_predictions_of_the_first_block(place, backbone)
    with pytest.raises(ValueError, match=r"the folds go forward in time.* Set by='fold'"):
        Distiller(tuner(place, backbone), place[0], place[-1], options)


@pytest.mark.parametrize("wrap", ["distill", "pseudo"])
def test_labels_of_its_own_and_later_folds_never_reach_a_student(place, backbone, tmp_path, wrap):
    work, *_, table = place
    rows, held_out, found = training_rows(table, 1), np.flatnonzero(table["fold"] == 1), []
    later = np.flatnonzero(table["fold"] >= 1)

    def change(train):
        labels = train["label"].to_numpy().copy()
        labels[later] = np.roll(labels[later], 1)
        return train.assign(label=labels)

    for number, turn in enumerate((None, change)):
        learner = tuner(place, backbone, turn)
        if wrap == "distill":
            learner = Distiller(learner, work, table, {"by": "fold"})
        else:
            learner = SelfTrainer(learner, work, table, {"threshold": 0.1})
        found.append(learner.fit(rows, held_out, tmp_path / str(number) / "fold1", 1))
    assert np.array_equal(found[0].test, found[1].test) and np.array_equal(found[0].oof, found[1].oof)
    assert set(table["fold"].to_numpy()[rows]) == {-1, 0}


def test_a_stage_with_labels_learns_from_earlier_rows_alone_and_takes_no_probe(place, backbone):
    work, what, train, test, table = place
    texts = [*train["text"], *test["text"]]
    run = StageRun(work, what, train, texts, ALIKE, backbone)
    assert [part.folds for part in run.groups] == [(0,), (1,), (2,)]
    for part in run.groups:
        rows = np.flatnonzero(table["fold"] < part.folds[0])
        assert list(run.labels_of(part).texts) == train["text"].iloc[rows].tolist()
        assert len(rows) == 6 * (part.folds[0] + 1)
    with pytest.raises(ValueError, match="probe_every: a probe chooses by the labels of other folds"):
        StageRun(work, what, train, texts, Stage(steps=2), backbone, probe_every=1)
