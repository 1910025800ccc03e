"""A bundle: a flat data set with the files that a kernel reads, and the place, size and hash of each."""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from kagglekit import __version__
from kagglekit.annotations import accepts
from kagglekit.files import replacing, write_json
from kagglekit.kaggle.metadata import DATASET_FILE, Ref, dataset_metadata, read_object

BUNDLE_FILE = "bundle.json"
GOLDEN_FILE = "golden.parquet"  # golden rows, in the folder of a run
UNPACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")  # by Kaggle, on arrival
RECORD = {"path": "str", "name": "str", "bytes": "int", "sha256": "str"}  # of a file in bundle.json


def pack(files: Mapping[str, Path], place: Path, ref: Ref | str, title: str = "", **more) -> Path:
    """Make the data set folder `place` of `files`: path in the kernel -> file here.

    "runs/bbc/task.json" becomes 0001-task.json, since the client skips sub-folders; ".bin" is appended to archives,
    which Kaggle would unpack. Empty files are left out: the client sends no size for them. Files are hard links where
    the disk allows it, else copies. An older bundle in `place` is replaced when this one is whole.
    more: more for bundle.json, such as train={"name": "train.csv", "sha256": "..."}.
    Raises ValueError for a path that does not stay below the kernel's folder, FileNotFoundError for a missing file.
    """
    for path, file in files.items():
        _check_path(path, files, "files")
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file} is not a file: {path} of the kernel cannot be made of it")
    files = {path: file for path, file in files.items() if Path(file).stat().st_size}
    place, records = Path(place), []
    metadata = dataset_metadata(ref, title)
    with replacing(place, BUNDLE_FILE) as part:
        part.mkdir()
        for number, (path, file) in enumerate(files.items(), start=1):
            name = f"{number:04d}-{_plain(PurePosixPath(path).name)}"
            _link(Path(file).resolve(), part / name)
            records.append({"path": path, "name": name, **measure(part / name)})
        write_json(part / BUNDLE_FILE, {**more, "kagglekit": __version__, "files": records}, plain=True)
        write_json(part / DATASET_FILE, metadata, plain=True)
    return place


def unpack(bundle: Path, root: Path) -> list[Path]:
    """Link the files of a bundle to their places below `root`, in real folders that can be written to; returns the
    links.

    A file that is there already stays, and so does a link to the same bytes. Sizes and hashes of all files are checked
    before the first link (about 1 s for each GB).
    Raises FileNotFoundError or ValueError when the bundle is not what was packed.
    """
    bundle, links = Path(bundle).resolve(), []
    records = read_bundle(bundle)["files"]
    for record in records:
        problem = differs(bundle / record["name"], record)
        if problem:
            raise (ValueError if (bundle / record["name"]).is_file() else FileNotFoundError)(
                f"{bundle}: {problem}. Build the bundle again and push it as a new version of the data set"
            )
    for record in records:
        link = Path(root) / record["path"]
        if link.exists() and not link.is_symlink():
            continue
        if link.exists() and differs(link.resolve(), record):
            raise ValueError(f"{link} is {link.resolve()}, and {bundle} has another file for this place: attach one")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            with replacing(link) as part:
                part.symlink_to(bundle / record["name"])
        links.append(link)
    return links


def read_bundle(bundle: Path) -> dict:
    """The content of bundle.json in a folder. Raises FileNotFoundError or ValueError that name the file and the key."""
    file = Path(bundle) / BUNDLE_FILE
    content = read_object(file)
    if not accepts("list[dict[str, Any]]", content.get("files")):
        raise ValueError(f"{file}: files must be a list of objects with {', '.join(RECORD)}")
    for number, record in enumerate(content["files"]):
        for key, kind in RECORD.items():
            if not accepts(kind, record.get(key)):
                raise ValueError(f"{file}: files[{number}].{key}={record.get(key)!r} must be of type {kind}")
        if record["name"] != Path(record["name"]).name:
            raise ValueError(f"{file}: files[{number}].name={record['name']!r} must be a plain file name")
    for key in ("path", "name"):
        known = [record[key] for record in content["files"]]
        for twice in {value for value in known if known.count(value) > 1}:
            raise ValueError(f"{file}: {key}={twice!r} is there twice")
    paths = {record["path"] for record in content["files"]}
    for path in paths:
        _check_path(path, paths, str(file))
    return content


def differs(file: Path, record: Mapping) -> str:
    """How a file differs from its record in bundle.json or wheels.json, in words; "" when it is equal."""
    if not file.is_file():
        return f"{file.name} is not there"
    found = measure(file) if file.stat().st_size == record["bytes"] else {"bytes": file.stat().st_size}
    for key, value in found.items():
        if value != record[key]:
            return f"{file.name} has {key} {value}, and its record says {record[key]}"
    return ""


def measure(file: Path) -> dict:
    """The size and the SHA-256 of a file, as bundle.json and wheels.json write them."""
    with open(file, "rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def show_size(size: float) -> str:
    """4_200_000 bytes -> "4.2 MB"."""
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{size / unit:,.1f} {name}"


def is_unpacked(name: str) -> bool:
    """Whether Kaggle unpacks a file of this name on arrival, so that a kernel finds a folder in its place."""
    return name.lower().endswith(UNPACKED)


def _check_path(path: str, known, where: str) -> None:
    parts = path.split("/")
    if "\\" in path or path.startswith("~") or not path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{where}: {path!r} does not stay below the kernel's folder: write it as runs/bbc/task.json")
    for above in PurePosixPath(path).parents:
        if str(above) in known:
            raise ValueError(f"{where}: {above} is a file, and {path} needs it as a folder")


def _plain(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-100:]
    return plain + ".bin" if is_unpacked(plain) else plain


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError:  # another disk, or one that knows no hard links
        shutil.copyfile(file, link)
