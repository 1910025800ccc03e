"""What earlier machines made comes into a kernel: bundles, runs of earlier kernels, the task with its data."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from folders import write_competition

from kagglekit.competition.infer import infer
from kagglekit.competition.task import load_task
from kagglekit.files import fold_folders, hash_files, read_json, resolve, write_json
from kagglekit.kaggle.bundle import measure, pack
from kagglekit.kaggle.gather import describe_train, find_outputs, gather, settle_task
from kagglekit.kaggle.in_kernel import tidy
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.tables import read_folds, read_run, write_folds

RECIPE = {"backbone": "tfidf", "start": "", "epochs": 2.0}
IDS, TESTS, FOLDS = [f"a{n}" for n in range(6)], ["t1", "t2"], np.array([0, 1, 2, 0, 1, 2])


def write(folder, test_ids=TESTS):
    return write_competition(folder, IDS, ("no", "yes"), test_ids, "no")


def finish(work, run, fold, recipe=RECIPE):
    folder, random = open_run(work, run, recipe), np.random.default_rng(fold)
    oof, test = random.dirichlet([1, 1], size=2), random.dirichlet([1, 1], size=2)
    fitted = Fitted(oof, test, [{"step": 1, "loss": 0.7}], {"FGM": {"steps": fold}})
    save_fold(folder, fold, fitted, [IDS[n] for n in np.flatnonzero(fold == FOLDS)], TESTS, load_task(work))
    return folder


def bundle_of(work, place, ref="me/bbc-inputs"):
    files = {f"runs/bbc/{path.relative_to(work)}": path for path in work.rglob("[!.]*") if path.is_file()}
    return pack(files, place, ref, train=describe_train(work))


@pytest.fixture
def home(tmp_path):
    """A work folder at home with the run `base`, of which fold 0 is finished."""
    data, work = write(tmp_path / "data"), tmp_path / "home" / "runs" / "bbc"
    infer(data)[0].save(work)
    write_folds(work, IDS, FOLDS)
    finish(work, "base", 0)
    return work


@pytest.fixture
def kernel(tmp_path, home, monkeypatch):
    """The working directory of a kernel to which the competition and a bundle are attached."""
    inputs, working = tmp_path / "input", tmp_path / "working"
    working.mkdir()
    shutil.copytree(tmp_path / "data", inputs / "competitions" / "news")
    bundle_of(home, inputs / "datasets" / "me" / "bbc-inputs")
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(inputs))
    monkeypatch.chdir(working)
    return working


def earlier(home, kernel, slug, folds, run="base", recipe=RECIPE, kernel_file=True):
    """The output of an earlier kernel, mounted: a copy of home in which folds of a run were trained."""
    output = kernel.parent / "input" / "notebooks" / "me" / slug
    work = output / "runs" / "bbc"
    work.mkdir(parents=True)
    for name in ("task.json", "folds.parquet"):
        shutil.copyfile(home / name, work / name)
    for fold in folds:
        finish(work, run, fold, recipe)
    if kernel_file:
        write_json(output / "kernel.json", {"kagglekit": "0", "work": "runs/bbc", "train": describe_train(work)})
    return work


def gathered(kernel):
    lines = gather()
    return lines, kernel / "runs" / "bbc"


def test_a_bundle_becomes_the_work_folder_and_the_task_knows_where_the_data_are(kernel, home):
    lines, work = gathered(kernel)
    assert lines == [f"{kernel.parent}/input/datasets/me/bbc-inputs: 6 files"]
    assert "the same as at home" in settle_task("runs/bbc", "news")
    task = load_task("runs/bbc")
    assert task.data == str(kernel.parent / "input" / "competitions" / "news")
    assert not (work / "task.json").is_symlink() and (work / "folds.parquet").is_symlink()
    assert fold_folders(open_run("runs/bbc", "base", RECIPE)).keys() == {0}
    assert read_json(home / "task.json")["data"] != task.data


def test_files_that_parameters_name_keep_their_names_and_are_not_left_behind(kernel, home, tmp_path):
    (tmp_path / "more texts.csv.gz").write_bytes(b"packed")
    own = {"data/own/more texts.csv.gz": tmp_path / "more texts.csv.gz"}
    pack(own, kernel.parent / "input" / "extra", "me/extra-files")
    (home / "more.csv.gz").write_bytes(b"packed texts")
    (home / "far").mkdir()
    pd.DataFrame({"id": IDS}).to_parquet(home / "far" / "vectors.parquet")
    bundle_of(home, kernel.parent / "input" / "datasets" / "me" / "bbc-inputs")
    _, work = gathered(kernel)
    for name in ("more.csv.gz", "far/vectors.parquet"):
        assert hash_files([resolve(f"runs/bbc/{name}")]) == hash_files([home / name])
    copy = kernel / "data" / "own" / "more texts.csv.gz"
    assert copy.resolve() == copy and copy.read_bytes() == b"packed"  # resolve() of a link would give 0001-...gz.bin
    settle_task("runs/bbc", "news")
    finish(work, "base", 1)
    tidy("runs/bbc")
    assert {path.name for path in work.iterdir() if path.name[0] != "."} == {"base", "folds.parquet", "task.json"}


@pytest.mark.parametrize("kernel_file", [True, False])
def test_folds_of_several_kernels_come_together_and_training_goes_on(kernel, home, kernel_file):
    for slug, folds in (("fold1", [1]), ("fold2", [0, 2])):
        earlier(home, kernel, slug, folds, kernel_file=kernel_file)
    lines, work = gathered(kernel)
    settle_task("runs/bbc", "news")
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "runs base [1] go on in runs/bbc",
        "runs base [2] go on in runs/bbc",
    ]
    folds = read_folds("runs/bbc", IDS)
    assert read_run("runs/bbc", "base", load_task("runs/bbc"), folds, TESTS).folds == [0, 1, 2]
    params = read_json(work / "base" / "params.json")
    assert {fold: told["FGM"]["steps"] for fold, told in params["receipts"].items()} == {"0": 0, "1": 1, "2": 2}
    assert (work / "base" / "fold0" / "oof.parquet").is_symlink()  # it was there already
    assert not (work / "base" / "fold1" / "oof.parquet").is_symlink()
    again, _ = gathered(kernel)
    assert [line.split(": ")[1] for line in again[1:]] == ["nothing new for runs/bbc"] * 2


def test_the_checkpoint_of_a_fold_that_time_has_cut_comes_along(kernel, home):
    output = earlier(home, kernel, "cut", [])
    checkpoint = open_run(output, "base", RECIPE) / "fold1" / "checkpoints" / "checkpoint-120"
    checkpoint.mkdir(parents=True)
    for name in ("state.json", "complete"):
        (checkpoint / name).write_text("120")
        (checkpoint / name).chmod(0o444)
    lines, work = gathered(kernel)
    came = work / "base" / "fold1" / "checkpoints" / "checkpoint-120" / "complete"
    came.write_text("a copy, and not read-only")
    assert fold_folders(work / "base").keys() == {0} and lines[1].endswith("runs base go on in runs/bbc")


def test_a_run_of_other_settings_is_refused_by_name_of_what_differs(kernel, home):
    earlier(home, kernel, "other", [1], recipe={**RECIPE, "epochs": 3.0})
    with pytest.raises(ValueError, match=r"base was made with other settings .*epochs was 2\.0 and is 3\.0"):
        gather()


def test_without_a_bundle_the_output_of_a_kernel_brings_task_and_folds(kernel, home):
    shutil.rmtree(kernel.parent / "input" / "datasets")
    earlier(home, kernel, "eda", [])
    lines, work = gathered(kernel)
    assert lines[0].endswith("nothing new for runs/bbc")
    settle_task("runs/bbc", "news")
    assert load_task(work).metric == "accuracy" and len(read_folds(work, IDS)) == 6


def test_the_hidden_test_of_a_code_competition_renews_the_fingerprint(kernel, home):
    news = kernel.parent / "input" / "competitions" / "news"
    shutil.rmtree(news)
    write(news, test_ids=["h1", "h2", "h3"])
    earlier(home, kernel, "fold1", [1])
    shutil.copytree(kernel.parent / "input" / "notebooks" / "me" / "fold1" / "runs" / "bbc", kernel / "runs" / "other")
    gathered(kernel)
    assert "test or the sample submission are others" in settle_task("runs/bbc", "news")
    assert load_task("runs/bbc").fingerprint == load_task("runs/other").fingerprint
    assert load_task("runs/bbc").fingerprint != read_json(home / "task.json")["fingerprint"]
    assert "the same as at home" in settle_task("runs/bbc", "news")


def test_another_train_is_an_error(kernel):
    train = kernel.parent / "input" / "competitions" / "news" / "train.csv"
    train.write_text(train.read_text().replace("number 3", "number four"))
    gathered(kernel)
    before = read_json("runs/bbc/task.json")
    with pytest.raises(ValueError, match=r"news/train\.csv is not the train file that the folds and models were made"):
        settle_task("runs/bbc", "news")
    assert read_json("runs/bbc/task.json") == before


def test_other_files_without_a_word_of_which_train_it_was_are_an_error(kernel, home):
    bundle_of(home, kernel.parent / "input" / "datasets" / "me" / "bbc-inputs")
    file = kernel.parent / "input" / "datasets" / "me" / "bbc-inputs" / "bundle.json"
    write_json(file, {name: value for name, value in read_json(file).items() if name != "train"})
    gathered(kernel)
    sample = kernel.parent / "input" / "competitions" / "news" / "sample_submission.csv"
    sample.write_text(sample.read_text().replace("no", "yes"))
    with pytest.raises(ValueError, match="nothing attached says which train that was"):
        settle_task("runs/bbc", "news")


def test_a_missing_competition_is_said_with_what_is_attached(kernel):
    gathered(kernel)
    shutil.rmtree(kernel.parent / "input" / "competitions")
    with pytest.raises(FileNotFoundError, match=r"(?s)'news' with train\.csv, test\.csv.*bbc-inputs/"):
        settle_task("runs/bbc", "news")


def test_without_a_task_nothing_is_settled_and_without_inputs_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    assert gather() == [
        "neither a bundle nor the output of a kernel is attached; there are no inputs: "
        f"{tmp_path / 'nowhere'} does not exist"
    ]
    assert settle_task("runs/bbc", "news") == "runs/bbc has no task yet: 1_eda writes it"
    assert list(tmp_path.iterdir()) == []


def test_two_bundles_that_contradict_each_other_are_refused_before_anything_is_unpacked(kernel, home):
    (home / "folds.parquet").unlink()
    write_folds(home.parent / "bbc2", IDS, 2 - FOLDS)
    shutil.copyfile(home.parent / "bbc2" / "folds.parquet", home / "folds.parquet")
    bundle_of(home, kernel.parent / "input" / "datasets" / "me" / "more", "me/bbc-more")
    with pytest.raises(ValueError, match=r"hold different files for runs/bbc/folds\.parquet: attach one"):
        gather()
    assert list(kernel.iterdir()) == []


def test_files_of_these_names_by_other_tools_do_not_count(kernel, home):
    other = kernel.parent / "input" / "datasets" / "me" / "other"
    (other / "runs" / "x").mkdir(parents=True)
    told = {"bundle.json": '{"files": []}', "kernel.json": '{"kagglekit": "0", "work": "../up"}', "task.json": "[1]"}
    for name, content in (told | {"runs/x/task.json": "not json"}).items():
        (other / name).write_text(content)
    lines, _ = gathered(kernel)
    assert len(lines) == 1 and find_outputs() == []


def test_what_identifies_train_is_its_name_and_hash(home):
    data = home.parents[2] / "data" / "train.csv"
    assert describe_train(home) == {"name": "train.csv", "sha256": measure(data)["sha256"]}
    assert describe_train(home.parent) == {}
    assert json.loads(json.dumps(describe_train(home))) == describe_train(home)
