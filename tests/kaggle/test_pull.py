"""Outputs of kernels come home whole or not at all, and their folds become one run that blends and scores."""

import json
import shutil

import numpy as np
import pytest

from kagglekit.competition.task import Task
from kagglekit.files import fold_folders, read_json, write_json
from kagglekit.kaggle.__main__ import main
from kagglekit.kaggle.client import KaggleError, wait
from kagglekit.kaggle.pull import pull
from kagglekit.kaggle.push import push
from kagglekit.runs.tables import read_folds, read_run

LOG = json.dumps([{"stream_name": "stdout", "time": 0.5, "data": "fold "}, {"data": "is done\n"}])
INPUTS, KERNEL = "stubuser/small-inputs", "stubuser/small-base"


@pytest.fixture
def kernels(server, client, folders, work, train_fold, tmp_path):
    """kernels(0, 1): a kernel a fold on the server, each of which has trained its fold in /kaggle/working/runs/bbc."""
    server.competitions["bbc"] = (None, lambda file: "0.5")

    def make(*folds, **options):
        def run(folder, output):
            fold = int(folder.parent.name[-1])
            place = output / "runs" / work.name
            place.mkdir(parents=True)
            shutil.copyfile(work / "folds.parquet", place / "folds.parquet")
            write_json(place / "task.json", read_json(work / "task.json") | {"data": "/kaggle/input/bbc"})
            train_fold(place, fold, **options)
            write_json(place / "base" / "score.json", {"run": "base", "folds": {str(fold): 1.0}})
            (output / "__notebook__.ipynb").write_text("{}")
            (output / "submission.csv").write_text("id,label\n")
            return LOG

        server.run = run
        dataset, kernel = folders
        made = [dataset]
        for fold in folds:
            made.append(kernel.parent / f"small-fold{fold}")
            shutil.copytree(kernel, made[-1], dirs_exist_ok=True)
            about = read_json(kernel / "kernel-metadata.json")
            write_json(
                made[-1] / "kernel-metadata.json",
                about | {"id": f"stubuser/small-fold{fold}", "title": f"Small fold{fold}"},
            )
        push(made, every=0.01, api=client)
        refs = [f"stubuser/small-fold{fold}" for fold in folds]
        wait(refs, 0.01, api=client)
        return refs

    return make


def test_folds_of_two_kernels_come_home_as_one_run_with_its_score(kernels, client, work, train_fold, capsys):
    train_fold(work, 2)
    refs = kernels(0, 1)
    assert pull(refs, work, api=client) == [work / "base"]
    task, folds = Task(**read_json(work / "task.json")), read_folds(work, [f"r{n}" for n in range(12)])
    run = read_run(work, "base", task, folds, [f"t{n}" for n in range(4)])
    assert run.folds == [0, 1, 2] and np.allclose(run.oof_array.max(axis=1), 0.8)
    assert read_json(work / "base" / "score.json")["folds"] == {"0": 1.0, "1": 1.0, "2": 1.0}
    assert (work / "kaggle" / "logs" / "stubuser" / "small-fold0.log").read_text() == "fold is done\n"
    assert (work / "notebooks" / "small-fold1.ipynb").read_text() == "{}"
    assert (work / "kaggle" / "outputs" / "stubuser" / "small-fold1" / "submission.csv").is_file()
    assert "stubuser/small-fold0: 1. __notebook__.ipynb" in capsys.readouterr().out
    assert task.data.endswith("data") and pull(refs, work, api=client) == []


def test_kernels_of_two_people_that_have_one_name_do_not_take_each_others_place(kernels, server, client, work):
    kernels(0, 1)
    server.sessions["friend/small-fold0"] = server.sessions.pop("stubuser/small-fold1")
    assert pull(["stubuser/small-fold0", "friend/small-fold0"], work, api=client) == [work / "base"]
    assert list(fold_folders(work / "base")) == [0, 1]


def test_what_was_pulled_is_neither_linted_nor_pushed_with_the_kernels_beside_it(kernels, client, work, capsys):
    pull(kernels(0), work, api=client)
    beside = [str(place) for place in sorted((work / "kaggle").glob("[!.]*"))]
    assert main(["lint", *beside]) == 0 and main(["push", *beside]) == 0
    assert "kernel stubuser/small-fold0/2" in capsys.readouterr().out


def test_nothing_is_moved_when_one_of_the_outputs_does_not_fit(kernels, client, work, train_fold):
    train_fold(work, 1, value=0.7)
    with pytest.raises(ValueError, match="hold other predictions of the same fold"):
        pull(kernels(0, 1), work, api=client)
    assert list(fold_folders(work / "base")) == [1]


def test_other_settings_are_refused_by_name(kernels, client, work, train_fold):
    train_fold(work, 1)
    with pytest.raises(ValueError, match=r"made with other settings than .*epochs was 2.0 and is 3.0"):
        pull(kernels(0, epochs=3.0), work, api=client)


def test_an_output_that_breaks_off_is_not_there_and_the_next_pull_has_it(kernels, server, client, work):
    refs = kernels(0)
    server.fail("file", 404, message="the address is too old")
    with pytest.raises(KaggleError, match=r"small-fold0: __notebook__.ipynb: .*404"):
        pull(refs, work, api=client)
    assert not list((work / "kaggle").glob("outputs/*/*"))
    server.fail("file", 503)
    assert pull(refs, work, api=client) == [work / "base"]


def test_a_kernel_that_runs_is_not_pulled_and_a_failed_one_gives_what_it_has(kernels, server, client, work, capsys):
    refs = kernels(0)
    session = server.sessions[refs[0]][-1]
    session.state, session.states = "QUEUED", ["QUEUED"]
    with pytest.raises(KaggleError, match="small-fold0 is queued: wait until it has run"):
        pull(refs, work, api=client)
    session.state, session.failure, session.states = "ERROR", "out of time", []
    assert pull(refs, work, api=client) == [work / "base"]
    assert "small-fold0 ended as error: out of time: what it has finished is fetched" in capsys.readouterr().out


def test_a_file_that_would_lie_outside_of_the_folder_is_refused(kernels, server, client, work):
    refs = kernels(0)
    server.answer("ListKernelSessionOutput", files=[{"fileName": "../../evil.py", "url": server.address}])
    with pytest.raises(KaggleError, match="would lie outside"):
        pull(refs, work, api=client)


def test_a_work_folder_that_is_not_at_home_yet_is_made(kernels, client, work, tmp_path):
    home = tmp_path / "new" / "bbc"
    assert pull(kernels(0), home, api=client) == [home / "base"]
    assert read_json(home / "task.json")["data"] == "/kaggle/input/bbc"
