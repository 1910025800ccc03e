"""Folders of training runs: opened, refused, filled fold by fold, scored."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import Damaged, fold_folders, read_json, write_json
from kagglekit.runs.folder import Fitted, open_run, save_fold, score_run
from kagglekit.runs.record import RunRecord, read_scores
from kagglekit.runs.tables import choose_folds, read_folds, read_run, trained_runs, write_folds

TASK = SimpleNamespace(kind="multiclass", columns=["a", "b"], classes=["a", "b"], metric="accuracy")
RECIPE = {"backbone": "minilm", "start": "", "epochs": 2.0, "tricks": {"FGM": {"epsilon": 0.5}}}
IDS = [f"00{i}" for i in range(6)]
FOLDS = np.array([0, 1, 0, 1, 0, 1])
LABELS = np.array([0, 0, 0, 1, 1, 1])


@pytest.fixture
def work(tmp_path):
    (tmp_path / "task.json").write_text("{}")
    write_folds(tmp_path, IDS, FOLDS)
    return tmp_path


def finish(folder, fold, probs):
    fitted = Fitted(np.array(probs), np.array([[0.5, 0.5]]), [{"step": 1, "loss": 0.7}], {"FGM": {"steps": 3}})
    save_fold(folder, fold, fitted, [IDS[i] for i in np.flatnonzero(fold == FOLDS)], ["t1"], TASK)


def test_a_run_opened_again_with_the_same_recipe_keeps_its_folds(work):
    folder = open_run(work, "base", RECIPE)
    finish(folder, 0, [[0.9, 0.1]] * 3)
    assert open_run(work, "base", json.loads(json.dumps(RECIPE))) == folder
    assert open_run(work, "base", RECIPE, overwrite=True) == folder
    assert list(fold_folders(folder)) == [0]


def test_a_run_of_another_recipe_is_refused_by_name_of_what_differs(work):
    folder = open_run(work, "base", RECIPE)
    finish(folder, 0, [[0.9, 0.1]] * 3)
    with pytest.raises(ValueError, match=r"epochs was 2.0 and is 3.0\. Name another run=, or say overwrite=True"):
        open_run(work, "base", {**RECIPE, "epochs": 3.0})
    assert list(fold_folders(folder)) == [0]
    open_run(work, "base", {**RECIPE, "epochs": 3.0}, overwrite=True)
    assert list(fold_folders(folder)) == []
    assert read_json(folder / "params.json")["recipe"]["epochs"] == 3.0


def test_a_run_of_which_nothing_came_can_be_begun_with_another_recipe(work):
    open_run(work, "base", {**RECIPE, "epochs": 9.0})
    folder = open_run(work, "base", RECIPE)
    assert read_json(folder / "params.json")["recipe"]["epochs"] == 2.0


def test_a_run_stays_the_same_when_its_data_folder_moves_and_without_folds_when_folds_change(work):
    (work / "task.json").write_text('{"kind": "binary", "data": "here"}')
    (open_run(work, "base", RECIPE) / "fold0").mkdir()
    (open_run(work, "mlm", RECIPE, folds=False) / "model").mkdir()
    (work / "task.json").write_text('{"kind": "binary", "data": "there"}')
    open_run(work, "base", RECIPE)
    write_folds(work, IDS, 1 - FOLDS)
    open_run(work, "mlm", RECIPE, folds=False)
    (work / "task.json").write_text('{"kind": "multiclass", "data": "there"}')
    with pytest.raises(ValueError, match="the task changed"):
        open_run(work, "mlm", RECIPE, folds=False)


def test_folds_are_not_changed_under_runs_that_were_trained_on_them(work):
    write_folds(work, IDS, 1 - FOLDS)
    finish(open_run(work, "base", RECIPE), 0, [[0.9, 0.1]] * 3)
    write_folds(work, IDS, 1 - FOLDS)
    with pytest.raises(ValueError, match=r"has runs of other folds \(base\): use another work="):
        write_folds(work, IDS, FOLDS)


def test_other_folds_or_another_model_to_start_from_make_it_another_run(work):
    weights = work / "mlm" / "model" / "model.safetensors"
    (open_run(work, "mlm", RECIPE, folds=False) / "model").mkdir()
    weights.write_bytes(b"one")
    started = {**RECIPE, "start": "mlm"}
    (open_run(work, "base", started) / "fold0").mkdir()
    weights.write_bytes(b"two")
    with pytest.raises(ValueError, match="the weights of mlm changed"):
        open_run(work, "base", started)
    weights.write_bytes(b"one")
    open_run(work, "base", started)
    write_folds(work, IDS, 1 - FOLDS)
    with pytest.raises(ValueError, match="the folds changed"):
        open_run(work, "base", started)


def test_a_trained_run_to_start_from_may_get_more_folds_and_no_others(work):
    def train(fold, content):
        weights = work / "first" / f"fold{fold}" / "model" / "model.safetensors"
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_bytes(content)
        finish(work / "first", fold, [[0.9, 0.1]] * 3)

    open_run(work, "first", RECIPE)
    train(0, b"one")
    started = {**RECIPE, "start": "first"}
    finish(open_run(work, "base", started), 0, [[0.9, 0.1]] * 3)
    before = read_json(work / "base" / "params.json")
    train(1, b"two")
    after = read_json(open_run(work, "base", started) / "params.json")
    assert after["inputs"]["weights of first"].keys() == {"0", "1"} and after["receipts"] == before["receipts"]
    assert after["inputs"]["weights of first"]["0"] == before["inputs"]["weights of first"]["0"]
    for fold in (0, 1):
        train(fold, b"three")
        with pytest.raises(ValueError, match="the weights of first changed"):
            open_run(work, "base", started)
        train(fold, [b"one", b"two"][fold])
    open_run(work, "base", started)


def test_a_run_of_version_0_1_goes_on_under_the_names_of_today(work):
    file = work / "v.parquet"
    file.write_text("one")
    now = {**RECIPE, "truncation": "head", "features": {"vectors": str(file)}}
    folder = open_run(work, "base", now)
    finish(folder, 1, [[0.9, 0.1]] * 3)
    params = read_json(folder / "params.json")
    names = {"truncation": "cut", "features": "beside"}
    old = {names.get(name, name): value for name, value in params["recipe"].items()}
    write_json(folder / "params.json", {**params, "recipe": old})
    assert RunRecord(folder).recipe == params["recipe"] and open_run(work, "base", now) == folder
    assert list(fold_folders(folder)) == [1]
    with pytest.raises(ValueError, match="truncation was 'head' and is 'tail'"):
        open_run(work, "base", {**now, "truncation": "tail"})


def test_a_run_of_version_0_4_goes_on_with_the_defaults_of_today(work):
    before = {"pooling": "mean", "checkpointing": False, "head": "linear"}
    folder = open_run(work, "base", RECIPE | before)
    finish(folder, 0, [[0.9, 0.1]] * 3)
    today = {**RECIPE, "pooling": "auto", "checkpointing": None, "head": "linear", "tuning": "full", "lora": {}}
    assert open_run(work, "base", today) == folder and list(fold_folders(folder)) == [0]
    for changed in ({"tuning": "lora"}, {"pooling": "cls"}, {"lora": {"r": 4}}):
        with pytest.raises(ValueError, match=f"{next(iter(changed))} was "):
            open_run(work, "base", today | changed)
    params = read_json(folder / "params.json")
    assert params["recipe"]["pooling"] == "mean" and RunRecord(folder).recipe["pooling"] == "auto"


def test_a_run_is_never_deleted_for_one_that_is_made_from_it(work):
    finish(open_run(work, "new", RECIPE), 1, [[0.9, 0.1]] * 3)
    (work / "new" / "fold1" / "model").mkdir()
    for made_from in ({"start": "new"}, {"soup_of": ["new"]}):
        with pytest.raises(ValueError, match="run='new' would take the place of a run that it is made from"):
            open_run(work, "new", {**RECIPE, **made_from}, overwrite=True)
    assert list(fold_folders(work / "new")) == [1]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (lambda path: {"features": {"numbers": ["stars"], "word_vectors": path}}, "the word vectors changed"),
        (lambda path: {"augment": {"Dictionary": {"file": path}}}, "the file model.safetensors of Dictionary changed"),
        (lambda path: {"augment": {"MaskedWords": {"model": path[:-18]}}}, "the model a of MaskedWords changed"),
        (lambda path: {"backbone": path[:-18]}, "the backbone changed"),
        (lambda path: {"texts": [path[:-18]]}, "the texts changed"),
        (lambda path: {"pairs": path}, "the pairs changed"),
        (lambda path: {"pseudo": {"unlabelled": [path]}}, "the unlabelled files changed"),
    ],
)
def test_a_file_that_changed_makes_it_another_run(work, named, words):
    file = work / "a" / "model.safetensors"
    file.parent.mkdir()
    file.write_text("one")
    recipe = RECIPE | named(str(file))
    (open_run(work, "base", recipe) / "fold0").mkdir()
    open_run(work, "base", recipe)
    file.write_text("two")
    with pytest.raises(ValueError, match=words):
        open_run(work, "base", recipe)


@pytest.mark.parametrize("name", ["data", "notebooks", "fold3", "../out", "", "a b"])
def test_a_name_that_cannot_be_a_run_is_refused(work, name):
    with pytest.raises(ValueError, match="cannot name a run"):
        open_run(work, name, RECIPE)


@pytest.mark.parametrize("file", ["notes.txt", "weights.json", "params.json"])
def test_a_folder_that_is_no_run_is_never_deleted(work, file):
    (work / "mine").mkdir()
    (work / "mine" / file).write_text('{"lr": 0.1}')
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="mine is no run of this notebook"):
            open_run(work, "mine", RECIPE, overwrite)
    assert (work / "mine" / file).read_text() == '{"lr": 0.1}'


def test_what_a_link_leads_to_is_used_and_never_deleted(work, tmp_path):
    (work / "base").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk").mkdir()
    finish(open_run(work, "base", RECIPE), 0, [[0.9, 0.1]] * 3)
    with pytest.raises(ValueError, match="base is a link, and is not deleted"):
        open_run(work, "base", {**RECIPE, "epochs": 3.0}, overwrite=True)
    assert list(fold_folders(open_run(work, "base", RECIPE, overwrite=True))) == [0]


def test_a_half_made_run_is_replaced(work):
    (work / "base" / ".params.json.0123456789abcdef.part").mkdir(parents=True)  # killed before its first file
    folder = open_run(work, "base", RECIPE)
    (folder / "params.json").write_text("")  # nothing came of it yet
    assert read_json(open_run(work, "base", RECIPE) / "params.json")["recipe"] == RECIPE
    finish(folder, 0, [[0.9, 0.1]] * 3)
    (folder / "params.json").write_text("{")
    with pytest.raises(Damaged, match=rf"{folder}/params.json is damaged .*: run 3_train again .* overwrite=True"):
        open_run(work, "base", RECIPE)
    open_run(work, "base", RECIPE, overwrite=True)
    assert read_json(folder / "params.json")["recipe"] == RECIPE and list(fold_folders(folder)) == []


def test_damaged_folds_are_made_again_under_runs_of_these_folds_alone(work):
    finish(open_run(work, "base", RECIPE), 0, [[0.9, 0.1]] * 3)
    file = work / "folds.parquet"
    good, other = file.read_bytes(), np.where(np.arange(6) < 3, 0, 1)
    file.write_bytes(good[:99])
    with pytest.raises(Damaged, match=r"folds.parquet is damaged .*: run 1_eda again, with the same parameters"):
        read_folds(work, IDS)
    with pytest.raises(ValueError, match=r"has runs of other folds \(base\)"):
        write_folds(work, IDS, other)
    write_folds(work, IDS, FOLDS)
    assert file.read_bytes() == good and open_run(work, "base", RECIPE)


def test_a_fold_that_folds_parquet_lacks_is_named(work):
    table = read_folds(work, IDS)
    assert choose_folds(table, []) == [0, 1]
    assert choose_folds(table, [1]) == [1]
    with pytest.raises(ValueError, match=r"fold 7 is not in folds\.parquet: it has 0 to 1"):
        choose_folds(table, [0, 7])


def test_what_was_saved_is_read_back_and_scored(work):
    folder = open_run(work, "base", RECIPE)
    finish(folder, 0, [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    finish(folder, 1, [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    run = read_run(work, "base", TASK, read_folds(work, IDS), ["t1"])
    scores = score_run(run, TASK, LABELS)
    assert scores["score"] == pytest.approx(5 / 6)
    assert scores["folds"] == {0: pytest.approx(2 / 3), 1: 1.0}
    assert 0 < scores["standard_error"] < 0.5
    (folder / "score.json").write_text(json.dumps(scores))
    assert read_scores(work).loc["base", "folds"] == 2
    assert read_json(folder / "params.json")["receipts"] == {"0": {"FGM": {"steps": 3}}, "1": {"FGM": {"steps": 3}}}
    pd.testing.assert_frame_equal(
        RunRecord(folder).history, pd.DataFrame({"fold": [0, 1], "step": [1, 1], "loss": [0.7, 0.7]})
    )
    assert trained_runs(work) == ["base"]


def test_a_fold_on_which_the_metric_is_not_defined_has_no_score_and_the_run_has_one(work):
    folder, labels = open_run(work, "base", RECIPE), np.array([0, 0, 0, 0, 1, 0])
    oof = [0.1, 0.2, 0.3, 0.1, 0.9, 0.3]
    for fold in (0, 1):
        finish(folder, fold, [[1 - oof[k], oof[k]] for k in np.flatnonzero(fold == FOLDS)])
    alone = int(labels[FOLDS == 1].any())  # the fold of both classes
    run = read_run(work, "base", TASK, read_folds(work, IDS), ["t1"])
    scores = score_run(run, SimpleNamespace(**vars(TASK) | {"metric": "roc_auc"}), labels)
    assert scores["score"] == 1 and scores["folds"] == {alone: 1.0, 1 - alone: None}
    assert json.loads(json.dumps(scores, allow_nan=False)) and np.isfinite(scores["standard_error"])


def test_only_one_fold_finished_is_scored_on_its_rows(work):
    folder = open_run(work, "base", RECIPE)
    finish(folder, 1, [[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
    run = read_run(work, "base", TASK, read_folds(work, IDS), ["t1"])
    assert score_run(run, TASK, LABELS)["score"] == pytest.approx(2 / 3)


def test_nan_predictions_are_refused_and_leave_the_fold_unfinished(work):
    folder = open_run(work, "base", RECIPE)
    with pytest.raises(ValueError, match="NaN"):
        finish(folder, 0, [[np.nan, 0.1], [0.2, 0.8], [0.3, 0.7]])
    assert fold_folders(folder) == {}
