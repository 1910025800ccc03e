"""Parallel folds: real processes, with numbers of GPUs that this machine need not have."""

import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from kagglekit.files import fold_folders, read_json
from kagglekit.run import main
from kagglekit.running.fold_plan import write_argument
from kagglekit.running.jupyter_kernel import NotebookFailed
from kagglekit.running.notebook import notebook_folder
from kagglekit.running.parallel import Workers, parse_slots, run_in_parallel, train_in_parallel
from kagglekit.running.parameters import Parameter
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.tables import write_folds

PARAMETERS = 'work = ""\nrun = "base"\nfolds: list[int] = []\nlearner = "finetune"\noverwrite = False'
TRAIN = """\
import json, os, time
from pathlib import Path
home = Path(work, run)
for fold in folds or [0, 1]:
    if (home / f"fold{fold}/oof.parquet").exists():
        print("finished", fold)
        continue
    gpu, end = os.environ["CUDA_VISIBLE_DEVICES"], time.time() + 60
    seen = [gpu, os.environ["KAGGLEKIT_STARTED"], os.environ["OMP_NUM_THREADS"]]
    Path(work, f"begun{fold}.json").write_text(json.dumps(seen))
    while len(list(Path(work).glob("begun*.json"))) < 2:
        assert time.time() < end, "the other fold is not trained at this time"
        time.sleep(0.02)
    (home / f"fold{fold}").mkdir(parents=True)
    for table in ("oof", "test"):
        (home / f"fold{fold}/{table}.parquet").touch()
"""
FOLD = """\
import os, sys, time
from pathlib import Path
fold, faults = sys.argv[1], dict(text.split("=") for text in sys.argv[2:])
gpu = os.environ["CUDA_VISIBLE_DEVICES"]
print(f"fold {fold} on {gpu}", flush=True)
match faults.get(gpu):
    case "over":
        sys.exit(0)
    case "wait":
        time.sleep(60)
    case str(message):
        sys.exit(message)
Path(f"done{fold}").touch()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory with a notebook that takes a fold for trained as soon as its table is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cells = [nbformat.v4.new_code_cell(cell) for cell in (PARAMETERS, TRAIN)]
    cells[0].metadata["tags"] = ["parameters"]
    Path("notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kagglekit": {}}), "notebooks/3_train.ipynb")
    write_folds("w", [str(n) for n in range(6)], np.arange(6) % 3)


@pytest.fixture
def train(tmp_path):
    """train(folds, gpus, limit, faults): folds trained by processes that fail as the fault of their GPU says."""

    def train(folds, gpus, limit=None, **faults):
        texts = [f"{gpu.removeprefix('gpu')}={fault}" for gpu, fault in faults.items()]
        workers = Workers(
            lambda fold: [sys.executable, "-c", FOLD, str(fold), *texts],
            lambda fold: Path(f"done{fold}").exists(),
            tmp_path,
        )
        try:
            return workers.train(folds, gpus, limit)
        finally:
            running = list(workers.running.values())
            workers.stop()
            assert all(process.poll() is not None for _, process in running)

    return train


def test_two_folds_are_trained_at_a_time_each_on_its_gpu_and_the_whole_notebook_comes_last(monkeypatch, capfd):
    write_folds("real", [str(n) for n in range(6)], np.arange(6) % 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert main(["3_train", "work=real", "--slots", "0,1", "--notebooks", "notebooks"]) == 0
    (gpu, clock, _), (other, same, _) = (read_json(f"real/begun{fold}.json", list) for fold in (0, 1))
    assert {gpu, other} == {"4", "7"} and clock == same
    assert "KAGGLEKIT_STARTED" not in os.environ
    assert list(fold_folders(Path("real/base"))) == [0, 1]
    assert sorted(path.name for path in Path("real/notebooks").iterdir() if path.suffix != ".lock") == [
        "3_train.base.done.json",
        "3_train.base.fold0.ipynb",
        "3_train.base.fold1.ipynb",
        "3_train.base.ipynb",
    ]
    printed = capfd.readouterr().out
    assert "GPU 4  fold 0 begins\nGPU 7  fold 1 begins\n" in printed
    assert "GPU 7  3_train base fold1\nGPU 7    done in 0:" in printed
    assert re.search(r"^3_train base\n  done in 0:.*\n\Z", printed, re.MULTILINE)
    assert "finished 0" in str(nbformat.read("real/notebooks/3_train.base.ipynb", 4).cells)
    assert train_in_parallel("3_train", {"work": "real"}, [0, 1], Path("notebooks")) == []  # nothing is left to do
    with pytest.raises(ValueError, match="slot=2 is out of range: it must be below 2"):
        train_in_parallel("3_train", {"work": "real", "overwrite": True}, [2], Path("notebooks"))


def test_on_the_cpu_folds_share_the_cores(monkeypatch, capfd):
    write_folds("real", [str(n) for n in range(6)], np.arange(6) % 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert main(["3_train", "work=real", "--slots", "cpu:2", "--notebooks", "notebooks"]) == 0
    begun = [read_json(f"real/begun{fold}.json", list) for fold in (0, 1)]
    assert [(gpu, threads) for gpu, _, threads in begun] == [("", "3"), ("", "3")]
    printed = capfd.readouterr().out
    assert "cpu0  fold 0 begins\ncpu1  fold 1 begins\n" in printed and "GPU" not in printed
    assert main(["3_train", "work=real", "--slots", "cpu:8", "--notebooks", "notebooks"]) == 2
    assert "slots='cpu:8' is out of range: it must be cpu:1 to cpu:7" in capfd.readouterr().err


def test_a_fold_takes_the_next_free_gpu(train, capfd):
    assert train([0, 1, 2, 3, 4], ["a", "b"]) == [0, 1, 2, 3, 4]
    printed = capfd.readouterr().out.splitlines()
    assert {line.split()[1] for line in printed} == {"a", "b"} and len(printed) == 10


@pytest.mark.parametrize("why", ["CUDA error: unspecified launch failure", "the kernel was killed (SIGKILL)"])
def test_a_gpu_that_fails_is_given_up_and_its_fold_resumes_on_another(train, capfd, why):
    assert train([0, 1, 2], ["0", "1"], gpu1=why) == [0, 1, 2]
    assert f"GPU 1  is given up, fold 1 resumes on another: {why}" in capfd.readouterr().out
    with pytest.raises(NotebookFailed, match=r"fold 7 on GPU 3: "):
        train([7], ["3"], gpu3=why)


def test_an_error_of_the_run_ends_all_workers_at_once_with_its_message(train):
    began = time.monotonic()
    with pytest.raises(NotebookFailed, match="fold 1 on GPU 1: no such column"):
        train([0, 1], ["0", "1"], gpu0="wait", gpu1="no such column")
    with pytest.raises(NotebookFailed, match=r"the limit of 0\.5 seconds is over") as failed:
        train([0], ["0"], limit=0.5, gpu0="wait")
    assert failed.value.code == 124 and time.monotonic() - began < 20


def test_when_the_hours_are_over_no_other_fold_begins_and_that_is_no_error(train, capfd):
    assert train([0, 1], ["0"], gpu0="over") == []
    printed = capfd.readouterr().out
    assert "fold 0 is not finished, and no other begins" in printed and "fold 1 begins" not in printed


def test_a_worker_ends_with_the_process_that_started_it():
    line = [sys.executable, "-m", "kagglekit.run", "3_train", "work=w", "--part", "fold0", "--notebooks", "notebooks"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.communicate()  # closes its input
    assert process.returncode == 143
    assert not list(Path("w/notebooks").glob("*.ipynb")) and not Path("w/base").exists()


def test_without_two_gpus_the_notebook_trains_the_folds_one_after_another(monkeypatch, capfd):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert train_in_parallel("3_train", {"work": "w"}, folder=Path("notebooks")) == []
    assert capfd.readouterr().out == "0 working GPUs: the folds are trained one after another\n"
    assert main(["3_train", "work=w", "--slots", "0,0", "--notebooks", "notebooks"]) == 2
    assert "slots='0,0' is out of range" in capfd.readouterr().err


def test_gpus_are_numbers_and_parameters_reach_the_processes_as_they_are():
    assert parse_slots("auto") is None and parse_slots("1") == [1] and parse_slots("0,1") == [0, 1]
    assert parse_slots("cpu:2") == ["cpu0", "cpu1"]
    values = {"dict": {"a": [1, 2.5, None, True], "ü": "'\n"}, "float": 3.0, "list": [], "bool": False, "str": "none"}
    for kind, value in values.items():
        parameter = Parameter("x", value, kind)
        assert parameter.parse(write_argument(parameter, value).removeprefix("x=")) == value
    with pytest.raises(ValueError, match="x='none' cannot stand on a command line, where it would be None"):
        write_argument(Parameter("x", None, "str | None"), "none")


def test_a_notebook_that_does_not_train_fold_by_fold_is_refused_and_just_run(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    source = nbformat.read("notebooks/3_train.ipynb", 4)
    source.cells[0].source = PARAMETERS.replace("learner", "teacher")
    nbformat.write(source, "notebooks/3_train.ipynb")
    with pytest.raises(ValueError, match="3_train does not train fold by fold: it has no parameter 'learner'"):
        train_in_parallel("3_train", {"work": "w"}, [0], Path("notebooks"))
    Path("w/base/fold2").mkdir(parents=True)
    Path("w/base/fold2/oof.parquet").touch()
    copy = run_in_parallel("3_train", {"work": "w", "folds": [2]}, [0], Path("notebooks"))
    assert "finished 2" in str(nbformat.read(copy, 4).cells)


def save_some(folds, barrier):
    ids, task = [str(n) for n in range(6)], SimpleNamespace(columns=["a", "b"], classes=["a", "b"], kind="multiclass")
    barrier.wait()
    for fold in folds:
        folder = open_run("w", "raced", {"backbone": "minilm"})
        fitted = Fitted(np.full((1, 2), 0.5), np.full((1, 2), 0.5), [], {"of": fold})
        save_fold(folder, fold, fitted, ids[:1], ["t"], task)


def test_processes_that_open_a_run_and_save_its_folds_at_a_time_lose_no_receipt():
    Path("w/task.json").write_text("{}")
    forks = multiprocessing.get_context("fork")
    barrier = forks.Barrier(3)
    workers = [forks.Process(target=save_some, args=(range(n, 30, 3), barrier)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    receipts = read_json("w/raced/params.json")["receipts"]
    assert receipts == {str(fold): {"of": fold} for fold in range(30)} | receipts and len(receipts) == 30


def test_notebooks_inside_the_library_are_those_of_an_installed_wheel(tmp_path, monkeypatch):
    from kagglekit.running import notebook

    library = tmp_path / "site-packages/kagglekit"
    (library / "notebooks").mkdir(parents=True)
    (library.parent / "notebooks").mkdir()  # that some other package has left there
    monkeypatch.setattr(notebook, "__file__", str(library / "running/notebook.py"))
    assert notebook_folder() == Path("notebooks").resolve()  # the user's own come before them
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert notebook_folder() == library / "notebooks"
