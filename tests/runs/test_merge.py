"""Runs of two work folders become one: folds added, the same ones left alone, everything else refused beforehand."""

import shutil
from dataclasses import asdict

import numpy as np
import pytest

from kagglekit.ensembling.blend import blend_runs
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.files import fold_folders, read_json, write_json
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.merge import find_works, merge_runs
from kagglekit.runs.tables import read_folds, read_run, write_folds

RECIPE = {"backbone": "minilm", "start": "", "epochs": 2.0}
IDS, FOLDS = [f"00{i}" for i in range(6)], np.array([0, 1, 2, 0, 1, 2])
TASK = {"data": "here", "fingerprint": "f"}


@pytest.fixture
def place(tmp_path, task):
    """place(name): a work folder with a task and folds."""

    def make(name, folds=FOLDS, **told):
        kind = asdict(task("multiclass", classes=["a", "b"], **{**TASK, **told}))
        write_json(tmp_path / name / "task.json", kind)
        write_folds(tmp_path / name, IDS, folds)
        return tmp_path / name

    return make


def finish(work, fold, task, run="base", value=0.9, recipe=RECIPE, tests=("t1",)):
    folder = open_run(work, run, recipe)
    oof, test = np.tile([value, 1 - value], (2, 1)), np.tile([0.5, 0.5], (len(tests), 1))
    rows = [IDS[i] for i in np.flatnonzero(fold == FOLDS)]
    save_fold(folder, fold, Fitted(oof, test, [{"step": 1, "loss": 0.7}], {"FGM": {"steps": fold}}), rows, tests, task)
    return folder


@pytest.fixture
def two(task):
    return task("multiclass", classes=["a", "b"])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def test_folds_trained_in_two_places_become_one_run_with_all_receipts(place, two):
    home, there = place("home"), place("kernel", data="/kaggle/input/bbc")
    finish(home, 0, two)
    write_json(home / "base" / "score.json", {"run": "base", "folds": {"0": 1.0}})
    for fold in (1, 2):
        finish(there, fold, two)
    before = contents(there)
    assert merge_runs(there, home) == {"base": [1, 2]}
    run = read_run(home, "base", two, read_folds(home, IDS), ["t1"])
    assert run.folds == [0, 1, 2] and contents(there) == before
    receipts = read_json(home / "base" / "params.json")["receipts"]
    assert receipts == {str(fold): {"FGM": {"steps": fold}} for fold in range(3)}
    assert not (home / "base" / "score.json").exists()
    assert read_json(home / "task.json")["data"] == "here"
    assert merge_runs(there, home) == {}
    open_run(home, "base", RECIPE)  # and training goes on in it


