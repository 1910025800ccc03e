"""Forked kernels: quick, and in nothing else different from those that begin from nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from kagglekit.running import warm_kernels
from kagglekit.running.jupyter_kernel import Kernel
from kagglekit.running.notebook import run_notebook
from kagglekit.running.warm_kernels import find_imports, import_path, warm_process

pytestmark = pytest.mark.skipif(warm_process() is None, reason="kernels are forked on Linux, and not beside a GPU")
IMPORTS = "import json\nimport numpy as np\nimport matplotlib.pyplot as plt\nimport kagglekit.options"
TELL = "print(json.dumps(dict(pid=os.getpid(), parent=os.getppid(), place=os.getcwd(), draw=np.random.rand(), "
TELL += "mark=getattr(json, 'mark', None), variable=os.environ.get('MARK'), path=sys.path, argv=sys.argv[:1])))"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_notebook(*cells):
    cells = [nbformat.v4.new_code_cell(cell) for cell in ('work = "w"\nrun = "base"', IMPORTS, *cells)]
    cells[0].metadata["tags"] = ["parameters"]
    Path("notebooks").mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), "notebooks/3_train.ipynb")


def run(**parameters):
    """The outputs of the cells below the imports."""
    copy = run_notebook("3_train", parameters, folder=Path("notebooks"), force=True)
    return [cell.outputs for cell in nbformat.read(copy, as_version=4).cells[-2:]]


def test_nothing_of_a_notebook_reaches_the_next_one(tmp_path):
    mark = "json.mark = os.environ['MARK'] = 'x'\nos.chdir('/')\nsys.path.insert(0, '/')\nplt.plot([1, 2]);"
    write_notebook(f"import os, sys\n{TELL}", mark)
    (first, picture), (second, _) = run(), run()
    one, other = (json.loads(outputs[0].text) for outputs in (first, second))
    warm = warm_process()
    assert one["parent"] == other["parent"] == warm.process.pid and one["pid"] != other["pid"]
    assert one["draw"] != other["draw"]
    assert {name: one[name] for name in ("place", "mark", "variable", "argv")} == {
        name: other[name] for name in ("place", "mark", "variable", "argv")
    }
    assert one["path"] == other["path"] and one["place"] == str(tmp_path)
    assert one["mark"] is None and one["variable"] is None
    assert "image/png" in picture[-1].data
    assert warm.process.poll() is None


def test_a_kernel_begins_in_a_second_when_its_imports_are_done():
    write_notebook("import torch, transformers", "1")
    run()
    began = time.monotonic()
    run()
    assert time.monotonic() - began < 3  # 0.5 on an idle machine; the imports alone take 2


def test_an_import_that_fails_is_an_error_of_its_cell_alone():
    write_notebook("import nothing_of_that_name", "1")
    with pytest.raises(RuntimeError, match="No module named 'nothing_of_that_name'"):
        run()
    write_notebook("1", "2")
    assert run()[1][0].data["text/plain"] == "2"


def test_without_the_forking_process_the_kernel_begins_from_nothing(monkeypatch):
    write_notebook(f"import os, sys\n{TELL}", "1")
    warm = warm_process()
    with monkeypatch.context() as patch:
        patch.setattr(warm, "fork", lambda *_: (_ for _ in ()).throw(OSError("it has died")))
        alone = json.loads(run()[0][0].text)
    assert alone["parent"] == os.getpid()
    warm.process.kill()
    warm.process.wait()
    forked = json.loads(run()[0][0].text)
    assert forked["parent"] == warm_process().process.pid != warm.process.pid
    assert forked["path"] == alone["path"] and forked["argv"][0].split("/")[-1][:18] == "ipykernel_launcher"


def test_a_kernel_waits_at_files_of_its_own_and_at_no_port_that_another_process_could_take():
    told = "from ipykernel.connect import get_connection_info\nknown = get_connection_info(unpack=True)\n"
    told += "print(json.dumps([known['transport'], known['ip']]))"
    write_notebook(told, "1")
    transport, place = json.loads(run()[0][0].text)
    assert transport == "ipc" and not Path(place).parent.exists()  # it is gone with the run


def test_a_kernel_that_cannot_open_its_sockets_ends_with_the_error(monkeypatch):
    began, launch = time.monotonic(), Kernel._async_launch_kernel

    async def launch_too_late(self, *line, **options):
        Path(f"{self.ip}-{self.iopub_port}").mkdir()
        await launch(self, *line, **options)

    monkeypatch.setattr(Kernel, "_async_launch_kernel", launch_too_late)
    write_notebook("1", "2")
    with pytest.raises(RuntimeError, match=r"(?s)Address already in use.*ended with exit code 1"):
        run()
    assert time.monotonic() - began < 20


def test_another_environment_or_library_is_another_process(monkeypatch):
    first = warm_process()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "no import reads this")
    assert warm_process() is first
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    second = warm_process()
    assert second is not first and first.process.poll() is not None
    monkeypatch.setattr(warm_kernels, "_circumstances", lambda: "the library was changed")
    assert warm_process() is not second


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_ends_the_runner_nothing_runs_on(number, tmp_path):
    child = "import subprocess\nsleep = subprocess.Popen(['sleep', '99'])\n"
    tell = "import os\nPath('part').write_text(f'{os.getpid()} {os.getppid()} {sleep.pid}')\nos.rename('part', 'pids')"
    write_notebook(f"from pathlib import Path\n{child}{tell}", "import time\ntime.sleep(99)")
    line = [sys.executable, "-m", "kagglekit.run", "3_train", "--notebooks", "notebooks"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a script ignore it
    runner = subprocess.Popen(line, env={**os.environ, **import_path()}, stdout=subprocess.DEVNULL, stderr=-1)
    end = time.monotonic() + 60
    while not Path("pids").exists():
        assert time.monotonic() < end and runner.poll() is None
        time.sleep(0.05)
    runner.send_signal(number)
    runner.communicate(timeout=30)
    left = [int(pid) for pid in Path("pids").read_text().split()]
    end = time.monotonic() + 10
    while alive := [pid for pid in left if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)


def is_zombie(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_imports_of_a_notebook_are_its_statements():
    write_notebook("import os\nfrom pathlib import Path\n", "%matplotlib inline")
    assert find_imports(Path("notebooks/3_train.ipynb")) == [
        *IMPORTS.splitlines(),
        "import os",
        "from pathlib import Path",
    ]
