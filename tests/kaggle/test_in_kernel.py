"""The first and the last cell of a kernel, with inputs as Kaggle mounts them."""

import os
import time

import numpy as np
import pandas as pd
import pytest
import torch
from folders import write_competition
from safetensors.torch import load_file, save_file

from kagglekit.competition.infer import infer
from kagglekit.competition.submission import check_submission
from kagglekit.competition.task import load_task, read_sample, read_test, read_train
from kagglekit.files import read_json, write_json
from kagglekit.files.arrays import SEAL
from kagglekit.kaggle.bundle import pack
from kagglekit.kaggle.gather import describe_train
from kagglekit.kaggle.golden_rows import write_golden
from kagglekit.kaggle.in_kernel import check_golden, enter, hide_broken, leave, run_step
from kagglekit.running.gpus import Gpu, Gpus
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.tables import write_folds, write_parquet
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

RECIPE, FOLDS = {"backbone": "tfidf", "start": ""}, np.arange(8) % 2


def write(folder, test_rows=3):
    return write_competition(folder, range(8), ("no", "yes", "so", "so"), range(100, 100 + test_rows), "no")


def finish(work, run, fold, says=2):
    """A fold of a run that predicts one class of all rows of test."""
    task, folder = load_task(work), open_run(work, run, RECIPE)
    test = np.full((3, 3), 0.1) + 0.7 * np.eye(3)[says]
    ids = [id for id, number in zip(read_train(task)["id"], FOLDS, strict=True) if number == fold]
    save_fold(folder, fold, Fitted(np.full((4, 3), 1 / 3), test, [], {}), ids, read_test(task)["id"], task)
    return folder


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """The working directory of a kernel; attached are the competition and a bundle with fold 0 of the run `base`."""
    home, inputs, working = tmp_path / "home" / "bbc", tmp_path / "input", tmp_path / "working"
    infer(write(inputs / "competitions" / "news"))[0].save(home)
    write_folds(home, [str(n) for n in range(8)], FOLDS)
    finish(home, "base", 0)
    finish(home, "untouched", 0)
    files = {f"runs/bbc/{path.relative_to(home)}": path for path in home.rglob("[!.]*") if path.is_file()}
    (tmp_path / "words.txt").write_text("words")
    files["inputs/words.txt"] = files["models/own/model.safetensors"] = tmp_path / "words.txt"
    pack(files, inputs / "datasets" / "me" / "bbc-inputs", "me/bbc-inputs", train=describe_train(home))
    working.mkdir()
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(inputs))
    monkeypatch.setenv("KAGGLEKIT_STARTED", str(time.time() - 60))
    monkeypatch.chdir(working)
    return working


def test_enter_says_what_the_kernel_runs_on_and_brings_in_what_is_attached(kernel, capsys):
    enter("runs/bbc", "news")
    told = capsys.readouterr().out
    for words in (f"torch {torch.__version__}", "CPU cores, precision", "bbc-inputs: 10 files", "the same as at home"):
        assert words in told
    assert (kernel / "inputs" / "words.txt").read_text() == "words"
    assert not (kernel / "inputs" / "words.txt").is_symlink()
    assert (kernel / "models" / "own" / "model.safetensors").is_symlink()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_kernel_that_needs_a_gpu_ends_where_none_works_before_anything_is_brought_in(kernel):
    with pytest.raises(RuntimeError, match=r'needs a GPU, and none works: .*"machine_shape": "NvidiaTeslaT4"'):
        enter("runs/bbc", "news", gpu=True)
    assert list(kernel.iterdir()) == []


