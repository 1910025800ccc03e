"""Data sets and kernels pushed by the real client: versions, nothing sent twice, and every way in which it fails."""

import json
import shutil

import pytest
from requests import ConnectionError

from kagglekit.files import read_json, write_json
from kagglekit.kaggle.bundle import pack
from kagglekit.kaggle.client import KaggleError, asked, status, wait
from kagglekit.kaggle.push import push

INPUTS, KERNEL = "stubuser/small-inputs", "stubuser/small-base"
FAST = {"every": 0.01}


@pytest.fixture(autouse=True)
def competition(server):
    server.competitions["bbc"] = (None, lambda file: "0.5")


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-metadata.json")}


def change(dataset):
    """Make the data set another one, which is a new version of it."""
    write_json(dataset / "bundle.json", read_json(dataset / "bundle.json") | {"more": 1})


def test_a_data_set_and_its_kernel_arrive_as_they_are_with_the_version_pinned(server, client, folders, capsys):
    server.slow = 3
    dataset, kernel = folders
    first, second = push([kernel, dataset], "first", api=client, **FAST)
    assert (first.kind, first.ref, first.version, first.new) == ("dataset", INPUTS, 1, True)
    assert (second.kind, second.ref, second.version) == ("kernel", KERNEL, 1)
    assert contents(server.dataset_folder(INPUTS)) == contents(dataset)
    assert read_json(server.dataset_folder(INPUTS) / "dataset-metadata.json")["isPrivate"] is True
    sent, ours = (read_json(folder / "kernel-metadata.json") for folder in (server.kernel_folder(KERNEL), kernel))
    assert sent == ours and ours["dataset_sources"] == [f"{INPUTS}/1"] and sent["enable_internet"] is False
    assert json.loads((server.kernel_folder(KERNEL) / "small-base.ipynb").read_text())["cells"][0]["source"]
    assert read_json(kernel.parent / ".pushed.json")[KERNEL]["version"] == 1 and not server.strangers
    assert "blobs received" in capsys.readouterr().out


def test_the_same_files_are_not_sent_again_and_others_are_a_new_version_that_the_kernel_follows(
    server, client, folders
):
    dataset, kernel = folders
    push([dataset, kernel], api=client, **FAST)
    calls = len(server.calls)
    again = push([dataset], api=client, **FAST)[0]
    assert (again.version, again.new) == (1, False) and set(server.calls[calls:]) == {"GetDatasetStatus", "GetDataset"}
    change(dataset)
    assert push([dataset], api=client, **FAST)[0].version == 2
    assert push([kernel], api=client)[0].version == 2
    assert read_json(kernel / "kernel-metadata.json")["dataset_sources"] == [f"{INPUTS}/2"]
    told = read_json(kernel / "kernel-metadata.json")
    write_json(kernel / "kernel-metadata.json", told | {"dataset_sources": [f"{INPUTS}/1"]})  # by hand
    push([kernel], api=client)
    assert read_json(server.kernel_folder(KERNEL) / "kernel-metadata.json")["dataset_sources"] == [f"{INPUTS}/1"]


def test_what_lint_finds_stops_a_push_before_anything_is_sent(server, client, folders):
    write_json(folders[1] / "kernel-metadata.json", {"id": KERNEL, "enable_intrenet": False})
    calls = len(server.calls)
    with pytest.raises(ValueError, match=r"nothing was pushed:(.|\n)*enable_intrenet"):
        push(folders, api=client)
    assert len(server.calls) == calls


def test_an_error_in_the_reply_is_an_error_here(server, client, folders):
    push([folders[0]], api=client, **FAST)[0]
    server.answer("SaveKernel", error="Maximum batch GPU session count reached")
    with pytest.raises(KaggleError, match="kernel stubuser/small-base: Kaggle says: Maximum batch GPU session count"):
        push([folders[1]], api=client)[0]
    server.answer("SaveKernel", versionNumber=0)
    with pytest.raises(KaggleError, match="gave no version"):
        push([folders[1]], api=client)[0]
    server.answer("CreateDatasetVersion", status="error", error="too many files")
    change(folders[0])
    with pytest.raises(KaggleError, match="data set stubuser/small-inputs: Kaggle says: too many files"):
        push([folders[0]], api=client, **FAST)[0]
    assert "version" not in read_json(folders[1].parent / ".pushed.json").get(KERNEL, {})