def test_an_empty_work_folder_gets_task_folds_and_runs_by_moving_them(place, two, tmp_path):
    there = place("kernel")
    finish(there, 0, two)
    write_json(there / "base" / "score.json", {"run": "base"})
    before = contents(there)
    assert merge_runs(there, tmp_path / "home", copy=False) == {"base": [0]}
    assert contents(tmp_path / "home").keys() == before.keys()
    assert not (there / "base" / "fold0").exists()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("recipe", r"made with other settings than .*epochs was 2.0 and is 3.0\. Give one of them another name"),
        ("rates", r"made with other settings than .*: the rate of head was 0.0002 and is 0.001\. Give one of them"),
        ("defaults", r"made with other settings than .*: tricks: FGM: epsilon was 1\.0 and is 0\.5\. Give one of them"),
        ("task", r"made for another task than .*metric was 'accuracy' and is 'f1_macro'"),
        ("folds", "made with other folds than"),
        ("predictions", r"fold0.oof.parquet.* hold other predictions of the same fold"),
        ("test", r"made for another test file"),
        ("blend", r"is no trained run, as .* is: give one of them another name"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_by_name_before_anything_is_written(place, two, what, message):
    home = place("home")
    there = place("kernel", **{"folds": 2 - FOLDS} if what == "folds" else {})
    finish(home, 0, two)
    if what == "task":
        write_json(there / "task.json", read_json(there / "task.json") | {"metric": "f1_macro"})
    if what == "folds":
        there_ids = [IDS[i] for i in np.flatnonzero(2 - FOLDS == 1)]
        made = Fitted(np.full((2, 2), 0.5), np.full((1, 2), 0.5), [], {})
        save_fold(open_run(there, "base", RECIPE), 1, made, there_ids, ["t1"], two)
    else:
        finish(there, 1, two, "another", tests=("t9",) if what == "test" else ("t1",))
        finish(there, 0, two, value=0.8 if what == "predictions" else 0.9,
               recipe={**RECIPE, "epochs": 3.0 if what == "recipe" else 2.0})  # fmt: skip
    if what == "blend":
        (home / "base" / "params.json").rename(home / "base" / "weights.json")
    for work, rate in ((home, 2e-4), (there, 1e-3)) if what == "rates" else ():
        params = read_json(work / "base" / "params.json")
        params["receipts"]["0"]["learning rates"] = {"head": rate}
        write_json(work / "base" / "params.json", params)
    for work, one in ((home, {"old": 1, "pooling": "cls"}), (there, {"new": 2})) if what == "defaults" else ():
        defaults = {"pooling": "cls", "tricks: FGM: epsilon": 1.0 if work == home else 0.5} | one
        write_json(work / "base" / "params.json", read_json(work / "base" / "params.json") | {"defaults": defaults})
    before = contents(home)
    with pytest.raises(ValueError, match=message):
        merge_runs(there, home)
    assert contents(home) == before


def test_the_checkpoint_that_is_further_on_stays_and_a_finished_fold_replaces_it(place, two):
    home, there = place("home"), place("kernel")
    for work, step in ((home, 120), (there, 80)):
        finish(work, 0, two)
        place_of = work / "base" / "fold1" / "checkpoints" / f"checkpoint-{step}"
        place_of.mkdir(parents=True)
        (place_of / "complete").touch()
    assert merge_runs(there, home) == {}
    assert merge_runs(home, there) == {"base": []}
    assert (there / "base" / "fold1" / "checkpoints" / "checkpoint-120").is_dir()
    shutil.rmtree(there / "base" / "fold1")
    finish(there, 1, two)
    assert merge_runs(there, home) == {"base": [1]}
    assert not (home / "base" / "fold1" / "checkpoints").exists()


def test_files_that_lie_in_inputs_in_a_kernel_are_those_of_another_folder_at_home(place, two, tmp_path):
    home, there = place("home"), place("kernel")
    for folder in ("models/bert", "inputs/bert"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").write_bytes(b"1")
    folder = finish(home, 0, two, recipe={**RECIPE, "backbone": str(tmp_path / "models/bert")})
    other = finish(there, 1, two, recipe={**RECIPE, "backbone": str(tmp_path / "inputs/bert")})
    params = read_json(other / "params.json")
    write_json(other / "params.json", {**params, "recipe": {**params["recipe"], "backbone": "inputs/bert"}})
    assert merge_runs(there, home) == {"base": [1]}
    assert read_json(folder / "params.json")["recipe"]["backbone"] == str(tmp_path / "models/bert")
    write_json(other / "params.json", {**params, "recipe": {**params["recipe"], "backbone": "inputs/roberta"}})
    with pytest.raises(ValueError, match="backbone was"):
        merge_runs(there, home)


def test_a_blend_comes_whole_and_is_refused_where_its_folds_differ(place, two):
    home, there = place("home"), place("kernel")
    for fold in (0, 1, 2):
        finish(there, fold, two)
        finish(there, fold, two, "other", value=0.7)
    runs = [read_run(there, name, two, read_folds(there, IDS), ["t1"]) for name in ("base", "other")]
    plan = BlendPlan("multiclass", "accuracy", "mean")
    blend_runs(runs, np.array([0, 0, 0, 1, 1, 1]), plan).save(there, "blend", two)
    assert merge_runs(there, home) == {name: [0, 1, 2] for name in ("base", "blend", "other")}
    assert contents(home / "blend") == contents(there / "blend")
    assert merge_runs(there, home) == {}
    shutil.rmtree(home / "blend" / "fold2")
    with pytest.raises(ValueError, match="is not the blend that"):
        merge_runs(there, home)


def test_pretrained_runs_are_compared_by_their_weights_and_per_fold_models_put_together(place):
    home, there = place("home"), place("kernel")
    for work, part in ((home, "part0"), (there, "part1")):
        folder = open_run(work, "mlm", RECIPE, folds=False)
        for name in ("", part):
            (folder / name / "model").mkdir(parents=True)
            (folder / name / "model" / "model.safetensors").write_bytes(b"same")
            write_json(folder / name / "pretraining.json", {})
        write_json(folder / "models.json", {part[4:]: f"{part}/model"})
    assert merge_runs(there, home) == {"mlm": []}
    assert read_json(home / "mlm" / "models.json") == {"0": "part0/model", "1": "part1/model"}
    assert (home / "mlm" / "part1" / "model" / "model.safetensors").is_file()
    (home / "mlm" / "pretraining.json").rename(home / "mlm" / "unfinished.json")
    assert merge_runs(there, home) == {"mlm": []}
    assert not (home / "mlm" / "unfinished.json").exists()
    (home / "mlm" / "model" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match="hold other weights"):
        merge_runs(there, home)


def test_read_only_trees_and_links_come_as_plain_files_that_can_be_written(place, two, tmp_path):
    there = place("kernel")
    fold = finish(there, 0, two) / "fold0"
    (fold / "history.jsonl").rename(tmp_path / "history.jsonl")
    (fold / "history.jsonl").symlink_to(tmp_path / "history.jsonl")
    for path in [*there.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    home = tmp_path / "home"
    merge_runs(there, home)
    assert not (home / "base" / "fold0" / "history.jsonl").is_symlink()
    assert all(path.stat().st_mode & 0o200 for path in home.rglob("*"))
    assert find_works(tmp_path) == [home, there] and list(fold_folders(home / "base")) == [0]


def test_a_folder_without_runs_is_an_error_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no runs"):
        merge_runs(tmp_path, tmp_path / "home")
