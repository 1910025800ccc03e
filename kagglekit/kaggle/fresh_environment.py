"""A fresh environment for a dry run: the packages of this one without kagglekit, and nothing of the user's."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

from kagglekit.kaggle import sandbox

MARK = "KAGGLEKIT_DRY_RUN"  # set in all processes of a dry run, to a value that is theirs alone
KEPT = ("LANG", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE")  # of the caller's variables; also LC_... and ..._THREADS
NOBODY = "http://127.0.0.1:9"  # a proxy at which nobody answers


def make_environment(place: Path, refuse: bool = False) -> Path:
    """Make a virtual environment at `place` and return its python. Takes 0.1 s and no space.

    The packages of the running environment come after its own on the path, so that pip installs over them and never
    into them. kagglekit is not among them, even where it is installed. Jupyter's kernel `python3` is this python.
    refuse: its processes reach nothing but this machine (`sandbox.refuse_network`).
    """
    builder = venv.EnvBuilder(with_pip=importlib.util.find_spec("pip") is None, symlinks=True, clear=True)
    builder.create(place)
    python, scheme = place / "bin" / "python", {"base": str(place), "platbase": str(place)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    folders = [_without_kagglekit(folder, place / "packages") for folder in _package_folders()]
    (packages / "behind.pth").write_text("".join(f"{folder}\n" for folder in folders))
    if refuse:
        shutil.copyfile(sandbox.__file__, packages / f"{sandbox.LOADED}.py")
        (packages / f"{sandbox.LOADED}.pth").write_text(f"import {sandbox.LOADED} as it; it.refuse_network()\n")
    for name in ("pip", "pip3"):  # `!pip install` in a cell must not find that of the running environment
        script = place / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} -m pip "$@"\n')
        script.chmod(0o755)
    kernel = place / "share" / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    return python


def clean_environment(
    root: Path, python: Path, mark: str, *, gpu: bool = False, refuse: bool = False, internet: bool = False
) -> dict[str, str]:
    """The variables that a kernel sees: no credential, proxy, PYTHONPATH or home folder of the caller.

    KEPT lists what stays. Home and temporary files lie below `root`. gpu: else CUDA shows no device.
    """
    bin, own = python.parent, Path(sysconfig.get_path("scripts")).resolve()
    path = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry]
    if sys.prefix != sys.base_prefix:  # scripts of the running environment would run in it
        path = [entry for entry in path if Path(entry).resolve() != own]
    kept = {n: v for n, v in os.environ.items() if n in KEPT or n.startswith("LC_") or n.endswith("_THREADS")}
    devices = {n: v for n, v in os.environ.items() if n.startswith(("NVIDIA_", "CUDA_"))}
    made = {
        MARK: mark,
        "PATH": os.pathsep.join([str(bin), *path]),
        "VIRTUAL_ENV": str(bin.parent),
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "JUPYTER_PATH": str(bin.parent / "share" / "jupyter"),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLEKIT_INPUTS": str(root / "kaggle" / "input"),
        "PYTHONNOUSERSITE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    made |= {} if internet else {"PIP_CONFIG_FILE": os.devnull}  # this machine's package index
    if refuse:
        made |= {name: NOBODY for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
        made |= {"no_proxy": "localhost,127.0.0.1,::1"}
    return kept | (devices if gpu else {"CUDA_VISIBLE_DEVICES": ""}) | made


def prove_fresh(python: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Raise RuntimeError when a process in `folder` could import kagglekit before the kernel has installed it."""
    code = "import importlib.util as u; s = u.find_spec('kagglekit'); print(s.origin if s else '')"
    done = subprocess.run([python, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode or done.stdout.strip():
        raise RuntimeError(
            f"the fresh environment {python.parents[1]} is not fresh: kagglekit is there before the kernel installs it "
            f"({done.stdout.strip() or done.stderr.strip()[-300:]})"
        )


def _package_folders() -> Iterator[Path]:
    """The folders of installed packages that this process imports from, in its order."""
    for folder in dict.fromkeys(Path(entry).resolve() for entry in sys.path if entry):
        named = folder.name in ("site-packages", "dist-packages")
        if folder.is_dir() and (named or any(folder.glob("*.dist-info"))):
            yield folder


def _without_kagglekit(folder: Path, place: Path) -> Path:
    """`folder`, or where kagglekit is installed in it, a new folder below `place` with links to everything else."""
    ours = {entry for entry in folder.iterdir() if _is_kagglekit(entry.name)}
    if not ours:
        return folder
    links = place / str(len(list(place.glob("*"))))
    links.mkdir(parents=True)
    for entry in folder.iterdir():
        if entry not in ours and entry.name != "__pycache__":
            (links / entry.name).symlink_to(entry)
    return links


def _is_kagglekit(name: str) -> bool:
    return name == "kagglekit" or name.startswith(("kagglekit-", "kagglekit.", "__editable__.kagglekit"))
