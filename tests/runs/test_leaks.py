"""Every way in which the label of a row could reach the model that the row is scored with: planted, and refused."""

import shutil

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.blend import check_base_predictions
from kagglekit.files import read_json, write_json
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.initial_weights import read_sources
from kagglekit.runs.leaks import score_warning, table_metadata
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import hash_folds, read_folds, read_run, write_folds, write_predictions
from kagglekit.selftraining.labelling import make_pool
from kagglekit.selftraining.nested_folds import PairModels
from kagglekit.selftraining.teachers import read_teacher
from kagglekit.show.selftraining import read_added
from kagglekit.training.recipe import Recipe
from kagglekit.training.training_rows import ExtraRows

FOLD_OF = np.array([0, 1, 2, 0, 1, 2])
OTHER = np.array([1, 0, 2, 0, 1, 2])
TEST = ["t0", "t1"]


class Place:
    """A work folder with runs of every sort, and the ways to read them."""

    def __init__(self, work, task, train, fingerprint="ours", fold_of=FOLD_OF):
        self.work, self.task, self.train, self.fold_of = work, task, train, fold_of
        self.ids = train["id"].tolist()
        write_json(work / "task.json", {"fingerprint": fingerprint})
        write_folds(work, self.ids, fold_of)
        self.folds = read_folds(work, self.ids)

    def other(self, name, fingerprint="theirs", fold_of=FOLD_OF):
        """Another work folder, of other data unless it has our fingerprint."""
        return Place(self.work.parent / name, self.task, self.train, fingerprint, fold_of)

    def run(self, name, **recipe):
        """A trained run with a model in each fold."""
        folder = open_run(self.work, name, {"backbone": "tiny", **recipe})
        for k in range(3):
            (folder / f"fold{k}" / "model").mkdir(parents=True)
            made = Fitted(np.full((2, 2), 0.5), np.full((2, 2), 0.25 + k / 4))
            save_fold(folder, k, made, [self.ids[row] for row in np.flatnonzero(self.fold_of == k)], TEST, self.task)
        return folder

    def pretrained(self, name, models=None, **recipe):
        """A run of 2_pretrain with one model; models: fold -> folder, of one that goes fold by fold."""
        folder = open_run(self.work, name, {"backbone": "tiny", **recipe}, folds=models is not None)
        (folder / "model").mkdir(parents=True)
        if models:
            write_json(folder / "models.json", models)
        return folder

    def blend(self, name, *members, **more):
        """Written as 4_ensemble does it: weights.json first."""
        folder = self.work / name
        weights = {str(k): dict.fromkeys(members, 1 / len(members)) for k in range(3)}
        write_json(
            folder / "weights.json", {"members": members, "weights": weights, "tables": {}, "beside": [], **more}
        )
        for k in range(3):
            ids, place = [self.ids[row] for row in np.flatnonzero(k == FOLD_OF)], folder / f"fold{k}"
            oof, test = (table_metadata(RunRecord(folder), k, test) for test in (False, True))
            write_predictions(place / "oof.parquet", ids, np.full((2, 2), 0.5), self.task.columns, k, oof)
            says = np.full((2, 2), 0.25 + k / 4)
            write_predictions(place / "test.parquet", TEST, says, self.task.columns, metadata=test)
        return folder

    def start(self, name, other=None):
        return read_sources(self.work, [str(other.work / name) if other else name])

    def with_tasks(self, other, name="joint"):
        """A joint run of this folder and another."""
        for one in (self, other):
            one.run(name, tasks=[str(self.work), str(other.work)])

    def joint(self, other, *names):
        """Where a joint run of this folder and another begins."""
        names = [str(other.work / name) if (other.work / name).is_dir() else name for name in names]
        return read_sources(self.work, names, tasks=[str(self.work), str(other.work)])

    def read(self, name, folds=None):
        return read_run(self.work, name, self.task, self.folds if folds is None else folds, TEST)

    def teach(self, name):
        return read_teacher(self.work, name, self.task, self.folds, TEST, np.arange(6) % 2)


