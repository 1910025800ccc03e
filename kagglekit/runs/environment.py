"""The environment of a result: package versions and the commit of this library."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("kagglekit", "torch", "transformers", "accelerate", "scikit-learn", "pandas", "numpy", "papermill")


def versions() -> dict[str, str]:
    """Python's version, and those of the packages that a result depends on, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of the library: of its checkout, or the one that its wheel was built from; None for any other.

    A wheel says "-dirty" behind it when it was built from files that differed from the commit.
    """
    file = Path(__file__).parents[1] / "commit.txt"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
