"""The dry run of small kernels: as Kaggle mounts, limits and isolates them, and what it says when they fail."""

import json
import shutil

import nbformat
import psutil
import pytest
from folders import write_competition, write_kernel, write_wheel

from kagglekit.competition.infer import infer
from kagglekit.files import write_json
from kagglekit.kaggle.cells import install_cell
from kagglekit.kaggle.dry_run import dry_run
from kagglekit.kaggle.dry_run_result import find_error, judge_submission
from kagglekit.kaggle.input_tree import attach, find_sources, mount_point, release
from kagglekit.kaggle.metadata import dataset_metadata

FACTS = """
import json, os, socket, sys, time
from pathlib import Path
import companion, kagglekit

def attempt(call):
    try:
        call()
        return "works"
    except OSError as error:
        return error.errno

inputs = Path(os.environ["KAGGLEKIT_INPUTS"])
files = sorted(str(path.relative_to(inputs)) for path in inputs.rglob("*") if path.is_file())
facts = {
    "files": files,
    "write": attempt(lambda: (inputs / files[0]).open("a")),
    "outside": attempt(lambda: socket.create_connection(("192.0.2.1", 80), timeout=3)),
    "environment": dict(os.environ),
    "here": [Path.cwd().name, Path.cwd().parent.name, str(Path.home().relative_to(inputs.parents[1]))],
    "kagglekit": [kagglekit.where, Path(kagglekit.__file__).is_relative_to(sys.prefix)],
    "companion": companion.tag,
    "seconds": time.time() - float(os.environ["KAGGLEKIT_STARTED"]),
    "rerun": os.environ.get("KAGGLE_IS_COMPETITION_RERUN"),
}
print("FACTS", json.dumps(facts))
Path("kept.txt").write_text("x" * 9)
"""
SUBMIT = """
import os, shutil
from pathlib import Path
shutil.copy(next(Path(os.environ["KAGGLEKIT_INPUTS"]).rglob("sample_submission.csv")), "submission.csv")
"""


@pytest.fixture
def work(tmp_path):
    """A work folder with task.json, the competition's files elsewhere, and a data set with a wheel of kagglekit."""
    data, work = tmp_path / "data", tmp_path / "work"
    write_competition(data, range(12), ("no", "yes"), [20, 21], "no")
    (data / ".answers").mkdir()
    (data / ".answers" / "answers.csv").write_text("id,label\n9,yes\n")
    infer(data)[0].save(work)
    wheels = work / "kaggle" / "kagglekit-wheels"
    write_wheel(wheels, "kagglekit", "9.9", text="where = 'the wheel'\n")
    write_wheel(wheels, "companion", needs=["not-to-be-had"])
    write_json(wheels / "dataset-metadata.json", dataset_metadata("me/kagglekit-wheels"))
    (wheels / "skipped").mkdir()
    (wheels / "skipped" / "file.txt").write_text("the client skips sub-folders")
    return work


@pytest.fixture
def kernel(work, monkeypatch):
    """kernel(*cells, **metadata): a kernel folder in the work folder with the install cell first."""
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN", "HF_TOKEN", "https_proxy"):
        monkeypatch.setenv(name, "PLANTED")

    def make(*cells, install=True, **options):
        first = [install_cell("me/kagglekit-wheels")] if install else []
        sources = {"competitions": ["bbc"], "datasets": ["me/kagglekit-wheels/3"], "gpu": ""} | options
        return write_kernel(work / "kaggle" / "first-try", "me/first-try", [*first, *map(str.strip, cells)], **sources)

    return make


def read_facts(run, files):
    """What the kernel printed, after a look at what has to be so in every layout and isolation."""
    facts = json.loads(next(line for line in run.log.splitlines() if line.startswith("FACTS"))[5:])
    assert facts["files"] == sorted(files)
    assert facts["outside"] == 101
    assert facts["kagglekit"] == ["the wheel", True] and facts["companion"] == "py3-none-any"
    assert facts["environment"]["HF_HUB_OFFLINE"] == "1" and 0 < facts["seconds"] < 60
    (installed,) = [line for line in run.log.splitlines() if line.startswith("installed ")]
    assert installed.startswith("installed companion kagglekit from /")
    assert facts["here"] == ["working", "kaggle", "home"]
    assert facts["environment"]["KAGGLE_KERNEL_RUN_TYPE"] == "Batch"
    assert facts["environment"]["CUDA_VISIBLE_DEVICES"] == ""
    assert "PLANTED" not in json.dumps(facts)
    return facts


WHEELS = ("companion-1.0-py3-none-any.whl", "kagglekit-9.9-py3-none-any.whl")
DATA = ("sample_submission.csv", "test.csv", "train.csv")


