"""The epoch of a fold as the other folds choose it, and what that does to the score."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import write_json
from kagglekit.runs.best_epoch import choose_evaluations, honest_run, read_evaluations, write_evaluations
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.leaks import score_warning
from kagglekit.runs.record import RunRecord, read_scores
from kagglekit.runs.tables import read_folds, read_metadata, read_run, write_folds
from kagglekit.scoring.metrics import score

N, FOLDS, EVALUATIONS = 150, 5, 12
IDS = [f"r{n}" for n in range(N)]
FOLD_OF = np.arange(N) % FOLDS
TASK = SimpleNamespace(kind="binary", columns=["a", "b"], classes=["a", "b"], metric="accuracy")
LABELS = np.random.default_rng(5).integers(0, 2, N)


def probabilities(quality, seed, rows):
    """Of `rows` rows, (rows, 2): right with probability `quality`."""
    right = np.random.default_rng(seed).random(len(rows)) < quality
    positive = np.where(right, LABELS[rows], 1 - LABELS[rows]) * 0.8 + 0.1
    return np.column_stack([1 - positive, positive]).astype(np.float32)


@pytest.fixture
def trained(tmp_path):
    """trained(quality, seed, ends): a run of keep_best whose evaluation e is right with probability quality[e]; ends:
    fold -> how many evaluations it had."""

    def make(quality, seed=0, ends=(), name="base", recipe=None, folds=range(FOLDS)):
        work = tmp_path / "work"
        if not (work / "task.json").is_file():
            write_json(work / "task.json", {})
            write_folds(work, IDS, FOLD_OF)
        folder = open_run(work, name, {"backbone": "tiny", "keep_best": True, **(recipe or {})})
        for k in folds:
            rows = np.flatnonzero(k == FOLD_OF)
            each = [probabilities(q, [seed, k, e], rows) for e, q in enumerate(quality)][: dict(ends).get(k)]
            best = max(each, key=lambda probs: score("accuracy", LABELS[rows], probs))
            made = Fitted(best, np.full((1, 2), 0.5), evaluations={10 * e + 10: x for e, x in enumerate(each)})
            save_fold(folder, k, made, [IDS[row] for row in rows], ["t"], TASK)
        return read_run(work, name, TASK, read_folds(work, IDS), ["t"])

    return make


def test_evaluations_come_back_also_with_classes_of_any_name(tmp_path):
    made = {4: np.arange(8.0).reshape(2, 4), 9: np.arange(8.0).reshape(2, 4) + 1}
    write_evaluations(tmp_path, ["007", "x"], made, ["id", "evaluation", "step", "fold"], {"run": "base"})
    table = pd.read_parquet(tmp_path / "evaluations.parquet")
    assert table["id"].tolist() == ["007", "x"] * 2 and table["evaluation"].tolist() == [1, 1, 2, 2]
    assert table["step"].tolist() == [4, 4, 9, 9] and (table.dtypes.iloc[3:] == np.float32).all()
    assert read_metadata(tmp_path / "evaluations.parquet") == {"run": "base"}
    assert np.array_equal(read_evaluations(tmp_path, ["007", "x"]), np.stack(list(made.values())))
    for ids in (["x", "007"], ["007"], ["007", "x", "y"]):
        with pytest.raises(ValueError, match=r"holds other rows than oof.parquet beside it"):
            read_evaluations(tmp_path, ids)
    write_evaluations(tmp_path, ["007", "x"], {}, ["a"], {})
    assert not (tmp_path / "evaluations.parquet").exists()


@pytest.mark.parametrize("higher", [True, False])
def test_a_fold_gets_the_evaluation_with_the_best_mean_over_the_others(higher):
    scores = np.random.default_rng(0).random((4, 6))
    found = choose_evaluations(dict(enumerate(scores.tolist())), higher)
    for k in range(4):
        means = np.delete(scores, k, axis=0).mean(axis=0)
        assert found[k] == (means.argmax() if higher else means.argmin())


def test_the_own_scores_of_a_fold_choose_nothing():
    scores = {0: [0.1, 0.9, 0.2], 1: [0.5, 0.3, 0.4], 2: [0.5, 0.3, 0.4]}
    assert choose_evaluations(scores, True)[0] == choose_evaluations({**scores, 0: [0.9, 0.1, 0.0]}, True)[0] == 0


def test_where_patience_ended_a_fold_its_last_evaluation_counts_on():
    scores = {0: [0.2, 0.6], 1: [0.1, 0.2, 0.3, 0.9], 2: [0.1, 0.2, 0.3, 0.8]}
    assert choose_evaluations(scores, True) == {0: 1, 1: 3, 2: 3}  # fold 0 has no fourth
    assert choose_evaluations({0: [0.9], 1: [0.4, 0.5]}, True) == {0: 0, 1: 0}  # of equal ones the earlier


def test_a_fold_without_a_score_has_no_say():
    nan = np.nan
    assert choose_evaluations({0: [nan, nan], 1: [0.3, 0.2], 2: [0.2, 0.3]}, True) == {0: 0, 1: 1, 2: 0}
    assert choose_evaluations({0: [nan, 0.5], 1: [nan, nan]}, True) == {0: 1, 1: 1}


def test_the_chosen_predictions_are_those_of_the_evaluations_and_tests_stay(trained):
    run = trained(np.linspace(0.5, 0.95, EVALUATIONS), ends={2: 4})
    honest = honest_run(run, TASK, LABELS)
    ids = [[IDS[row] for row in np.flatnonzero(k == FOLD_OF)] for k in range(FOLDS)]
    found = {k: read_evaluations(run.folder / f"fold{k}", ids[k]) for k in range(FOLDS)}
    scores = {k: [score("accuracy", LABELS[k == FOLD_OF], probs) for probs in found[k]] for k in found}
    for k, place in choose_evaluations(scores, True).items():
        assert np.array_equal(honest.oof_array[k == FOLD_OF], found[k][place])
    assert honest.cross_fitted and not run.cross_fitted and honest.tests is run.tests and honest.name == run.name
    assert honest.oof[["id", "fold"]].equals(run.oof[["id", "fold"]]) and not honest.oof.equals(run.oof)
    assert (honest.oof.dtypes == run.oof.dtypes).all()


def test_the_best_of_many_equal_evaluations_looks_too_good_and_the_cross_fitted_one_does_not(trained):
    """All evaluations are right for 70 % of all rows: what is above it was chosen, not learned."""
    chosen, honest = [], []
    for seed in range(5):
        run = trained([0.7] * EVALUATIONS, seed, name=f"run{seed}")
        scores = score_run(run, TASK, LABELS)
        chosen.append(scores["score"]), honest.append(scores["cross_fitted"])
    assert np.mean(chosen) > 0.78 and abs(np.mean(honest) - 0.7) < 0.04


def test_where_one_epoch_is_best_for_all_nothing_is_lost(trained):
    run = trained([0.55, 0.6, 1.0, 0.6])
    assert score_run(run, TASK, LABELS)["cross_fitted"] == score_run(run, TASK, LABELS)["score"] == 1


def test_both_scores_are_given_and_a_blend_gets_the_honest_one(trained):
    run = trained([0.7] * EVALUATIONS)
    honest = honest_run(run, TASK, LABELS)
    scores = score_run(run, TASK, LABELS)
    assert scores["cross_fitted"] == score_run(honest, TASK, LABELS)["score"] < scores["score"]
    assert "cross_fitted" not in score_run(honest, TASK, LABELS)
    write_json(run.folder / "score.json", scores)
    assert read_scores(run.folder.parent).loc["base", "cross_fitted"] == scores["cross_fitted"]
    assert "weights of base were chosen" in score_warning(RunRecord(run.folder))
    assert score_warning(RunRecord(honest.folder), honest.cross_fitted) == ""


def test_a_run_without_all_its_evaluations_stays_as_it_is_with_its_warning(trained):
    run = trained([0.7] * 3)
    (run.folder / "fold3" / "evaluations.parquet").unlink()
    assert honest_run(run, TASK, LABELS) is run
    assert "cross_fitted" not in score_run(run, TASK, LABELS)
    assert "weights of base were chosen" in score_warning(RunRecord(run.folder), run.cross_fitted)
    alone = trained([0.7] * 3, name="alone", folds=[1])
    assert honest_run(alone, TASK, LABELS) is alone


def test_a_choice_in_an_ancestor_is_still_in_the_warning(trained):
    trained([0.7] * 2, name="first")
    run = trained([0.7] * 2, name="base", recipe={"distill": {"teacher": "first"}})
    honest = honest_run(run, TASK, LABELS)
    assert score_warning(RunRecord(run.folder), honest.cross_fitted).endswith(
        "weights of first were chosen by scores on the fold"
    )
