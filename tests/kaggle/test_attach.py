"""Where a dry run mounts sources, how it keeps them from being written to, and how it reads a submission."""

import nbformat
import pytest

from kagglekit.competition.task import infer
from kagglekit.files import write_json
from kagglekit.kaggle.attach import attach, mount_point, release
from kagglekit.kaggle.verdict import find_error, judge_submission


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


def test_a_submission_is_compared_with_the_sample_by_the_task_or_without_one(tmp_path):
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    rows = [f"{n},a {'good' if n % 2 else 'bad'} film number {n},{'yes' if n % 2 else 'no'}" for n in range(12)]
    (data / "train.csv").write_text("\n".join(["id,text,label", *rows]) + "\n")
    (data / "test.csv").write_text("id,text\n20,a fine film\n21,a poor plot\n")
    (data / "sample_submission.csv").write_text("id,label\n20,no\n21,no\n")
    infer(data)[0].save(work)
    file = work / "submission.csv"
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