def change(run, part, **values):
    """Change what the params.json of a run says of its recipe or its inputs."""
    params = read_json(run / "params.json")
    write_json(run / "params.json", params | {part: params[part] | values})


LEAKS = {}


def leak(words):
    """Add a leak to those that must be refused; words: of its error."""
    return lambda plant: LEAKS.setdefault(plant.__name__, (plant, words)) and plant


@pytest.fixture
def place(tmp_path, task, tables):
    what = task("binary")
    return Place(tmp_path / "work", what, tables(what, len(FOLD_OF), len(TEST))[0])


@leak(r"fold2/oof.parquet was made with other folds .* all folds but 2 of those")
def blend_runs_of_other_folds(place):
    """Folds that were swapped keep the rows of fold 2 together: only its tables tell that its neighbours changed."""
    place.run("base")
    (place.work / "base" / "fold0" / "oof.parquet").unlink(), (place.work / "base" / "fold1" / "oof.parquet").unlink()
    place.read("base", place.folds.assign(fold=OTHER))


@leak(r"was made with other folds than folds.parquet has now")
def blend_runs_that_go_forward_with_runs_that_do_not(place):
    place.run("base")
    place.read("base", place.folds.assign(forward=True))


@leak(r"'base' and 'base' have different folds: id '0' is in fold 0 of the one and 1 of")
def blend_runs_read_from_two_places(place):
    place.run("base")
    one, two = place.read("base"), place.read("base")
    check_base_predictions([one, two])
    two.oof["fold"] = OTHER
    check_base_predictions([one, two])


@leak(r"runs='crossed' leaks: it learned from out-of-fold predictions")
def blend_a_run_that_crossed(place):
    place.run("base"), place.run("crossed", crosses=True)
    check_base_predictions([place.read("base"), place.read("crossed")])


@leak(r"runs='outer' is made from 'crossed', which leaks")
def blend_a_blend_whose_member_crossed(place):
    place.run("base"), place.run("crossed", crosses=True), place.blend("inner", "base", "crossed")
    place.blend("outer", "inner", "base")
    check_base_predictions([place.read("outer")])


@leak(r"runs='outer' is made from 'crossed', which leaks")
def blend_a_blend_whose_member_crossed_and_is_gone(place):
    place.run("base"), place.run("crossed", crosses=True), place.blend("inner", "base", "crossed")
    place.blend("outer", "inner", "base")
    shutil.rmtree(place.work / "crossed"), shutil.rmtree(place.work / "inner")
    check_base_predictions([place.read("outer")])


@leak(r"start='base' is made from 'crossed', which leaks")
def start_from_a_run_taught_by_one_that_crossed_and_is_gone(place):
    place.run("crossed", crosses=True), place.run("base", distill={"teacher": "crossed"})
    shutil.rmtree(place.work / "crossed")
    place.start("base")


@leak(r"start='crossed' leaks: it learned from out-of-fold predictions")
def start_from_a_run_that_crossed(place):
    place.run("crossed", crosses=True)
    place.start("crossed")


@leak(r"start='third' is made from 'crossed', which leaks")
def start_from_a_run_taught_by_a_blend_of_what_leaks(place):
    first = place.run("crossed")
    place.run("second", start="crossed"), place.blend("blend", "second")
    place.run("third", pseudo={"teacher": "blend"})
    change(first, "recipe", crosses=True)
    with pytest.raises(ValueError, match=r"start='second' is made from 'crossed', which leaks"):
        place.start("second")
    place.start("third")


@leak(r"start='.*again/base' was trained on the same data with other folds: its models")
def start_from_a_run_of_other_folds(place):
    other = place.other("again", "ours", OTHER)
    other.run("base")
    place.start("base", other)


@leak(r"start='base' was trained on the same data with other folds")
def start_from_a_run_whose_folds_were_changed_since(place):
    change(place.run("base"), "inputs", folds="0123")
    place.start("base")


