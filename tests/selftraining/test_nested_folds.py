import numpy as np
import pytest

from kagglekit.files import write_json
from kagglekit.runs.folder import Fitted
from kagglekit.runs.tables import read_parquet
from kagglekit.selftraining.nested_folds import PairModels, kept, without_choosing
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

FOLDS = np.arange(20) % 4
IDS = [f"row{n}" for n in range(20)]
COLUMNS = ["saw 0", "saw 1", "saw 2", "saw 3", "saw the row"]


def outside(fold):
    return np.flatnonzero(~np.isin(FOLDS, fold))


class Memory:
    """A learner that remembers: its predictions say which folds it saw, and whether it saw the row."""

    def __init__(self, stop=None):
        self.fits, self.stop = [], stop

    def fit(self, train_rows, valid_rows, folder, seed):
        self.fits.append((folder.name, sorted(set(FOLDS[train_rows].tolist())), seed))
        (folder / "model").mkdir(parents=True)
        if len(self.fits) == self.stop:
            raise KeyboardInterrupt
        seen = [np.full(len(valid_rows), fold in FOLDS[train_rows]) for fold in range(4)]
        oof = np.column_stack([*seen, np.isin(valid_rows, train_rows)])
        return Fitted(oof.astype(np.float32), np.zeros((3, 5), dtype=np.float32))


@pytest.fixture
def pairs(tmp_path):
    """pairs(learner): models for each two of four folds."""
    return lambda learner, **options: PairModels(learner, FOLDS, IDS, COLUMNS, tmp_path / "pairs", **options)


@pytest.mark.parametrize("fold", range(4))
def test_no_label_comes_from_a_model_that_saw_the_rows_fold_or_the_students(pairs, fold):
    rows = outside(fold)
    labels = pairs(Memory()).label(rows, fold)
    assert labels.shape == (15, 5)
    for row, label in zip(rows, labels, strict=True):
        seen = {other for other in range(4) if label[other]}
        assert seen == set(range(4)) - {fold, FOLDS[row]} and not label[4]


def test_students_share_their_pairs_and_nothing_but_tables_stays(pairs, tmp_path):
    learner = Memory()
    for fold in range(4):
        pairs(learner).label(outside(fold), fold)
    assert sorted(name for name, *_ in learner.fits) == ["0-1", "0-2", "0-3", "1-2", "1-3", "2-3"]
    assert len({seed for *_, seed in learner.fits}) == 6
    files = sorted(path.name for path in (tmp_path / "pairs").iterdir())
    assert files == [f"{name}.parquet" for name in ("0-1", "0-2", "0-3", "1-2", "1-3", "2-3")]
    table = read_parquet(tmp_path / "pairs" / "1-3.parquet")
    assert table["id"].tolist() == [IDS[row] for row in range(20) if FOLDS[row] in (1, 3)]


def test_models_learn_from_the_given_rows_alone(pairs):
    given = []

    class Rows(Memory):
        def fit(self, train_rows, *rest):
            given.append(train_rows.tolist())
            return super().fit(train_rows, *rest)

    rows = np.array([1, 2, 3, 5, 6, 7])  # folds 1, 2, 3
    assert pairs(Rows()).label(rows, 0).shape == (6, 5)
    assert given == [[2, 3, 6, 7], [1, 3, 5, 7], [1, 2, 5, 6]]


def test_stopped_and_resumed_is_never_stopped(pairs, tmp_path):
    rows, learner = outside(2), Memory()
    straight = PairModels(learner, FOLDS, IDS, COLUMNS, tmp_path / "straight", seed=5).label(rows, 2)
    with pytest.raises(KeyboardInterrupt):
        pairs(Memory(stop=2), seed=5).label(rows, 2)
    assert [path.name for path in (tmp_path / "pairs").glob("*.parquet")] == ["0-2.parquet"]
    (tmp_path / "pairs" / "1-2" / "model").rmdir()  # a fine-tuner goes on from what is there
    again = Memory()
    assert np.array_equal(pairs(again, seed=5).label(rows, 2), straight)
    assert [name for name, *_ in again.fits] == ["1-2", "2-3"] and again.fits == learner.fits[1:]


def test_a_file_of_other_rows_is_an_error(pairs, tmp_path):
    pairs(Memory()).label(outside(0), 0)
    others = PairModels(Memory(), FOLDS, IDS[::-1], COLUMNS, tmp_path / "pairs")
    with pytest.raises(ValueError, match=r"0-1.parquet holds predictions of other rows: row 1 has id 'row0', expected"):
        others.label(outside(0), 0)


def test_two_folds_are_too_few():
    with pytest.raises(ValueError, match=r"folds.parquet has 2: make three or more in 1_eda, or set by='fold'"):
        PairModels(Memory(), np.arange(6) % 2, IDS[:6], COLUMNS, None)


def test_predictions_that_are_kept_are_read_and_a_model_stays_if_it_is_needed(tmp_path):
    fits = []

    def fit(place):
        fits.append(place.name)
        (place / "model").mkdir(parents=True)
        return np.full((2, 1), 0.25)

    for model, there, times in ((False, False, 1), (False, False, 1), (True, True, 2), (True, True, 2)):
        assert kept(tmp_path / "0", ["a", "b"], ["x"], fit, model).tolist() == [[0.25], [0.25]]
        assert (tmp_path / "0" / "model").is_dir() == there and len(fits) == times


@pytest.mark.parametrize("knobs", [{"keep_best": True}, {"tricks": {"CheckpointSoup": {"keep": 1, "start": 0.0}}}])
def test_labels_of_the_two_folds_choose_nothing_in_the_model_without_them(task, tables, backbone, tmp_path, knobs):
    what = task("multiclass")
    train, test = tables(what)
    recipe = Recipe(max_length=24, epochs=3, batch_size=4, learning_rate=1e-2, evaluate_every=1, **knobs)
    fold_of, found = np.arange(24) % 3, []
    for turn in (0, 1):
        table = train.copy()
        held_out = np.flatnonzero(fold_of != 2)
        if turn:
            table.loc[held_out, "label"] = table["label"].map({"bad": "mixed", "mixed": "good", "good": "bad"})
        learner = FineTuner(what, table, test, backbone, recipe)
        learner.precision = "fp32"
        models = PairModels(learner, fold_of, train["id"].tolist(), what.columns, tmp_path / f"{turn}" / "pairs")
        found.append(models.predict(np.arange(24), 0, 1)[1])
    assert np.array_equal(*found)
    assert learner.recipe == recipe and not without_choosing(learner).recipe.keep_best


def test_a_step_that_a_probe_chose_by_labels_is_no_start_of_pairs(pairs, tmp_path):
    """The best step for fold 1 was chosen by the labels of the others: as the start of the pair 0-1, which the students
    of both folds share, it would bring those of fold 0 to the student of fold 0."""
    run = tmp_path / "probed"
    (run / "model").mkdir(parents=True)
    write_json(run / "params.json", {})
    models = pairs(Memory(), start=str(run / "model"))
    write_json(run / "models.json", {"0": "step40/model", "1": "model"})
    with pytest.raises(ValueError, match="start from a run of 2_pretrain with one model for all folds and without a"):
        models.label(outside(1), 1)
    assert not models.learner.fits
