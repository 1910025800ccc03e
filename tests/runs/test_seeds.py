"""Seeds of a fold: kept apart, blended by the mean, added to a finished run, merged."""

import time
from dataclasses import asdict

import numpy as np
import pytest

from kagglekit.files import fold_folders, name_training, read_json, seed_folder, write_json
from kagglekit.files.parquet import read_metadata, read_parquet
from kagglekit.runs.best_epoch import choose_evaluations, honest_run
from kagglekit.runs.folder import Fitted, describe_score, open_run, save_fold, score_run
from kagglekit.runs.merge import merge_runs
from kagglekit.runs.record import RunRecord, count_seeds, with_seeds
from kagglekit.runs.seeds import describe_seeds, finished_seeds, own_tables, seed_tables, trainings
from kagglekit.runs.tables import read_folds, read_run, write_folds
from kagglekit.scoring.metrics import score
from kagglekit.show.training import show_seeds
from kagglekit.time_budget import STARTED, TimeBudget, unfinished

IDS = [f"0{n}" for n in range(12)]
FOLD_OF = np.arange(12) % 3
LABELS = np.arange(12) // 2 % 2
RECIPE = {"backbone": "tiny", "seed": 0}


@pytest.fixture
def two(task):
    return task("multiclass", classes=["a", "b"], metric="accuracy")


@pytest.fixture
def place(tmp_path, two):
    """place(name): a work folder of twelve rows in three folds."""

    def make(name="work"):
        write_json(tmp_path / name / "task.json", asdict(two))
        write_folds(tmp_path / name, IDS, FOLD_OF)
        return tmp_path / name

    return make


def predictions(fold, number, rows=4):
    found = np.random.default_rng([fold, number]).random((rows, 1))
    return np.hstack([found, 1 - found]).astype(np.float32)


def train(work, two, fold, number, seeds, evaluations=None, asked=None):
    folder = open_run(work, "base", with_seeds(RECIPE, asked or seeds))
    made = Fitted(predictions(fold, number), predictions(9, number, 2), [{"step": 1, "loss": number}], {"n": number})
    made.evaluations = evaluations or {}
    ids = [IDS[row] for row in np.flatnonzero(fold == FOLD_OF)]
    save_fold(folder, fold, made, ids, ["t0", "t1"], two, number, seeds)
    return folder


def values(file):
    table = read_parquet(file)
    return table[["a", "b"]].to_numpy()