@pytest.mark.parametrize(("seen", "left"), [(None, "1"), ("4,7", "7")])
def test_gpus_that_do_not_work_are_hidden(monkeypatch, seen, left):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen) if seen else monkeypatch.delenv("CUDA_VISIBLE_DEVICES", False)
    hide_broken(Gpus((Gpu(1),), (Gpu(0, problem="no kernel image"),)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as undo leaves it otherwise, when it was not set before


def test_leave_keeps_what_is_new_and_nothing_that_is_attached_and_kernel_json_says_what_was_made(kernel, capsys):
    enter("runs/bbc", "news")
    finish("runs/bbc", "base", 1)
    work = kernel / "runs" / "bbc"
    for name in ("tokens/abc.npz", "untouched/__pycache__/x.pyc", "base/fold0/start/model.bin", ".base.1.part"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    (kernel / "my-own").symlink_to(kernel.parent)
    leave("runs/bbc", "base")
    left = {str(path.relative_to(kernel)) for path in kernel.rglob("*") if not path.is_dir()}
    made = {f"runs/bbc/base/{name}" for name in ("params.json", *(f"fold1/{n}.parquet" for n in ("oof", "test")))}
    records = {"runs/bbc/task.json", "runs/bbc/folds.parquet", "submission.csv", "kernel.json"}
    assert left == made | records | {"runs/bbc/base/fold1/history.jsonl"}
    assert not (work / "untouched").exists() and not (kernel / "inputs").exists()
    assert not (kernel / "models").exists()
    assert (kernel / "my-own").is_symlink()
    assert read_json(work / "base" / "params.json")["receipts"].keys() == {"0", "1"}
    told = read_json(kernel / "kernel.json")
    assert told["work"] == "runs/bbc" and told["runs"] == {"base": [1]} and 60 <= told["seconds"] < 90
    assert told["train"] == read_json(kernel.parent / "input/datasets/me/bbc-inputs/bundle.json")["train"]
    assert told["submission"] == {"from": "folds", "run": "base", "folds": [0, 1]}
    assert "kB  kernel.json" in capsys.readouterr().out


def check_written(kernel):
    task, frame = load_task("runs/bbc"), pd.read_csv(kernel / "submission.csv", dtype=str)
    check_submission(frame, read_sample(task), task)
    return frame["label"].tolist()


def test_the_submission_is_the_one_that_5_submit_made(kernel):
    enter("runs/bbc", "news")
    (kernel / "runs/bbc/submission.csv").write_text("id,label\n100,so\n101,no\n102,yes\n")
    write_json(kernel / "runs/bbc/submission.json", {"run": "blend"})
    leave("runs/bbc", "base")
    assert check_written(kernel) == ["so", "no", "yes"]
    assert read_json(kernel / "kernel.json")["submission"] == {"from": "5_submit", "run": "blend"}


@pytest.mark.parametrize("runs", [["base"], ["untouched", "base", "cut", "blend"]])
def test_without_5_submit_the_submission_is_the_mean_of_the_finished_folds_of_the_last_run_that_has_some(
    kernel, capsys, runs
):
    enter("runs/bbc", "news")
    leave("runs/bbc", *runs)
    assert check_written(kernel) == ["yes"] * 3
    assert "the finished folds [0] of base" in capsys.readouterr().out


def test_after_time_has_cut_a_run_the_steps_that_read_it_are_skipped_and_no_other(kernel, capsys):
    enter("runs/bbc", "news")
    write_json(kernel / "runs/bbc/base/fold1/unfinished.json", {"why": "stopped at step 3 of 9"})
    run_step("4_ensemble", {"work": "runs/bbc", "run": "blend", "runs": ["untouched", "base"]})
    run_step("5_submit", {"work": "runs/bbc", "run": "blend"})
    told = capsys.readouterr().out
    assert "4_ensemble is skipped: time has cut base, and it reads base" in told
    assert "5_submit is skipped: time has cut base, and it reads blend" in told
    with pytest.raises(ValueError, match="5_submit has no parameter 'typo'"):  # this one would have run
        run_step("5_submit", {"work": "runs/bbc", "run": "untouched", "typo": 1})


def test_a_blend_of_all_runs_is_skipped_too_when_one_of_them_is_cut(kernel, capsys):
    enter("runs/bbc", "news")
    finish("runs/bbc", "whole", 0)
    finish("runs/bbc", "whole", 1)
    write_json(kernel / "runs/bbc/base/fold1/unfinished.json", {"why": "stopped at step 3 of 9"})
    run_step("4_ensemble", {"work": "runs/bbc", "run": "blend"})
    run_step("5_submit", {"work": "runs/bbc", "run": "blend"})
    leave("runs/bbc", "whole", "base", "blend")
    assert "4_ensemble is skipped: time has cut base, and it reads base" in capsys.readouterr().out
    assert check_written(kernel) == ["yes"] * 3


@pytest.mark.parametrize("why", ["no finished fold", "hidden test"])
def test_with_no_fold_to_use_it_is_the_sample_submission_and_that_is_said_loudly(kernel, capsys, why):
    if why == "hidden test":
        os.rename(kernel.parent / "input/competitions/news", kernel.parent / "public")
        write(kernel.parent / "input/competitions/news", test_rows=5)
    enter("runs/bbc", "news")
    leave("runs/bbc", "base" if why == "hidden test" else "other")
    assert check_written(kernel) == ["no"] * (5 if why == "hidden test" else 3)
    words = "was made for another test file" if why == "hidden test" else "run='other' does not exist"
    told = capsys.readouterr().out
    assert "WARNING: submission.csv is the SAMPLE SUBMISSION itself" in told and words in told
    assert words in read_json(kernel / "kernel.json")["submission"]["why"]


def test_a_kernel_that_was_asked_for_no_submission_leaves_none(kernel):
    enter("runs/bbc", "news")
    leave("runs/bbc")
    assert sorted(path.name for path in kernel.iterdir()) == ["kernel.json", "runs"]
    assert read_json(kernel / "kernel.json")["submission"]["from"] == "nothing"


def test_without_a_task_leave_ends_well_and_says_that_there_is_no_submission(kernel, capsys):
    leave("runs/new", "base")
    assert "WARNING: there is NO submission.csv" in capsys.readouterr().out
    assert read_json(kernel / "kernel.json")["runs"] == {}


def test_golden_rows_are_looked_at_where_the_models_are(kernel):
    enter("runs/bbc", "news")
    assert check_golden("runs/bbc", ["base"]) == ["golden rows of base: it keeps no model"]
    told = {"models": {"base/fold0": "base/fold0/model"}}
    write_parquet(kernel / "runs/bbc/base/golden.parquet", pd.DataFrame({"id": ["1"]}), told)
    assert check_golden("runs/bbc") == [
        "golden rows of base: its models are not attached, so there is nothing to compare"
    ]


@pytest.fixture
def attach_model(kernel, backbone):
    """attach_model(change): a bundle with a tiny fine-tuned model and its golden rows; `change`: added to a weight."""

    def make(change):
        home = kernel.parent / "home" / "bbc"
        task, recipe = load_task(home), Recipe(max_length=10, epochs=1, batch_size=4, pooling="mean")
        folder = open_run(home, "tuned", {**recipe.as_dict(), "backbone": backbone, "start": ""})
        tuner = FineTuner(task, read_train(task), read_test(task), backbone, recipe)
        fitted = tuner.fit(np.flatnonzero(FOLDS), np.flatnonzero(FOLDS == 0), folder / "fold0", seed=0)
        ids = read_train(task)["id"]
        save_fold(folder, 0, fitted, ids[FOLDS == 0].tolist(), read_test(task)["id"], task)
        write_golden(home, "tuned")
        weights = load_file(folder / "fold0/model/model.safetensors")
        next(tensor for name, tensor in weights.items() if "word_embeddings" in name).add_(change)
        save_file(weights, folder / "fold0/model/model.safetensors")
        (folder / "fold0/model" / SEAL).unlink()
        files = {f"runs/bbc/{path.relative_to(home)}": path for path in home.rglob("[!.]*") if path.is_file()}
        place = kernel.parent / "input" / "datasets" / "me" / "bbc-inputs"
        pack(files, place, "me/bbc-inputs", train=describe_train(home))

    return make


def test_models_that_say_the_same_as_at_home_are_told_in_one_line(kernel, attach_model, capsys):
    attach_model(0.0)
    enter("runs/bbc", "news", runs=["tuned", "base"])
    told = capsys.readouterr().out
    assert "golden rows of tuned: scored as at home, by 1 of 1 models (largest difference " in told
    assert "golden rows of base: it keeps no model" in told
    enter("runs/bbc", "news", runs=["tuned"], precision="int8")
    assert "; tolerance 0.15)" in capsys.readouterr().out


def test_a_model_that_says_something_else_stops_the_kernel(kernel, attach_model):
    attach_model(torch.linspace(-1, 1, 16))
    with pytest.raises(RuntimeError, match=r"The model tuned/fold0 does not score as at home"):
        enter("runs/bbc", "news")
