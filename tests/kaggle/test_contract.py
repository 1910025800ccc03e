"""The command of Kaggle's client itself, as a process of its own, talks to the small Kaggle as our code does.

Its requests go there by http_proxy, whatever port it has; the fuse keeps those that would go to kaggle.com.
"""

import os
import subprocess
import sys

import pytest

from kagglekit.files import read_json


@pytest.fixture
def command(environment, server):
    """command("kernels", "push", ...): what the client prints."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "https_proxy", "KAGGLE_USERNAME", "KAGGLE_KEY")}
    environ |= {"http_proxy": server.address, "no_proxy": "", "KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    environ["TMPDIR"] = str(environment)

    def run(*words):
        call = [sys.executable, "-c", "from kaggle.cli import main; main()", *map(str, words)]
        return subprocess.run(call, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout

    return run


def test_the_clients_own_command_pushes_what_we_build(command, server, folders):
    server.competitions["bbc"] = (None, str)
    assert "is being created" in command("datasets", "create", "-p", folders[0])
    assert "Kernel version 1 successfully pushed" in command("kernels", "push", "-p", folders[1])
    sent, ours = (
        read_json(place / "kernel-metadata.json") for place in (server.kernel_folder("stubuser/small-base"), folders[1])
    )
    assert sent == ours and set(server.calls) == {
        "GetDatasetStatus", "StartBlobUpload", "upload", "CreateDataset", "SaveKernel",
    }  # fmt: skip