def test_a_fold_is_the_mean_of_its_seeds_which_stand_apart(place, two):
    work = place()
    for number in range(3):
        folder = train(work, two, 1, number, 3)
        assert list(fold_folders(folder)) == ([1] if number == 2 else [])
    fold, record = folder / "fold1", RunRecord(folder)
    mean = np.mean([predictions(1, n) for n in range(3)], axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(values(fold / "oof.parquet"), mean) and not np.array_equal(mean, predictions(1, 0))
    test = np.mean([predictions(9, n, 2) for n in range(3)], axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(values(fold / "test.parquet"), test)
    apart = seed_tables(record)[1]
    assert list(apart) == [0, 1, 2] and list(apart[0]) == ["id", "fold", "a", "b"]
    assert all(np.array_equal(apart[n][["a", "b"]], predictions(1, n)) for n in apart)
    assert record.seeds == {1: 3} and record.seed_models(1) == [seed_folder(fold, n) / "model" for n in range(3)]
    assert read_metadata(fold / "oof.parquet") == {**record.metadata[0], "seeds": 3, "saw": "all folds but 1"}
    assert read_metadata(fold / "seed2" / "oof.parquet")["seed"] == 2
    receipts = read_json(folder / "params.json")["receipts"]
    assert receipts == {"1": {"n": 0, "seed 1": {"n": 1}, "seed 2": {"n": 2}}}
    assert record.history[["fold", "seed", "loss"]].to_numpy().tolist() == [[1, n, n] for n in range(3)]
    assert read_run(work, "base", two, read_folds(work, IDS), ["t0", "t1"]).folds == [1]


def test_one_seed_leaves_on_disk_what_it_always_did(place, two):
    folder = train(place(), two, 0, 0, 1)
    assert {path.name for path in (folder / "fold0").iterdir()} == {"history.jsonl", "oof.parquet", "test.parquet"}
    record = RunRecord(folder)
    assert not {"seed", "seeds"} & record.metadata[0].keys() and "seeds" not in record.recipe
    assert list(seed_tables(record)[0]) == [0] and "seed" not in record.history and record.seeds == {0: 1}


def test_seeds_are_added_to_a_finished_fold_and_until_all_are_there_it_stays_what_it_was(place, two):
    work = place()
    folder = train(work, two, 0, 0, 1)
    before = (folder / "fold0" / "oof.parquet").read_bytes()
    assert [(k, n) for k, n, _ in trainings(open_run(work, "base", {**RECIPE, "seeds": 3}), [0], 3)] == [(0, 1)]
    train(work, two, 0, 1, 3)
    assert (folder / "fold0" / "oof.parquet").read_bytes() == before
    assert RunRecord(folder).seeds == {0: 1} and RunRecord(folder).recipe["seeds"] == 3
    assert np.array_equal(seed_tables(RunRecord(folder))[0][0][["a", "b"]], predictions(0, 0))
    train(work, two, 0, 2, 3)
    mean = np.mean([predictions(0, n) for n in range(3)], axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(values(folder / "fold0" / "oof.parquet"), mean) and count_seeds(folder / "fold0") == 3
    assert [len(values(file)) for file in own_tables(folder / "fold0", "test.parquet")] == [2, 2, 2]
    train(work, two, 0, 3, 4)  # and one more
    assert RunRecord(folder).seeds == {0: 4}


def test_fewer_seeds_than_a_fold_has_are_refused_and_more_than_it_has_are_not(place, two):
    work = place()
    train(work, two, 0, 0, 1)
    open_run(work, "base", {**RECIPE, "seeds": 3})
    assert RunRecord(open_run(work, "base", RECIPE)).recipe == RECIPE  # none of the three was trained
    for number in range(2):
        folder = train(work, two, 1, number, 2)
    with pytest.raises(ValueError, match=r"seeds=2 trains none again, and seeds is 1\. Name another run="):
        open_run(work, "base", RECIPE)
    assert list(fold_folders(open_run(work, "base", {**RECIPE, "seeds": 2}))) == [0, 1]
    assert list(fold_folders(open_run(work, "base", RECIPE, overwrite=True))) == []
    assert not (folder / "fold1").exists()


def test_what_is_trained_is_what_lacks_while_there_is_time(tmp_path, capsys, monkeypatch):
    def finish(*places):
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            for name in ("oof", "test"):
                (place / f"{name}.parquet").touch()

    def began(hours):
        monkeypatch.setenv(STARTED, str(time.time() - 3600 * hours))

    finish(tmp_path / "fold1")
    began(1)
    trained = []
    for fold, number, place in trainings(tmp_path, [0, 1, 2], 1, TimeBudget(2.0)):
        trained.append((fold, number, place))
        finish(place)
        began(1 + fold)  # the hours are over when fold 2 is done
    assert trained == [(0, 0, tmp_path / "fold0"), (2, 0, tmp_path / "fold2")]
    assert capsys.readouterr().out == "fold 1 is finished\n" and unfinished(tmp_path) == {}
    assert list(trainings(tmp_path, [0, 3, 4], 1, TimeBudget(2.0))) == []
    assert set(unfinished(tmp_path)) == {"fold3", "fold4"}
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "fold 0 is finished" and printed[1].startswith("of 2 hours no time is left for fold 3")
    assert list(trainings(tmp_path, [0], 3, TimeBudget(2.0))) == []
    assert capsys.readouterr().out.splitlines() == [
        "fold 0, seed 0 is finished",
        "of 2 hours no time is left for fold 0, seed 1: the same command goes on there",
    ]


def test_a_seed_that_time_cut_off_ends_its_fold(tmp_path):
    assert [(k, n) for k, n, _ in trainings(tmp_path, [0, 1], 3)] == [(0, 0), (1, 0)]


def test_the_time_left_counts_the_seeds_that_a_fold_lacks(place, two, monkeypatch):
    folder, asked = train(place(), two, 0, 0, 3), []

    def parts(items, what, **options):
        asked.append((what, list(items), options))
        return iter(items)

    monkeypatch.setattr("kagglekit.runs.seeds.parts", parts)
    assert len(list(trainings(folder, [0, 1], 3, sizes={0: 100, 1: 150}, later=2.0))) == 2
    assert asked[0] == ("fold", [0, 1], {"done": 0, "sizes": {0: 200, 1: 450}, "later": 2 * 3 * 250 / 650})
    assert asked[1:] == [("seed", [1, 2], {"done": 1}), ("seed", [0, 1, 2], {"done": 0})]


def test_a_fold_killed_before_its_mean_was_written_gets_it_without_training(place, two, monkeypatch):
    work = place()
    train(work, two, 0, 0, 2)
    with monkeypatch.context() as patch:
        patch.setattr("kagglekit.runs.folder.join_seeds", lambda *_: False)
        folder = train(work, two, 0, 1, 2)
    assert not fold_folders(folder) and finished_seeds(folder / "fold0", 2) == [0, 1]
    assert list(trainings(folder, [0], 2)) == [] and RunRecord(folder).seeds == {0: 2}
    assert np.array_equal(seed_tables(RunRecord(folder))[0][1][["a", "b"]], predictions(0, 1))


def test_the_seeds_are_scored_alone_and_told(place, two):
    work = place()
    for fold, number in ((fold, number) for fold in (0, 2) for number in range(3)):
        train(work, two, fold, number, 3)
    run, known = read_run(work, "base", two, read_folds(work, IDS), ["t0", "t1"]), LABELS[FOLD_OF != 1]
    scores = score_run(run, two, LABELS)
    apart, rows = scores["seeds"], FOLD_OF[FOLD_OF != 1]
    for number in range(3):
        oof = np.where(rows[:, None] == 0, predictions(0, number)[np.arange(8) // 2], 0)
        oof[rows == 2] = predictions(2, number)
        assert apart["scores"][number] == score("accuracy", known, oof)
        assert apart["folds"][2][number] == score("accuracy", LABELS[FOLD_OF == 2], predictions(2, number))
    assert apart["spread"] == pytest.approx(np.std(apart["scores"], ddof=1)) and len(set(apart["scores"])) > 1
    words = f"3 seeds ({min(apart['scores']):.4f} to {max(apart['scores']):.4f} alone)"
    assert describe_score(scores, range(3)).endswith(f"folds 0, 2 of 0-2, {words}")
    assert describe_seeds("accuracy", scores["score"], apart).startswith("3 seeds: each alone has accuracy")
    table = show_seeds(scores)
    assert list(table) == ["all folds", "fold 0", "fold 2"] and table.loc["seed 1", "fold 2"] == apart["folds"][2][1]
    assert table.loc["mean of the predictions", "all folds"] == scores["score"]
    train(work, two, 1, 0, 1, asked=3)  # as where time has cut the others off
    scores = score_run(read_run(work, "base", two, read_folds(work, IDS), ["t0", "t1"]), two, LABELS)
    assert len(scores["seeds"]["scores"]) == 1 and "seeds" not in describe_score(scores, range(3))
    assert show_seeds(scores)["fold 1"].isna().sum() == 3 and "Not all folds" in describe_seeds(
        "", 0.5, scores["seeds"]
    )


def test_one_seed_of_several_that_were_begun_is_enough_when_one_is_asked(place, two):
    folder = train(place(), two, 0, 0, 3)
    assert not fold_folders(folder) and list(trainings(folder, [0], 1)) == []
    assert np.array_equal(values(folder / "fold0" / "oof.parquet"), predictions(0, 0))
    assert RunRecord(folder).seeds == {0: 1} and "seeds" not in RunRecord(folder).metadata[0]


def test_seeds_of_other_rows_are_not_blended(place, two):
    folder = train(place(), two, 0, 0, 2)
    made = Fitted(predictions(0, 1), predictions(9, 1, 2))
    with pytest.raises(ValueError, match="the seeds of a fold predict other rows"):
        save_fold(folder, 0, made, IDS[:4], ["t0", "t1"], two, 1, 2)


def test_a_fold_of_more_seeds_takes_the_place_of_one_of_fewer_wherever_it_is(place, two):
    home, there = place("home"), place("kernel")
    train(home, two, 0, 0, 1)
    train(home, two, 1, 0, 1)
    write_json(home / "base" / "score.json", {"run": "base"})
    for number in range(2):
        train(there, two, 0, number, 2)
    assert merge_runs(there, home) == {"base": [0]}
    record = RunRecord(home / "base")
    assert record.seeds == {0: 2, 1: 1} and record.recipe["seeds"] == 2 and record.scores == {}
    assert record.params["receipts"]["0"] == {"n": 0, "seed 1": {"n": 1}}
    again = place("again")
    train(again, two, 0, 0, 1)
    assert merge_runs(again, home) == {} and RunRecord(home / "base").seeds == {0: 2, 1: 1}
    other = place("other")
    made = Fitted(predictions(0, 7), predictions(9, 0, 2))
    save_fold(open_run(other, "base", RECIPE), 0, made, IDS[::3], ["t0", "t1"], two)
    with pytest.raises(ValueError, match=r"seed0/oof\.parquet and .* hold other predictions of the same fold"):
        merge_runs(other, home)


def test_each_epoch_is_chosen_by_the_other_folds_for_all_seeds_of_a_fold(place, two):
    work, made = place(), {}
    for fold in range(3):
        for number in range(2):
            each = {step: predictions(fold, 10 * step + number) for step in (1, 2, 3)[: 3 - number]}
            made[fold, number] = list(each.values())
            train(work, two, fold, number, 2, each)
    run = read_run(work, "base", two, read_folds(work, IDS), ["t0", "t1"])
    scores = {}
    for fold in range(3):
        both = [[score("accuracy", LABELS[fold == FOLD_OF], one) for one in made[fold, n]] for n in (0, 1)]
        scores[fold] = np.mean([both[0], [*both[1], both[1][-1]]], axis=0)
    honest = honest_run(run, two, LABELS)
    for fold, epoch in choose_evaluations(scores, True).items():
        mean = (made[fold, 0][epoch].astype(np.float64) + made[fold, 1][min(epoch, 1)]) / 2
        assert np.allclose(honest.oof_array[fold == FOLD_OF], mean, atol=1e-7)
    assert "cross_fitted" in score_run(run, two, LABELS)


@pytest.mark.parametrize(
    ("place", "words"),
    [("fold2", "fold 2"), ("fold12/seed3", "fold 12, seed 3"), ("full", "full"), ("pairs/0-1", "0-1")],
)
def test_what_is_trained_has_a_name(tmp_path, place, words):
    assert name_training(tmp_path / place) == words