def test_a_rejected_source_is_an_error_that_names_it(server, client, folders):
    del server.competitions["bbc"]
    with pytest.raises(
        KaggleError, match=r"refuses the dataset sources .*small-inputs; the competition sources bbc\. It"
    ):
        push([folders[1]], api=client)[0]
    assert "version" not in read_json(folders[1].parent / ".pushed.json").get(KERNEL, {})
    server.competitions["bbc"] = (None, str)
    push([folders[0]], api=client, **FAST)[0]
    server.answer("SaveKernel", invalidTags=["bert"])
    with pytest.raises(KaggleError, match="refuses the tags bert"):
        push([folders[1]], api=client)[0]


def test_throttling_is_waited_out_as_long_as_kaggle_says(server, client, folders):
    push([folders[0]], api=client, **FAST)[0]
    server.fail("SaveKernel", 429, times=2, Retry_After="0.05")
    assert push([folders[1]], api=client)[0].version == 1
    server.fail("SaveKernel", 429, Retry_After="900")
    with pytest.raises(KaggleError, match=r"too many requests of this user \(429\)"):
        push([folders[1]], api=client)[0]
    server.fail("StartBlobUpload", 429, Retry_After="0.05")
    change(folders[0])
    assert push([folders[0]], api=client, **FAST)[0].version == 2


def test_a_server_error_is_tried_again_and_then_told(server, client, folders):
    push([folders[0]], api=client, **FAST)[0]
    server.fail("SaveKernel", 502, times=3, message="bad gateway")
    with pytest.raises(KaggleError, match=r"push: Kaggle's server failed \(502: bad gateway\).*tried for"):
        asked(lambda: client.kernels_push(str(folders[1])), "push", patience=0.5)
    assert server.calls.count("SaveKernel") == 1


def test_an_upload_that_breaks_off_is_sent_again_whole(server, client, folders):
    server.cut(1)
    push([folders[0]], api=client, **FAST)[0]
    assert server.cuts == 0 and server.calls.count("upload") == 4
    server.fail("upload", 503)  # "go on later": the client asks how much has come, and sends the rest
    change(folders[0])
    assert push([folders[0]], api=client, **FAST)[0].version == 2
    assert server.calls.count("upload") == 9
    assert contents(server.dataset_folder(INPUTS)) == contents(folders[0])


def test_a_broken_upload_leaves_nothing_that_looks_done_and_the_next_push_begins_anew(
    server, client, folders, tmp_path
):
    server.fail("upload", 500)
    with pytest.raises(KaggleError, match="1 of 3 files did not arrive, so no version of the data set was made"):
        push([folders[0]], api=client, **FAST)[0]
    assert INPUTS not in server.datasets and "CreateDataset" not in server.calls
    assert not list(tmp_path.rglob(".pushed.json"))
    assert push([folders[0]], api=client, **FAST)[0].version == 1
    assert contents(server.dataset_folder(INPUTS)) == contents(folders[0])


def test_a_kernel_waits_for_the_one_whose_output_it_takes(server, client, folders):
    _, kernel = folders
    told = read_json(kernel / "kernel-metadata.json")
    later = kernel.parent / "small-later"
    later.mkdir()
    (later / "small-base.ipynb").write_text((kernel / "small-base.ipynb").read_text())
    more = {"id": "stubuser/small-later", "title": "Small later", "kernel_sources": [KERNEL]}
    write_json(later / "kernel-metadata.json", told | more)
    pushed = push([later, *folders], api=client, **FAST)
    assert [one.ref for one in pushed] == [INPUTS, KERNEL, "stubuser/small-later"]
    assert server.sessions[KERNEL][-1].state == "COMPLETE"
    write_json(kernel / "kernel-metadata.json", told | {"kernel_sources": ["stubuser/small-later"]})
    with pytest.raises(ValueError, match="read each other's output"):
        push([later, kernel], api=client)