def test_a_kernel_runs_as_on_kaggle_and_only_its_output_stays(kernel, work, tmp_path):
    folder, root = kernel(FACTS, SUBMIT), tmp_path / "root"
    run = dry_run(folder, root=root)
    assert (run.ok, run.error) == (True, ""), run.log
    files = [f"competitions/bbc/{name}" for name in DATA] + [f"datasets/me/kagglekit-wheels/{name}" for name in WHEELS]
    facts = read_facts(run, files)
    if run.isolation == "namespace":
        assert facts["write"] == 30  # a read-only file system, as there
    assert facts["rerun"] is None
    assert run.submission.startswith("valid: 2 rows")
    assert {name for name, _ in run.biggest} == {"__notebook__.ipynb", "kept.txt", "submission.csv"}
    assert run.bytes == sum(size for _, size in run.biggest)
    assert run.memory > 1e6
    executed = nbformat.read(run.notebook, as_version=4)
    assert [cell.execution_count for cell in executed.cells] == [1, 2, 3]
    assert sorted(path.name for path in root.iterdir()) == [".dry-run", "kaggle"]
    assert sorted(path.name for path in (root / "kaggle").iterdir()) == ["log.txt", "working"]
    assert str(run).splitlines()[0].startswith("dry run: ended well after")
    assert [file.stat().st_nlink for file in sorted((tmp_path / "data").glob("*.csv"))] == [1, 1, 1]


def test_a_scoring_rerun_in_the_old_layout_without_a_namespace_leaves_nothing(kernel, tmp_path):
    hidden = shutil.copytree(tmp_path / "data", tmp_path / "hidden")
    (hidden / "sample_submission.csv").write_text("id,label\n20,no\n21,no\n22,no\n")
    folder = kernel(FACTS, SUBMIT)
    ignored = shutil.ignore_patterns("skipped")
    shutil.copytree(folder.parent / "kagglekit-wheels", tmp_path / "packed" / "archive", ignore=ignored)
    sources = {"competition:bbc": hidden, "dataset:me/kagglekit-wheels": tmp_path / "packed"}
    run = dry_run(folder, sources, layout="old", rerun=True, isolation="sockets")
    assert (run.ok, run.error) == (True, ""), run.log
    facts = read_facts(run, [f"bbc/{name}" for name in DATA] + [f"kagglekit-wheels/archive/{name}" for name in WHEELS])
    assert facts["rerun"] == "1"
    assert run.submission.startswith("valid: 3 rows")
    assert run.isolation == "sockets"
    assert "sockets are refused" in str(run)
    assert "kept" not in str(run).replace("kept.txt", "")
    assert not run.output.parents[1].exists()


def test_a_failing_cell_is_named_with_its_error_and_where_a_dry_run_has_the_folders_of_kaggle(kernel, tmp_path, capsys):
    failing = "# look for it\nimport time; time.sleep(1.2)\nraise ValueError('no x in /kaggle/input/bbc/train.csv')"
    folder = kernel("fine = 1", failing, "never = 1", install=False, internet=True)
    run = dry_run(folder, root=tmp_path / "root", progress=True)
    assert capsys.readouterr().out.count("in cell 2 (# look for it)\n") == 1
    assert run.error.startswith("cell 2 (# look for it) failed")
    told = "ValueError: no x in /kaggle/input/bbc/train.csv\nA dry run has no folder /kaggle: read below os.environ"
    assert f"{told}.get('KAGGLEKIT_INPUTS'" in run.error
    assert "FAILED" in str(run)
    assert (run.ok, run.isolation, run.notebook.is_file()) == (False, "none", True)


def test_a_cell_that_leaves_early_and_a_wrong_submission_are_failures(kernel, tmp_path):
    write = "open('submission.csv', 'w').write('id,label\\n20,no\\n21,maybe\\n')"
    run = dry_run(kernel(write, "import sys; sys.exit(0)", "print('below')", install=False), root=tmp_path / "root")
    assert not run.ok
    assert "left the notebook by sys.exit" in run.error
    assert run.submission.startswith("WRONG: submission, data row 2 ")
    assert "column 'label' holds 'maybe'" in str(run)


