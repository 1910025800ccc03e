"""Submissions of both kinds: a checked file, and a version of a kernel; what Kaggle says of them is told."""

import shlex

import pandas as pd
import pytest

from kagglekit.kaggle.__main__ import main
from kagglekit.kaggle.client import KaggleError, wait
from kagglekit.kaggle.competition import submit_command, submit_file, submit_kernel
from kagglekit.kaggle.push import push

KERNEL = "stubuser/small-base"


def count_good(file):
    labels = pd.read_csv(file)["label"]
    if len(labels) != 4:
        raise ValueError("the file has other rows than the test")
    return f"{(labels == 'good').mean():.3f}"


@pytest.fixture
def made(server, work):
    server.competitions["bbc"] = (None, count_good)
    frame = pd.DataFrame({"id": [f"t{n}" for n in range(4)], "label": ["good", "bad", "good", "good"]})
    frame.to_csv(work / "submission.csv", index=False)
    return frame


def test_a_checked_file_is_submitted(server, client, work, made):
    submitted = submit_file(work, "bbc", "base, three folds", api=client)
    assert submitted == "submission 100: Successfully submitted to bbc"
    (sent,) = server.submissions["bbc"]
    assert sent["description"] == "base, three folds" and sent["fileName"] == "submission.csv"
    assert sent["publicScore"] == "0.750"
    assert submit_file(work / "submission.csv", "bbc", "again", api=client).startswith("submission 101: ")


def test_the_command_that_5_submit_prints_submits_the_file_of_a_run(server, client, work, made, capsys, monkeypatch):
    made.to_csv(work / "submission.my run.csv", index=False)
    monkeypatch.chdir(work.parent)
    assert "--competition NAME " in submit_command(work / "submission.my run.csv", "base", work)
    (work / ".competition").write_text("bbc\n")  # as `download` leaves it beside the files
    command = submit_command(work / "submission.my run.csv", "base, accuracy 0.9 out of fold", work)
    words = shlex.split(command)
    assert words[:5] == ["python", "-m", "kagglekit.kaggle", "submit", "bbc/submission.my run.csv"]
    assert main(words[3:]) == 0 and "submission 100: Successfully" in capsys.readouterr().out
    (sent,) = server.submissions["bbc"]
    assert sent["description"] == "base, accuracy 0.9 out of fold" and sent["fileName"] == "submission.my run.csv"


def test_a_wrong_file_is_not_sent(server, client, work, made, tmp_path):
    made.assign(label=["good", "bad", "fine", "good"]).to_csv(work / "submission.csv", index=False)
    calls = len(server.calls)
    with pytest.raises(ValueError, match=r"submission.csv was not submitted: .*'fine'"):
        submit_file(work, "bbc", "", api=client)
    made.to_csv(tmp_path / "submission.csv", index=False)
    with pytest.raises(FileNotFoundError, match="is in no work folder"):
        submit_file(tmp_path, "bbc", "", api=client)
    with pytest.raises(FileNotFoundError, match="run 5_submit first"):
        submit_file(tmp_path / "data", "bbc", "", api=client)
    assert len(server.calls) == calls


def test_a_submission_is_never_made_twice(server, client, work, made):
    server.fail("CreateSubmission", 500)
    with pytest.raises(KaggleError, match=r"submit submission.csv to bbc: Kaggle's server failed"):
        submit_file(work, "bbc", "", api=client)
    assert server.calls.count("CreateSubmission") == 1
    server.fail("upload", 400)
    with pytest.raises(KaggleError, match="was not submitted to bbc"):
        submit_file(work, "bbc", "", api=client)
    with pytest.raises(KaggleError, match="Kaggle does not know it"):
        submit_file(work, "bbx", "", api=client)
    server.allowed = 0
    with pytest.raises(KaggleError, match="400: no submissions left today"):
        submit_file(work, "bbc", "", api=client)


def test_a_code_competition_gets_the_version_of_a_kernel(server, client, folders, made):
    def run(folder, output):
        made.to_csv(output / "submission.csv", index=False)
        made[:2].to_csv(output / "half.csv", index=False)
        return ""

    server.run = run
    push(folders, every=0.01, api=client)
    wait([KERNEL], 0.01, api=client)
    assert submit_kernel(KERNEL, 1, "bbc", "code", api=client).startswith("submission 100: ")
    submit_kernel(f"{KERNEL}/1", None, "bbc", "code", "half.csv", api=client)
    assert [sent["status"] for sent in server.submissions["bbc"]] == ["COMPLETE", "ERROR"]
    with pytest.raises(KaggleError, match="no such version"):
        submit_kernel(KERNEL, 7, "bbc", "code", api=client)
    with pytest.raises(ValueError, match="say which version"):
        submit_kernel(KERNEL, None, "bbc", "code", api=client)
