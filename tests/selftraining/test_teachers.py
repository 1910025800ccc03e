"""Runs that label: each fold by its own model, and whatever would leak refused."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.task import encode_labels
from kagglekit.ensembling.blend import blend_runs
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import read_json, write_json
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.record import RunRecord, with_ancestors
from kagglekit.runs.tables import read_folds, read_parquet, read_run, write_folds
from kagglekit.selftraining.teachers import read_teacher
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from tests.conftest import make_task

FOLDS = np.arange(24) % 3
FILES = {"train": "train.csv", "test": "test.csv", "sample_submission": "sample_submission.csv"}
TASK = make_task("multiclass", files=FILES, fingerprint="f")


def save_tables(work, name, tables, recipe=None, folds=(0, 1), seed=0):
    """A run without models, with random predictions."""
    folder = open_run(work, name, {"backbone": "tfidf", "start": "", **(recipe or {})})
    for fold in folds:
        draw = np.random.default_rng([seed, fold]).dirichlet
        fitted = Fitted(draw([1, 1, 1], size=(fold == FOLDS).sum()), draw([1, 1, 1], size=7))
        save_fold(folder, fold, fitted, tables[0]["id"][fold == FOLDS], tables[1]["id"], TASK)
    return folder


def cross(work, name):
    """The run turns out to have learned from out-of-fold predictions."""
    told = read_json(work / name / "params.json")
    write_json(work / name / "params.json", {**told, "recipe": {**told["recipe"], "crosses": True}})


def blend(work, tables, name, members, method="mean"):
    train, test = tables
    runs = [read_run(work, member, TASK, read_folds(work, train["id"]), test["id"]) for member in members]
    return blend_runs(runs, encode_labels(TASK, train), BlendPlan(TASK.kind, TASK.metric, method)).save(
        work, name, TASK
    )


@pytest.fixture(scope="module")
def tables(texts):
    words, balance = texts(24)
    labels = np.array(TASK.classes)[np.sign(balance) + 1]
    train = pd.DataFrame({"id": [str(n) for n in range(24)], "text": words, "label": labels})
    return train, pd.DataFrame({"id": [f"t{n}" for n in range(7)], "text": texts(7, seed=1)[0]})


@pytest.fixture(scope="module")
def trained(tables, backbone, tmp_path_factory):
    """A work folder with two trained runs of folds 0 and 1, one without models, and blends of them."""
    work = tmp_path_factory.mktemp("teachers") / "work"
    TASK.save(work)
    write_folds(work, tables[0]["id"], FOLDS)
    for seed, name in enumerate(("base", "other")):
        recipe = Recipe(max_length=16, epochs=1, batch_size=8, learning_rate=2e-2, truncation="tail")
        learner = FineTuner(TASK, *tables, backbone, recipe)
        learner.precision = "fp32"
        folder = open_run(work, name, {"backbone": backbone, "start": ""} | recipe.as_dict())
        for fold in (0, 1):
            ours, held_out = np.flatnonzero(fold != FOLDS), np.flatnonzero(fold == FOLDS)
            fitted = learner.fit(ours, held_out, folder / f"fold{fold}", seed)
            save_fold(folder, fold, fitted, tables[0]["id"].iloc[held_out], tables[1]["id"], TASK)
    save_tables(work, "tables", tables)
    for method in ("mean", "rank", "vote", "weights"):
        blend(work, tables, method, ["base", "other"], method)
    blend(work, tables, "nested", ["weights", "base"])
    blend(work, tables, "mixed", ["base", "tables"])
    return work


@pytest.fixture
def work(trained, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(trained, tmp_path / "work")


@pytest.fixture
def read(tables):
    """read(work, name): in float32."""

    def exactly(teacher):
        return replace(teacher, precision="fp32", members=[exactly(member) for member in teacher.members])

    def make(work, name):
        labels = encode_labels(TASK, tables[0])
        return exactly(read_teacher(work, name, TASK, read_folds(work, tables[0]["id"]), tables[1]["id"], labels))

    return make


def table_of(work, name, fold, file="test"):
    return read_parquet(work / name / f"fold{fold}" / f"{file}.parquet").iloc[:, 1 if file == "test" else 2 :]


def test_a_teacher_reads_in_the_precision_of_its_run(work, tables):
    params = read_json(work / "base" / "params.json")
    for precision in ("fp32", "bf16"):
        write_json(work / "base" / "params.json", params | {"recipe": params["recipe"] | {"precision": precision}})
        given = TASK, read_folds(work, tables[0]["id"]), tables[1]["id"], encode_labels(TASK, tables[0])
        assert read_teacher(work, "base", *given).saved(0).precision == precision


@pytest.mark.parametrize("name", ["base", "tables", "rank", "nested"])
def test_a_fold_says_of_test_what_its_own_table_says(trained, read, name):
    teacher = read(trained, name)
    for fold in (0, 1):
        assert np.array_equal(teacher.test(fold), table_of(trained, name, fold))
    assert not np.allclose(teacher.test(0), teacher.test(1))
    with pytest.raises(ValueError, match=f"teacher='{name}' has no fold 2, only 0, 1: train that fold first"):
        teacher.test(2)


def test_out_of_fold_predictions_stand_at_their_rows(trained, read):
    oof = read(trained, "base").oof
    for fold in (0, 1):
        assert np.array_equal(oof[fold == FOLDS], table_of(trained, "base", fold, "oof"))
    assert oof.shape == (24, 3) and np.isnan(oof[FOLDS == 2]).all()


@pytest.mark.parametrize("name", ["base", "mean", "rank", "vote", "weights", "nested"])
def test_new_rows_are_predicted_as_the_rows_of_test_were(trained, read, tables, name):
    teacher = read(trained, name)
    for fold in (0, 1):
        assert np.allclose(teacher.predict(fold, tables[1]), teacher.test(fold), atol=1e-5)
    assert (teacher.model(0) is not None) == (name == "base")


def test_what_has_no_model_labels_test_alone(trained, read, tables):
    for name, words in (("tables", "'tables' has kept no model"), ("mixed", "'tables' has kept no model")):
        teacher = read(trained, name)
        assert teacher.test(0).shape == (7, 3) and teacher.model(0) is None
        for ask in (teacher.check_reads, lambda fold, t=teacher: t.predict(fold, tables[1])):
            with pytest.raises(ValueError, match=words):
                ask(0)
    with pytest.raises(ValueError, match="'mean' is a blend, which has no model of its own"):
        read(trained, "mean").saved(0)
    read(trained, "nested").check_reads(0)


def test_a_blend_whose_members_changed_since_or_are_gone_is_refused(work, read, tables):
    """One that crossed folds may have been among them, and is in the tables of the blend all the same."""
    save_tables(work, "crossed", tables)
    blend(work, tables, "both", ["crossed", "base"])
    cross(work, "crossed")
    shutil.rmtree(work / "crossed")
    with pytest.raises(ValueError, match="teacher='both' was blended from crossed too, of which nothing is left"):
        read(work, "both")
    save_tables(work, "crossed", tables, seed=5)
    with pytest.raises(ValueError, match="'both' was blended from other predictions of crossed than it has now"):
        read(work, "both")
    blend(work, tables, "both", ["crossed", "base"])
    assert np.array_equal(read(work, "both").test(1), table_of(work, "both", 1))


def test_runs_of_other_folds_or_other_data_are_refused(work, read, tables):
    with pytest.raises(FileNotFoundError, match="run='gone' does not exist"):
        read(work, "gone")
    params = work / "base" / "params.json"
    told = read_json(params)
    write_json(params, {**told, "inputs": {**told["inputs"], "folds": "0123"}})
    with pytest.raises(ValueError, match="teacher='base' was trained with other folds than"):
        read(work, "base")
    with pytest.raises(ValueError, match="teacher='base' was trained with other folds"):
        read(work, "mean")  # by way of a member
    others = read_folds(work, tables[0]["id"]).assign(fold=np.arange(24) // 8)
    others.to_parquet(work / "folds.parquet", index=False)
    with pytest.raises(ValueError, match=r"oof.parquet was made with other folds than folds.parquet"):
        read(work, "tables")
    with pytest.raises(ValueError, match=r"test.parquet was made for another test file"):
        read_teacher(work, "tables", TASK, read_folds(work, tables[0]["id"]).assign(fold=FOLDS), ["x"] * 7, FOLDS)


def test_what_crossed_folds_is_refused_whatever_way_it_comes(work, read, tables):
    """crossed -> start of one, teacher of the next, member of a blend, teacher again."""
    save_tables(work, "crossed", tables, {"distill": {"teacher": "tables", "by": "oof"}})
    save_tables(work, "begun", tables)
    told = read_json(work / "begun" / "params.json")
    write_json(work / "begun" / "params.json", {**told, "recipe": {**told["recipe"], "start": "crossed"}})
    save_tables(work, "taught", tables, {"pseudo": {"teacher": "begun"}})
    blend(work, tables, "both", ["taught", "base"])
    cross(work, "crossed")
    with pytest.raises(ValueError, match="runs='taught' is made from 'crossed', which leaks"):
        blend(work, tables, "more", ["taught", "base"])  # not even by the mean
    save_tables(work, "again", tables, {"distill": {"teacher": "both"}})
    with pytest.raises(ValueError, match="teacher='crossed' leaks: it learned from out-of-fold predictions"):
        read(work, "crossed")
    for name in ("begun", "taught", "both", "again"):
        with pytest.raises(ValueError, match=f"teacher='{name}' is made from 'crossed', which leaks"):
            read(work, name)
    assert [run.name for run in with_ancestors([RunRecord(work / "again")])] == [
        "again",
        "both",
        "taught",
        "base",
        "begun",
        "crossed",
        "tables",
    ]
    read(work, "mean")


def test_what_crossed_folds_of_other_data_does_not_count(work, read, tables):
    """Its folds are not ours: none of its rows are."""
    elsewhere = work.parent / "elsewhere"
    replace(TASK, fingerprint="g").save(elsewhere)
    write_folds(elsewhere, tables[0]["id"], FOLDS)
    save_tables(elsewhere, "crossed", tables, {"crosses": True})
    params = work / "base" / "params.json"
    told = read_json(params)
    write_json(params, {**told, "recipe": {**told["recipe"], "start": str(elsewhere / "crossed")}})
    assert read(work, "base").run.name == "base"


def test_an_average_over_all_folds_is_refused(work, read, tables):
    save_tables(work, "soup", tables)
    params = work / "soup" / "params.json"
    told = read_json(params)
    blend(work, tables, "both", ["soup", "base"])
    for how in ("uniform", "folds"):
        write_json(params, {**told, "recipe": {**told["recipe"], "soup_of": ["base", "other"], "soup": how}})
        if how == "uniform":
            read(work, "both")
    for name in ("soup", "both"):
        with pytest.raises(ValueError, match=f"teacher='{name}': 'soup' predicts test with the average over all folds"):
            read(work, name)


def test_other_predictions_of_a_teacher_make_it_another_run(work, tables):
    student = {"backbone": "minilm", "start": "", "pseudo": {"teacher": "mean", "labels": "hard"}, "distill": {}}
    folder = open_run(work, "student", student)
    (folder / "fold0").mkdir()
    hashes = read_json(folder / "params.json")["inputs"]
    assert [name for name in hashes if name.startswith("pred")] == [
        "predictions of mean",
        "predictions of base",
        "predictions of other",
    ]
    assert hashes["predictions of mean"].keys() == {"0", "1"}
    weights = work / "base" / "fold1" / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + b"!")
    with pytest.raises(ValueError, match="the predictions of base changed"):
        open_run(work, "student", student)
    weights.write_bytes(before)
    assert open_run(work, "student", student) == folder
    blend(work, tables, "mean", ["base", "other"], "vote")
    with pytest.raises(ValueError, match="the predictions of mean changed"):
        open_run(work, "student", student)
    with pytest.raises(ValueError, match="run='base' would take the place of a run that it is made from"):
        open_run(work, "base", student, overwrite=True)


def test_a_teacher_may_get_more_folds_unless_the_student_looks_at_all(work, tables):
    for knob, crosses in (("distill", {}), ("distill", {"crosses": True})):
        student = {"backbone": "minilm", "start": "", knob: {"teacher": "tables"}, **crosses}
        folder = open_run(work, f"student{len(crosses)}", student)
        (folder / "fold0").mkdir()
        save_tables(work, "tables", tables, folds=(2,))
        if crosses:
            with pytest.raises(ValueError, match="the predictions of tables changed"):
                open_run(work, folder.name, student)
        else:
            after = read_json(open_run(work, folder.name, student) / "params.json")["inputs"]
            assert after["predictions of tables"].keys() == {"0", "1", "2"}
            shutil.rmtree(work / "tables" / "fold2")


def test_files_to_label_that_changed_make_it_another_run(work):
    file = work / "more.csv"
    file.write_text("text\na film\n")
    student = {"backbone": "minilm", "start": "", "pseudo": {"teacher": "", "unlabelled": [str(file)]}}
    (open_run(work, "student", student) / "fold0").mkdir()
    open_run(work, "student", student)
    file.write_text("text\na plot\n")
    with pytest.raises(ValueError, match="the unlabelled files changed"):
        open_run(work, "student", student)