def test_waiting_shows_each_state_once_and_a_failure_with_the_end_of_its_log(server, client, folders, capsys):
    push(folders, api=client, **FAST)
    capsys.readouterr()
    assert str(status(KERNEL, api=client)) == "queued"
    assert wait([KERNEL], 0.01, api=client)[KERNEL].state == "complete"
    assert capsys.readouterr().out.splitlines() == [f"0:00  {KERNEL}: running", f"0:00  {KERNEL}: complete"]

    def fail(folder, output):
        raise RuntimeError("the fold is gone")

    server.run = fail
    push([folders[1]], api=client)[0]
    with pytest.raises(KaggleError, match=r"ended as error: the fold is gone\nRuntimeError\('the fold is gone'\)"):
        wait([KERNEL], 0.01, api=client)
    push([folders[1]], api=client)[0]
    with pytest.raises(KaggleError, match="not done after 0 s, and still queued"):
        wait([KERNEL], 0.01, limit=0, api=client)
    with pytest.raises(KaggleError, match="status of stubuser/nothing-there"):
        status("stubuser/nothing-there", api=client)


def test_a_kernel_whose_answer_is_lost_is_not_pushed_a_second_time(server, client, folders, monkeypatch):
    push([folders[0]], api=client, **FAST)[0]
    server.fail("SaveKernel", 502, message="bad gateway")
    with pytest.raises(KaggleError, match=r"502: bad gateway.*It may be done all the same: look there first"):
        push([folders[1]], api=client)[0]
    send = client.kernels_push

    def lose(folder):
        send(folder)
        raise ConnectionError("the answer is lost")

    monkeypatch.setattr(client, "kernels_push", lose)
    with pytest.raises(KaggleError, match=r"lost\. It may be done all the same"):
        push([folders[1]], api=client)[0]
    assert len(server.sessions[KERNEL]) == 1 and server.calls.count("SaveKernel") == 2


def test_a_kernel_that_kaggle_has_no_room_for_waits_until_another_has_run(server, client, folders, capsys, monkeypatch):
    dataset, kernel = folders
    more, send = copy_kernel(kernel, "small-more"), client.kernels_push

    def fill_up(folder):
        answer = send(folder)
        if folder == str(kernel):
            server.answer("SaveKernel", error="Maximum batch GPU session count of 1 reached")
        return answer

    monkeypatch.setattr(client, "kernels_push", fill_up)
    server.run = lambda folder, output: str(server.answers.pop("SaveKernel", ""))
    assert [one.ref for one in push([dataset, kernel, more], api=client, **FAST)][1:] == [KERNEL, "stubuser/small-more"]
    assert "session count of 1 reached: it waits until another one has run" in capsys.readouterr().out
    server.answer("SaveKernel", error="Maximum batch GPU session count of 1 reached")
    with pytest.raises(KaggleError, match="session count"):  # nothing that it could wait for
        push([kernel], api=client, **FAST)


def copy_kernel(kernel, slug, **told):
    """The same kernel once more, beside it."""
    place = kernel.parent / slug
    shutil.copytree(kernel, place)
    about = {"id": f"stubuser/{slug}", "title": slug.replace("-", " ").capitalize(), **told}
    write_json(place / "kernel-metadata.json", read_json(kernel / "kernel-metadata.json") | about)
    return place


def test_a_kernel_is_not_pushed_beside_a_data_set_that_was_made_anew_and_not_pushed(server, client, folders, tmp_path):
    dataset, kernel = folders
    push(folders, api=client, **FAST)
    (tmp_path / "one.bin").unlink()
    (tmp_path / "one.bin").write_bytes(b"another")
    pack({"one.bin": tmp_path / "one.bin"}, dataset, INPUTS)
    with pytest.raises(ValueError, match=r"small-inputs has changed since it became stubuser/small-inputs/1. Push it"):
        push([kernel], api=client)
    assert len(server.sessions[KERNEL]) == 1
    push(folders, api=client, **FAST)
    assert read_json(server.kernel_folder(KERNEL) / "kernel-metadata.json")["dataset_sources"] == [f"{INPUTS}/2"]


def test_after_a_push_that_failed_the_kernel_follows_its_data_set_too(server, client, folders):
    dataset, kernel = folders
    push([dataset], api=client, **FAST)
    server.answer("SaveKernel", error="Maximum batch GPU session count of 2 reached")
    with pytest.raises(KaggleError, match="session count"):
        push([kernel], api=client)
    server.answers.clear()
    change(dataset)
    push(folders, api=client, **FAST)
    assert read_json(server.kernel_folder(KERNEL) / "kernel-metadata.json")["dataset_sources"] == [f"{INPUTS}/2"]
