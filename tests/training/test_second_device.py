"""What a GPU would refuse: tensors of two devices in one operation, in a process with a second device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.version import Version

HERE = Path(__file__).parent


@pytest.mark.skipif(Version(torch.__version__) < Version("2.13"), reason="devices in Python are new in torch")
def test_recipes_learn_on_a_second_device_what_they_learn_on_the_cpu():
    options = ["-n", "0", "-q", "-p", "no:cacheprovider", "-p", "tests.second_device"]
    command = [sys.executable, "-m", "pytest", *options, str(HERE / "on_second_device.py")]
    done = subprocess.run(
        command, cwd=HERE.parents[1], env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "." * 20 in done.stdout  # so many recipes
