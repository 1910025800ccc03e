"""on=, cores=, gpus= and storage= of the command line, and what a terminal shows of folds elsewhere. Without Ray."""

import socket
import sys
import time

import pytest

from kagglekit.kaggle import build
from kagglekit.run import main
from kagglekit.running.command_line import Where, parse_address
from kagglekit.running.on_ray import connect as ray_connect
from kagglekit.running.on_ray.cluster import Cluster, Share
from kagglekit.running.on_ray.node import pack, unpack
from kagglekit.running.terminal import FoldsLine


def test_where_folds_are_trained_is_taken_from_the_command_line():
    assert Where.take(["run=base", "folds=0"]) == (Where(), ["run=base", "folds=0"])
    texts = ["on=ray://head", "gpus=0.5", "cores=2", "storage=s3://b/c"]
    assert Where.take(["run=base", *texts]) == (Where("ray://head", 2, 0.5, "s3://b/c"), ["run=base"])
    assert parse_address("ray") is None and parse_address("ray://head") == ("head", 10001)
    assert parse_address("ray://[::1]:9") == ("::1", 9)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["on=tcp://head:1"],
            "on='tcp://head:1' names no cluster: on=ray is that of this machine, on=ray://HOST:10001",
        ),
        (["on=ray://"], "on='ray://' names no cluster"),
        (["on=ray://head:port"], "on='ray://head:port' names no cluster"),
        (["on=Ray"], "on='Ray' names no cluster"),
        (["on=ray", "on=ray"], "on=, cores=, gpus= and storage= are said once"),
        (["gpus=1"], "gpus= goes with a Ray cluster: say on=ray"),
        (["storage=/x"], "storage= goes with a Ray cluster"),
        (["on=ray", "gpus=half"], "gpus='half' is out of range: it must be 0 to 1: a model trains on one GPU"),
        (["on=ray", "gpus=2"], "gpus=2.0 is out of range: it must be 0 to 1"),
        (["on=ray", "gpus=nan"], "gpus=nan is out of range"),
        (["on=ray", "cores=0"], "cores=0 is out of range: it must be a whole number, 1 or more"),
        (["on=ray", "cores=1.5"], "cores='1.5' is out of range"),
        (["on=ray", "--slots", "auto"], "on= and --slots both say where folds are trained"),
        (["on=ray", "work=none"], "work='none' has no task.json"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_starts(texts, message, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["3_train", *texts]) == 2
    printed = capfd.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_without_ray_and_without_a_cluster_there_is_one_sentence(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_connect.importlib.util, "find_spec", lambda name: None if name == "ray" else sys)
    with pytest.raises(ModuleNotFoundError, match=r"on='ray' needs Ray, here and on each node: pip install 'ray\["):
        ray_connect.connect("ray").__enter__()
    monkeypatch.setattr(ray_connect.importlib.util, "find_spec", lambda name: sys)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        began, port = time.monotonic(), taken.getsockname()[1]  # nobody listens there
        for on, address in ((f"ray://127.0.0.1:{port}", ""), ("ray", f"127.0.0.1:{port}")):
            monkeypatch.setenv("RAY_ADDRESS", address)
            with pytest.raises(ConnectionError, match=rf"on='{on}': nothing answers at 127\.0\.0\.1:{port} \("):
                ray_connect.connect(on).__enter__()
        assert time.monotonic() - began < 5


def test_a_cluster_of_this_machine_is_the_one_that_was_started_here_and_still_answers(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert ray_connect._local_address() == ""
    (tmp_path / "ray").mkdir()
    with socket.socket() as listens:
        listens.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listens.getsockname()[1]}"
        (tmp_path / "ray/ray_current_cluster").write_text(f"{address}\n")
        assert ray_connect._local_address() == ""  # it has died, and left its address
        listens.listen()
        assert ray_connect._local_address() == address
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert ray_connect._local_address() == "head:6379"


class Known(Cluster):
    """A cluster whose nodes have so many cores and GPUs."""

    def __init__(self, *nodes):
        super().__init__("ray")
        self.known = [{"CPU": cores, **({"GPU": gpus} if gpus else {})} for cores, gpus in nodes]

    def nodes(self):
        return self.known


@pytest.mark.parametrize(
    ("nodes", "asked", "share", "at_once"),
    [
        ([(8, 0), (4, 0)], {}, Share(4, 0.0), 3),
        ([(8, 0), (4, 0)], {"cores": 2}, Share(2, 0.0), 6),
        ([(16, 4), (2, 0)], {}, Share(4, 1.0), 4),
        ([(16, 4), (2, 0)], {"gpus": 0.5}, Share(2, 0.5), 8),
        ([(16, 4), (2, 0)], {"gpus": 0, "cores": 2}, Share(2, 0.0), 9),
        ([(2, 4)], {}, Share(1, 1.0), 2),
    ],
)
def test_a_task_gets_a_gpu_where_there_are_some_and_its_part_of_the_cores(nodes, asked, share, at_once):
    assert Known(*nodes).share(**asked) == share and Known(*nodes).at_once(share) == at_once


def test_archives_hold_files_whole_and_are_divided_between_them(tmp_path):
    files = {}
    for number in range(5):
        file = tmp_path / f"{number}"
        file.write_bytes(bytes([number]) * 1000)
        files[f"some/{number}"] = file
    assert len(list(pack(files, 2500))) == 3 and len(list(pack(files, 10))) == 5 and len(list(pack({}))) == 1
    for part in pack(files, 2500):
        unpack(part, tmp_path / "back")
    assert all((tmp_path / "back" / name).read_bytes() == file.read_bytes() for name, file in files.items())


def test_a_model_of_the_hubs_cache_comes_along_and_paths_are_those_of_here_again(tmp_path, monkeypatch):
    model = tmp_path / "cache/models--microsoft--deberta-v3-base"
    for name in ("blobs/1", "refs/main", "snapshots/a1/config.json", "snapshots/a1/sub/more.json"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name)
    asked = []

    def find(name, file):
        asked.append(name)
        return str(model / "snapshots/a1" / file)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", find)
    found = build.cached_model("deberta-v3-base")
    assert asked == ["microsoft/deberta-v3-base"]
    top = "hub/models--microsoft--deberta-v3-base"
    assert set(found) == {f"{top}/refs/main", f"{top}/snapshots/a1/config.json", f"{top}/snapshots/a1/sub/more.json"}
    assert found[f"{top}/refs/main"].read_text() == "refs/main"
    assert build.cached_model("minilm") == {} == build.cached_model(str(tmp_path))
    parcel = build.Parcel({}, {}, {"inputs/more.csv": "/far/more.csv"})
    recipe = {"extra": ["inputs/more.csv"], "features": {"vectors": "inputs/more.csv"}, "epochs": 3, "pooling": "cls"}
    home = {"extra": ["/far/more.csv"], "features": {"vectors": "/far/more.csv"}, "epochs": 3, "pooling": "cls"}
    params = {"recipe": recipe, "asked": recipe, "inputs": {}}
    assert parcel.at_home(params) == {"recipe": home, "asked": home, "inputs": {}}


def test_the_terminal_shows_a_line_a_fold_and_one_that_moves(capfd):
    board = FoldsLine("3_train base", [0, 1, 2], every=0)
    board.watch({})
    board.watch({1: ("node-b", None)})
    now = time.time()
    states = {
        1: {"share": 0.5, "ends": now + 60, "said": ["fold 1: accuracy 0.9"]},
        0: {"phase": "Tokens", "ends": None},
    }
    reports = {fold: (f"node-{fold}", state) for fold, state in states.items()}
    board.watch(reports)
    board.watch(reports)
    board.lose(1, "its node died")
    board.end(0, "done in {}")
    lines = capfd.readouterr().out.splitlines()
    assert [line.removeprefix("3_train base  ") for line in lines] == [
        "waiting for the cluster  3 wait",
        "fold 1  begins on node-b",
        "fold 1 starts  2 wait",
        "fold 0  begins on node-0",
        "fold 1: accuracy 0.9",
        "fold 0 Tokens, fold 1 50%  1 wait",
        "fold 0 Tokens, fold 1 50%  1 wait",
        "fold 1  is trained again on another node: its node died",
        "fold 0  done in 0:00",
    ]
    board = FoldsLine("", [0, 1, 2, 3])
    board.watch({fold: ("n", {"share": 0.5, "ends": now + 60 + fold}) for fold in (0, 1)})
    assert board.left() == pytest.approx(121.5, abs=1)  # the two that wait take as long as those that are trained