@leak(r"start='.*again/probed' was trained on the same data with other folds")
def start_from_a_stage_of_other_folds(place):
    other = place.other("again", "ours", OTHER)
    other.pretrained("probed", {"0": "model"})
    place.start("probed", other)


@leak(r"second' is made from .*work/base, a run of this data")
def start_from_what_saw_all_our_rows_by_way_of_other_data(place):
    """base of ours -> all its folds averaged -> a run on other data -> one more -> back."""
    other, base = place.other("news"), place.run("base")
    other.run("first", start=str(base)), other.run("second", start="first")
    with pytest.raises(ValueError, match=r"start='.*news/first' is made from .*work/base, a run of this data"):
        place.start("first", other)
    place.start("second", other)


@leak(r"mlm' is made from .*work/base, a run of this data")
def start_from_a_stage_that_started_from_ours(place):
    other, base = place.other("news"), place.run("base")
    other.pretrained("mlm", start=str(base))
    place.start("mlm", other)


@leak(r"masked' is made from .*work/base, a run of this data")
def start_from_a_stage_whose_scorer_started_from_ours(place):
    other, base = place.other("news"), place.run("base")
    other.run("judge", start=str(base)), other.pretrained("masked", {"0": "model"}, scorer="judge")
    place.start("masked", other)


@leak(r"news/base' was trained on the same data with other folds: .*Name a run with the folds of .*news")
def start_several_tasks_from_a_run_whose_folds_were_changed_since(place):
    other = place.other("news")
    change(other.run("base"), "inputs", folds="0123")
    place.joint(other, "base")


@leak(r"start='on' is made from .*news/base, a run of this data")
def start_several_tasks_from_what_saw_all_rows_of_one_of_them(place):
    """Our run began with the average of all folds of the other task, whose rows it then must predict."""
    other = place.other("news")
    place.run("on", start=str(other.run("base")))
    place.start("on")
    place.joint(other, "on")


@leak(r"start='after' is made from .*news/joint, a run of this data")
def start_several_tasks_from_what_was_joint_with_other_folds(place):
    other = place.other("news")
    place.with_tasks(other), place.run("after", start="joint")
    change(other.work / "joint", "inputs", folds="0123")
    place.joint(other, "after")


@leak(r"joint' is made from .*news/joint, a run of this data")
def start_one_task_from_the_joint_run_of_another_folder(place):
    """Its models of all folds together saw all of our rows, too."""
    other = place.other("news")
    place.with_tasks(other)
    other.start(str(place.work / "joint"))


@leak(r"teacher='crossed' leaks: it learned from out-of-fold predictions")
def learn_from_a_run_that_crossed(place):
    place.run("crossed", crosses=True)
    place.teach("crossed")


@leak(r"teacher='base' was trained with other folds than folds.parquet has now")
def learn_from_a_run_of_other_folds(place):
    place.run("base")
    write_json(place.work / "base" / "params.json", {"recipe": {"start": ""}, "inputs": {"folds": "others"}})
    place.teach("base")


@leak(r"teacher='soup': 'soup' predicts test with the average over all folds")
def learn_from_the_average_of_all_folds(place):
    place.run("base"), place.run("soup", soup="folds", soup_of=["base"])
    place.teach("soup")


@leak(r"test.parquet says that its maker saw all")
def learn_from_a_blend_of_an_average_of_all_folds_that_has_no_record(place):
    place.run("base"), place.run("soup", soup="folds", soup_of=["base"]), place.blend("blend", "base", "soup")
    write_json(place.work / "soup" / "params.json", {"recipe": {}})
    place.teach("blend")


@leak(r"test.parquet says that its maker saw all folds")
def learn_from_a_blend_that_was_fitted_on_the_fold_itself(place):
    place.run("base")
    place.blend("blend", "base", crosses=True)
    place.teach("blend")


