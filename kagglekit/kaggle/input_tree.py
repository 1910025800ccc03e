"""The tree that a kernel finds at /kaggle/input: its sources where Kaggle mounts them, before and after 2026."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kagglekit.files import read_json
from kagglekit.kaggle.metadata import DATASET_FILE, KERNEL_FILE, SOURCES, Ref, find_datasets, read_kernel_metadata
from kagglekit.options import check_range

METADATA = (DATASET_FILE, KERNEL_FILE, "datapackage.json")


def wanted_sources(metadata: Mapping) -> list[str]:
    """The sources in a kernel's metadata: "dataset:owner/slug", "competition:slug", "kernel:owner/slug", "model:...".

    Versions of data sets and kernels are left out: here there is one of each.
    """
    return [plain_source(f"{kind}:{name}") for kind, key in SOURCES.items() for name in metadata.get(key) or []]


def plain_source(source: str) -> str:
    """A source as `wanted_sources` writes it. Raises ValueError for another form."""
    kind, _, name = source.partition(":")
    check_range(
        "source", source, kind in SOURCES and bool(name), f"KIND:NAME, where KIND is one of {', '.join(SOURCES)}"
    )
    if kind in ("dataset", "kernel"):
        name = str(Ref.parse(name, source).bare)
    if kind == "model":
        check_range(source, name, len(name.split("/")) == 5, "owner/model/framework/variation/version")
    return f"{kind}:{name.lower()}"


def find_sources(kernel: str | Path) -> dict[str, Path]:
    """The local folders of a kernel's sources, as far as they can be found: its data sets (`find_datasets`), and the
    competition's files where task.json of the work folder has them. Outputs of other kernels and models must be given.
    """
    kernel = Path(kernel).resolve()
    wanted = wanted_sources(read_kernel_metadata(kernel))
    here = {f"dataset:{name}": folder for name, folder in find_datasets(kernel).items()}
    found = {source: here[source] for source in wanted if source in here}
    competitions = [source for source in wanted if source.startswith("competition:")]
    task = kernel.parent.parent / "task.json"
    if len(competitions) == 1 and task.is_file():
        data = Path(read_json(task).get("data") or "/nowhere")
        found |= {competitions[0]: data} if data.is_dir() else {}
    return found


def check_sources(kernel: Path, sources: Mapping[str, str | Path] | None) -> dict[str, Path]:
    """The folder of every source that the kernel asks for: those given in `sources`, else those that are found.

    Raises FileNotFoundError that says how to give the missing ones, and ValueError for one that the kernel does not ask
    for: Kaggle would not mount it either.
    """
    given = {plain_source(source): Path(folder).resolve() for source, folder in (sources or {}).items()}
    wanted = wanted_sources(read_kernel_metadata(kernel))
    for source, folder in given.items():
        rule = f"one of those in {kernel}/{KERNEL_FILE}: {', '.join(wanted) or 'none'}"
        check_range("source", source, source in wanted, rule)
        if not folder.is_dir():
            raise FileNotFoundError(f"{source}: {folder} is no folder")
    folders = find_sources(kernel) | given
    if missing := [source for source in wanted if source not in folders]:
        raise FileNotFoundError(
            f"{kernel.name} reads {', '.join(missing)}, and there is no folder for that here: give it as "
            f"--source {missing[0]}=FOLDER, in Python sources={{{missing[0]!r}: FOLDER}} (data sets are also found "
            f"beside the kernel, and a competition where {kernel.parent.parent / 'task.json'} has its files)"
        )
    return {source: folders[source] for source in wanted}


def mount_point(source: str, layout: str) -> Path:
    """Where Kaggle mounts a source, relative to /kaggle/input. layout: "new", of 2026, or "old"."""
    check_range("layout", layout, layout in ("new", "old"), "new or old")
    kind, _, name = source.partition(":")
    if layout == "new":
        return Path({"kernel": "notebooks"}.get(kind, f"{kind}s"), name)
    return Path(name) if kind == "competition" else Path(*name.split("/")[1:])


def attach(sources: Mapping[str, Path], inputs: Path, layout: str = "new", link: bool = True) -> None:
    """Fill `inputs` with the sources at their places. Hidden files and metadata are left out, and sub-folders of a data
    set that is still to be pushed, which the client skips.

    link: by hard links where the disk allows it; safe only where `inputs` is read-only then. Else by read-only copies.
    Raises ValueError for two sources of one place.
    """
    places: dict[Path, str] = {}
    inputs.mkdir(parents=True)
    for source, folder in sources.items():
        place = mount_point(source, layout)
        if place in places:
            raise ValueError(f"{source} and {places[place]} are mounted at the same place in the old layout: {place}")
        places[place] = source
        _attach_folder(folder, inputs / place, link, flat=(folder / DATASET_FILE).is_file())
    if not link:
        for folder, _, _ in os.walk(inputs):
            os.chmod(folder, 0o555)


def _attach_folder(folder: Path, place: Path, link: bool, flat: bool) -> None:
    place.mkdir(parents=True)
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in METADATA:
            continue
        if entry.is_dir():
            if not flat:
                _attach_folder(entry, place / entry.name, link, flat)
            continue
        if link:
            try:
                os.link(entry.resolve(), place / entry.name)
                continue
            except OSError:  # another disk, or a file of another user
                pass
        shutil.copyfile(entry, place / entry.name)
        (place / entry.name).chmod(0o444)


def release(folder: Path) -> None:
    """Delete a folder, also one with read-only parts."""
    for below, _, _ in os.walk(folder):
        os.chmod(below, 0o755)
    shutil.rmtree(folder, ignore_errors=True)
