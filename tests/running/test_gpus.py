"""Which GPUs work: the question is put to a torch that has the GPUs and the faults of other machines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kagglekit.running.gpus import Gpu, Gpus, working_gpus

TORCH = '''
"""As much of torch as the question needs, on a machine with the GPUs of `faults`."""
import os, time
from types import SimpleNamespace

faults = os.environ["FAULTS"].split(",")
float16 = "float16"

class Product:
    def __init__(self, index):
        self.index = index
    def __matmul__(self, other):
        fault = faults[self.index]
        if fault == "image":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\\nCompile")
        if fault == "hangs":
            time.sleep(60)
        if fault == "dies":
            os._exit(9)
        return self
    def __eq__(self, other):
        return SimpleNamespace(all=lambda: other == 256 and faults[self.index] != "wrong")

def ones(*shape, device, dtype):
    assert dtype == float16
    return Product(device)

def device(kind, index):
    return index

if faults == ["driver"]:
    raise ImportError("libcuda.so.1: cannot open shared object file")
cuda = SimpleNamespace(
    device_count=lambda: len(faults),
    get_device_properties=lambda i: SimpleNamespace(name="Tesla T4", major=7, minor=5, total_memory=15 * 2**30),
    synchronize=lambda i: None,
)
'''
ASK = "from kagglekit.running.gpus import *; gpus = working_gpus({}); print(gpus.indices); print(gpus)"


def ask(folder, faults, patience=30):
    """What a machine whose GPUs have these faults prints."""
    (folder / "torch").mkdir(exist_ok=True)
    (folder / "torch/__init__.py").write_text(TORCH)
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PYTHONPATH": path, "FAULTS": faults}
    line = [sys.executable, "-c", ASK.format(patience)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_two_gpus_that_multiply_work(tmp_path):
    lines = ask(tmp_path, "none,none")
    assert lines == ["[0, 1]", "GPU 0: Tesla T4, 15.0 GiB, sm_75", "GPU 1: Tesla T4, 15.0 GiB, sm_75"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("image", "RuntimeError: CUDA error: no kernel image is available for execution on the device"),
        ("wrong", "ones times ones gave a wrong product"),
        ("dies", "the process that tested it ended with code 9"),
    ],
)
def test_a_gpu_that_fails_is_named_with_its_reason_and_the_others_are_asked_all_the_same(tmp_path, fault, why):
    lines = ask(tmp_path, f"none,{fault},none")
    assert lines[0] == "[0, 2]"
    assert lines[2] == f"GPU 1: Tesla T4, 15.0 GiB, sm_75, does not work: {why}"


def test_a_gpu_that_never_answers_is_given_up_after_the_time_that_it_has(tmp_path):
    lines = ask(tmp_path, "hangs,none", patience=1)
    assert lines[0] == "[1]"
    assert lines[1].endswith("does not work: no answer in 1 seconds")


def test_a_driver_that_is_not_there_is_named_in_its_words(tmp_path):
    lines = ask(tmp_path, "driver")
    assert lines[0] == "[]"
    assert "could not count the GPUs: ImportError: libcuda.so.1" in lines[1]


def test_without_a_gpu_there_is_none_and_none_is_no_error(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert working_gpus() == Gpus() and not working_gpus() and str(working_gpus()) == "no GPU"
    both = Gpus((Gpu(1),), (Gpu(0, problem="no kernel image"),))
    assert len(both) == 1 and [gpu.index for gpu in both] == both.indices == [1]
    assert str(both) == "GPU 0: GPU, does not work: no kernel image\nGPU 1: GPU"
