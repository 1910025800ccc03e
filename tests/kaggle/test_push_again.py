"""A kernel runs once, as many at a time as Kaggle allows, on the data sets that it was built with."""

import shutil

import pytest
from requests import ConnectionError

from kagglekit.files import read_json, write_json
from kagglekit.kaggle.bundle import pack
from kagglekit.kaggle.client import KaggleError
from kagglekit.kaggle.push import push, push_dataset, push_kernel

INPUTS, KERNEL = "stubuser/small-inputs", "stubuser/small-base"
FAST = {"every": 0.01}


@pytest.fixture(autouse=True)
def competition(server):
    server.competitions["bbc"] = (None, lambda file: "0.5")


def test_a_kernel_whose_answer_is_lost_is_not_pushed_a_second_time(server, client, folders, monkeypatch):
    push_dataset(folders[0], api=client, **FAST)
    server.fail("SaveKernel", 502, message="bad gateway")
    with pytest.raises(KaggleError, match=r"502: bad gateway.*It may be done all the same: look there first"):
        push_kernel(folders[1], api=client)
    send = client.kernels_push

    def lose(folder):
        send(folder)
        raise ConnectionError("the answer is lost")

    monkeypatch.setattr(client, "kernels_push", lose)
    with pytest.raises(KaggleError, match=r"lost\. It may be done all the same"):
        push_kernel(folders[1], api=client)
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
        push_kernel(kernel, api=client)
    assert len(server.sessions[KERNEL]) == 1
    push(folders, api=client, **FAST)
    assert read_json(server.kernel_folder(KERNEL) / "kernel-metadata.json")["dataset_sources"] == [f"{INPUTS}/2"]


def test_after_a_push_that_failed_the_kernel_follows_its_data_set_too(server, client, folders):
    dataset, kernel = folders
    push_dataset(dataset, api=client, **FAST)
    server.answer("SaveKernel", error="Maximum batch GPU session count of 2 reached")
    with pytest.raises(KaggleError, match="session count"):
        push_kernel(kernel, api=client)
    server.answers.clear()
    write_json(dataset / "bundle.json", read_json(dataset / "bundle.json") | {"more": 1})
    push(folders, api=client, **FAST)
    assert read_json(server.kernel_folder(KERNEL) / "kernel-metadata.json")["dataset_sources"] == [f"{INPUTS}/2"]
