"""The sandbox of a dry run: no network by a namespace and by refused sockets, and an environment with nothing in it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folders import write_wheel

from kagglekit.kaggle.dry_run import family, watch
from kagglekit.kaggle.fresh_environment import MARK, clean_environment, make_environment, prove_fresh
from kagglekit.kaggle.sandbox import NOT_ISOLATED, sandboxed, why_no_namespace

TRIES = """
import json, socket, sys

def attempt(call):
    try:
        call()
        return "works"
    except socket.gaierror as error:
        return "no such name"
    except OSError as error:
        return error.errno

def send(family, host):
    with socket.socket(family, socket.SOCK_DGRAM) as any_socket:
        any_socket.sendto(b"x", (host, 9))

def here(host, family):
    with socket.create_server((host, 0), family=family) as server:
        socket.create_connection(server.getsockname()[:2], timeout=3).close()

print(json.dumps({
    "tcp": attempt(lambda: socket.create_connection(("192.0.2.1", 80), timeout=3)),
    "udp": attempt(lambda: send(socket.AF_INET, "192.0.2.1")),
    "tcp6": attempt(lambda: socket.create_connection(("2001:db8::1", 80), timeout=3)),
    "name": attempt(lambda: socket.create_connection(("example.com", 80), timeout=3)),
    "loopback": attempt(lambda: here("127.0.0.1", socket.AF_INET)),
    "localhost": attempt(lambda: here("localhost", socket.AF_INET)),
}))
"""
OFF = {"tcp": 101, "udp": 101, "name": "no such name", "loopback": "works", "localhost": "works"}
NONE = subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode if sys.platform == "linux" else 1
needs_namespace = pytest.mark.skipif(NONE != 0, reason="namespaces are refused on this machine")


def run(words, how, folder, python=sys.executable, **options):
    return subprocess.run(sandboxed(words, how, folder, python), capture_output=True, text=True, **options)


@needs_namespace
def test_a_namespace_has_a_loopback_and_no_way_out(tmp_path):
    assert why_no_namespace(tmp_path) == ""
    found = json.loads(run([sys.executable, "-c", TRIES], "namespace", tmp_path).stdout)
    assert found.pop("tcp6") in (101, 99)
    assert found == OFF


@needs_namespace
def test_inputs_cannot_be_written_to_in_a_namespace_and_other_folders_can(tmp_path):
    inputs = tmp_path / "input"
    inputs.mkdir()
    (inputs / "train.csv").write_text("kept")
    script = f"echo lost > {inputs}/train.csv; rm {inputs}/train.csv; touch {inputs}/new; echo fine > {tmp_path}/output"
    done = run(["sh", "-c", script], "namespace", inputs)
    assert done.stderr.lower().count("read-only file system") == 3
    assert [file.read_text() for file in sorted(tmp_path.rglob("*.csv"))] == ["kept"]
    assert (tmp_path / "output").read_text() == "fine\n"
    (inputs / "new").touch()  # only in there


def test_refused_sockets_leave_only_the_loopback(tmp_path):
    python = make_environment(tmp_path / "python", refuse=True)
    found = json.loads(run([python, "-c", TRIES], "sockets", tmp_path, python).stdout)
    assert found == OFF | {"tcp6": 101}
    grandchild = [python, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', {TRIES!r}])"]
    assert json.loads(run(grandchild, "sockets", tmp_path, python).stdout)["tcp"] == 101


def test_an_environment_that_refuses_nothing_is_not_taken_for_one_without_network(tmp_path):
    python = make_environment(tmp_path / "python", refuse=False)
    done = run([python, "-c", "print('ran')"], "sockets", tmp_path, python)
    assert done.returncode == NOT_ISOLATED
    assert "refuse=False" in done.stderr
    assert "ran" not in done.stdout


@needs_namespace
def test_where_namespaces_are_refused_the_reason_is_told_and_sockets_are_refused(tmp_path):
    asked = "import sys; from pathlib import Path; from kagglekit.kaggle.sandbox import why_no_namespace as why; "
    asked += "print(why(Path(sys.argv[1])))"
    limits = "echo 0 > /proc/sys/user/max_user_namespaces; echo 0 > /proc/sys/user/max_net_namespaces; "
    words = ["unshare", "-r", "sh", "-c", f'{limits} exec "$@"', "sh", sys.executable, "-c", asked, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "unshare is refused: No space left on device" in done.stdout, done.stderr


def test_a_fresh_environment_has_our_packages_and_no_kagglekit_also_where_that_is_installed(tmp_path, monkeypatch):
    outer = tmp_path / "site-packages"
    for name in ("kagglekit", "companion"):  # as pip leaves them
        wheel = write_wheel(tmp_path / "old", name, text="where = 'old'")
        shutil.unpack_archive(wheel, outer, "zip")
        (outer / f"{name}-1.0.dist-info" / "INSTALLER").write_text("pip")
    monkeypatch.syspath_prepend(str(outer))
    python = make_environment(tmp_path / "python")
    environment = clean_environment(tmp_path, python, "mark")
    prove_fresh(python, environment, tmp_path)

    wheels = tmp_path / "wheels"
    for name in ("kagglekit", "companion"):
        write_wheel(wheels, name, "2.0", text="where = 'new'")
    pip = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", "--find-links", str(wheels)]
    subprocess.run([python.parent / pip[0], *pip[1:], "kagglekit", "companion"], env=environment, check=True)
    code = "import kagglekit, companion, numpy; print(kagglekit.where, companion.where)"
    done = subprocess.run([python, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["new", "new"], done.stderr
    assert (outer / "companion" / "__init__.py").read_text() == "where = 'old'"
    with pytest.raises(RuntimeError, match="is not fresh: kagglekit is there"):
        prove_fresh(python, environment, tmp_path)


def test_a_clean_environment_has_nothing_of_the_user(tmp_path, monkeypatch):
    secret = ["KAGGLE_KEY", "KAGGLE_API_TOKEN", "HF_TOKEN", "https_proxy"]
    for name in [*secret, "PYTHONPATH", "MY_OWN", "XDG_CONFIG_HOME"]:
        monkeypatch.setenv(name, "PLANTED")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    python = make_environment(tmp_path / "python")
    environment = clean_environment(tmp_path, python, "mark")
    assert "PLANTED" not in json.dumps(environment)
    assert environment["HOME"] == str(tmp_path / "home")
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["OMP_NUM_THREADS"] == "1"
    assert str(Path(sys.executable).parent) not in environment["PATH"].split(os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert clean_environment(tmp_path, python, "mark", gpu=True)["CUDA_VISIBLE_DEVICES"] == "1"


def test_no_process_is_left_behind_also_those_that_left_the_group(tmp_path):
    mark = f"test-{os.getpid()}"
    script = "setsid sleep 60 & setsid sh -c 'sleep 61 & sleep 62' & sleep 0.7; echo said"
    environment = {"PATH": os.environ["PATH"], MARK: mark}
    watched = watch(["sh", "-c", script], environment, tmp_path, tmp_path / "log", seconds=30, disk=1e9)
    assert (watched.code, watched.over) == (0, "")
    assert (tmp_path / "log").read_text() == "said\n"
    assert list(family(mark)) == []


@pytest.mark.parametrize(
    ("limits", "over"), [({"seconds": 0.5, "disk": 1e9}, "time"), ({"seconds": 30, "disk": 1e4}, "disk")]
)
def test_a_limit_ends_the_command(tmp_path, limits, over):
    script = "head -c 20000 /dev/zero > file; sleep 60"
    began = time.monotonic()
    watched = watch(
        ["sh", "-c", script], {"PATH": os.environ["PATH"], MARK: over}, tmp_path, tmp_path / "log", **limits
    )
    assert watched.over == over
    assert time.monotonic() - began < 10
    assert watched.memory > 0