def test_the_limits_end_a_kernel_with_all_its_processes_and_say_where_it_was(kernel, tmp_path):
    wait = "import subprocess, time\nsubprocess.Popen(['sleep', '50.25'], start_new_session=True)"
    wait += "\nopen('big', 'wb').write(bytes(2_000_000))\ntime.sleep(50)"
    folder = kernel("1", wait, install=False)
    run = dry_run(folder, disk=1e6, root=tmp_path / "root")
    assert not run.ok
    assert run.error == "the output has 2.0 MB, and Kaggle keeps 1.0 MB: in cell 2 (import subprocess, time)"
    assert not any("50.25" in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    run = dry_run(folder, hours=0.3 / 3600, root=tmp_path / "root")  # in place of the earlier one
    assert run.error == "the limit of 8.33333e-05 hours is over before the first cell"
    assert not (run.output / "big").exists()


def test_what_is_missing_or_wrong_is_told_before_anything_runs(kernel, work, tmp_path):
    folder = kernel("1", datasets=["me/kagglekit-wheels", "you/models"], models=["a/b/pyTorch/d/1"])
    assert sorted(find_sources(folder)) == ["competition:bbc", "dataset:me/kagglekit-wheels"]
    with pytest.raises(
        FileNotFoundError, match=r"reads dataset:you/models, model:a/b/pytorch/d/1, .*--source dataset:you/models="
    ):
        dry_run(folder, root=tmp_path / "root")
    with pytest.raises(ValueError, match=r"one of those in .*kernel-metadata.json: dataset:me/kagglekit-wheels"):
        dry_run(folder, {"competition:other": tmp_path}, root=tmp_path / "root")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        dry_run(folder, {"dataset:you/models": tmp_path / "gone"}, root=tmp_path / "root")
    with pytest.raises(ValueError, match="hours"):
        dry_run(folder, hours=0)
    given = {"dataset:you/models/2": tmp_path / "data", "model:a/b/pyTorch/d/1": tmp_path / "data"}
    with pytest.raises(ValueError, match="holds other things"):
        dry_run(folder, given, root=work)
    with pytest.raises(ValueError, match="layout"):
        dry_run(folder, given, layout="ancient", root=tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_sources_are_mounted_where_kaggle_has_them():
    sources = ["competition:bbc", "dataset:me/set", "kernel:me/try", "model:m/bert/pytorch/base/1"]
    new = ["competitions/bbc", "datasets/me/set", "notebooks/me/try", "models/m/bert/pytorch/base/1"]
    assert [str(mount_point(source, "new")) for source in sources] == new
    assert [str(mount_point(source, "old")) for source in sources] == ["bbc", "set", "try", "bert/pytorch/base/1"]


def test_copies_are_the_kernels_own_and_two_sources_of_one_place_are_refused(tmp_path):
    mine = tmp_path / "mine"
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "file.txt").write_text("kept")
    attach({"kernel:me/try": mine}, tmp_path / "input", "old", link=False)
    copy = tmp_path / "input" / "try" / "deep" / "file.txt"
    assert copy.stat().st_ino != (mine / "deep" / "file.txt").stat().st_ino
    assert (copy.stat().st_mode & 0o222, copy.parent.stat().st_mode & 0o222) == (0, 0)
    release(tmp_path / "input")
    assert not (tmp_path / "input").exists()
    with pytest.raises(ValueError, match="same place"):
        attach({"kernel:me/try": mine, "dataset:you/try": mine}, tmp_path / "twice", "old")


def test_a_submission_is_compared_with_the_sample_by_the_task_or_without_one(work, tmp_path):
    data, file = tmp_path / "data", work / "submission.csv"
    assert judge_submission(work, data) == (True, "none")
    file.write_text("id,label\n20,no\n21,maybe\n")
    assert judge_submission(work, None)[0]
    assert judge_submission(work, data) == (True, "columns, rows and ids as sample_submission.csv (2 rows)")
    assert not judge_submission(work, data, work)[0]
    file.write_text("id,label\n20,no\n21,no\n")
    for made, words in (({"from": "sample"}, "SAMPLE SUBMISSION itself"), ({"from": "5_submit"}, "2 rows")):
        write_json(work / "kernel.json", {"submission": made})
        assert judge_submission(work, data, work)[0] and words in judge_submission(work, data, work)[1]
    for wrong in ("id,label\n21,no\n20,no\n", "id,label\n20,no\n", "id,kind\n20,no\n21,no\n", ""):
        file.write_text(wrong)
        assert not judge_submission(work, data)[0]


def test_a_kernel_that_died_is_not_taken_for_one_that_ended_well(tmp_path):
    cells = [nbformat.v4.new_code_cell("fine = 1", execution_count=1), nbformat.v4.new_code_cell("eat_all_memory()")]
    cells[1].metadata["papermill"] = {"status": "running"}
    file = tmp_path / "__notebook__.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    died = "in cell 2 (eat_all_memory()): the kernel died: most often the machine ran out of memory"
    assert find_error(file, 138, "...\nnbclient.exceptions.DeadKernelError: Kernel died").startswith(died)
    assert find_error(file, 1, "first\n\nlast words").endswith(
        "papermill ended with exit code 1; the log ends with\nfirst\nlast words"
    )
    assert find_error(file, 0, "") == "a cell did not run: eat_all_memory()"
    file.write_text("{")
    assert "cannot be read" in find_error(file, -9, "")