@leak(r"fold0/test.parquet holds predictions by the model of fold 1")
def take_the_test_predictions_of_another_fold(place):
    base = place.run("base")
    shutil.copy(base / "fold1" / "test.parquet", base / "fold0" / "test.parquet")
    place.teach("base")


@leak(r"0-1.parquet holds predictions of a model that has seen other rows.*Delete it")
def keep_pairs_of_other_folds(place):
    """Pair 0-1 has the same rows when these two folds are mixed, and the models without fold 2 then do not."""

    class Learner:
        def fit(self, train_rows, valid_rows, folder, seed):
            return Fitted(np.full((len(valid_rows), 2), 0.5), np.zeros((0, 2)))

    for fold_of in (FOLD_OF, OTHER):
        pairs = PairModels(Learner(), fold_of, place.ids, place.task.columns, place.work / "pairs")
        pairs.predict(np.flatnonzero(fold_of == 2), 0, 1)


@leak(r"holds rows that were labelled for fold 1, by models that have seen fold 0")
def label_for_another_fold(place):
    folder = place.run("base")
    for k in range(2):
        done = folder / f"fold{k}" / "round1" / "done"
        done.mkdir(parents=True)
        pd.DataFrame({"id": ["t0"], "fold": 1, "maker": "base/fold1"}).to_parquet(done / "added.parquet")
    read_added(folder)


@leak(r"1 of 3 are changed copies .* id '0 retold', a copy of row 0: leave out")
def learn_a_changed_copy_of_a_held_out_row(place):
    table = pd.DataFrame({"id": ["4 retold", "new", "0 retold"], "text": ["a", "b", "c"]})
    extra = ExtraRows(table, np.zeros(3, np.int64), np.ones(3), np.array([4, -1, 0]))
    extra.check_sources(np.array([0, 1, 4]))
    extra.check_sources(np.flatnonzero(FOLD_OF != 0))


@leak(r"no text in .*more.csv is new: all are empty, or in train")
def label_rows_of_train_as_if_they_had_no_labels(place):
    place.train.assign(text=place.train["text"].str.upper() + "  ").to_csv(place.work / "more.csv", index=False)
    make_pool(place.task, place.train, None, [str(place.work / "more.csv")], Recipe())


@pytest.mark.parametrize(("plant", "words"), LEAKS.values(), ids=LEAKS)
def test_it_is_refused_to(place, plant, words):
    with pytest.raises(ValueError, match=words):
        plant(place)


def test_several_tasks_begin_fold_by_fold_from_runs_of_each(place):
    """Also from a joint run, and from what began with it: fold k of all tasks was held out together."""
    other = place.other("news")
    place.run("ours"), other.run("theirs"), place.with_tasks(other), place.run("after", start="joint")
    other.run("again", start="joint")
    for names in (["ours", "theirs"], ["joint"], ["after", "theirs"], ["after", "again"]):
        assert all(source.by_fold for source in place.joint(other, *names)), names
    assert not other.start(str(place.work / "ours"))[0].by_fold


def test_what_does_not_leak_is_not_refused(place):
    place.run("base"), place.run("soup", soup="uniform", soup_of=["base"])
    place.blend("inner", "base", "soup"), place.blend("outer", "inner", "base")
    check_base_predictions([place.read(name) for name in ("base", "soup", "inner", "outer")])
    assert place.teach("base").run.folds == [0, 1, 2] and score_warning(RunRecord(place.work / "outer")) == ""
    assert [source.name for source in read_sources(place.work, ["base", "soup"])] == ["base", "soup"]
    other, read = place.other("news"), place.pretrained("read")  # our texts, and no labels
    other.run("text", start=str(read)), other.pretrained("clean"), other.run("crossed", crosses=True)
    place.run("apart", start=str(other.work / "crossed"))  # the folds that it crossed hold other rows
    assert [len(one.models) for one in place.start("apart")] == [3]
    assert [len(place.start(name, other)[0].models) for name in ("text", "clean")] == [3, 0]
    assert table_metadata(RunRecord(place.work / "outer"), 1)["folds"] == hash_folds(place.folds)
