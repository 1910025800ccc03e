"""What was pushed from here: `.pushed.json` beside the folders. Nothing is sent twice, and versions are known."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagglekit.files import file_lock, read_json, write_json
from kagglekit.kaggle.metadata import KERNEL_FILE, Ref, find_datasets, read_kernel_metadata, search_folders

RECORD = ".pushed.json"


@dataclass(frozen=True)
class Pushed:
    """What is on Kaggle now. kind: dataset or kernel. new: False where the same was there already."""

    ref: str
    version: int
    url: str
    kind: str
    new: bool = True

    def __str__(self):
        return f"{self.kind} {self.ref}/{self.version}{'' if self.new else ' (there already)'}  {self.url}"


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """What was pushed of a folder and of those that it goes with: owner/slug -> version, url, and what it was."""
    files = [shelf / RECORD for shelf in reversed(search_folders(folder))]
    return {ref: told for file in files if file.is_file() for ref, told in read_json(file).items()}


def remember(folder: Path, ref: str, **told) -> None:
    """Write down that a push is done."""
    file = folder.parent / RECORD
    with file_lock(file):
        write_json(file, (read_json(file) if file.is_file() else {}) | {ref: told})


def last_version(folder: str | Path) -> int | None:
    """The version that the last push of a kernel folder made; None where it was not pushed from here."""
    ref = str(Ref.parse(read_kernel_metadata(folder)["id"]).bare)
    return read_records(Path(folder)).get(ref, {}).get("version")


def pin(folder: Path, ref: str) -> dict[str, int]:
    """Write versions into the data set sources of a kernel: of a source without one, and of one that an earlier push
    has written, the version of the last push of that data set. Returns them; those written by hand stay as they are.

    Raises ValueError where the local data set is no longer what was pushed: the kernel would read other input.
    """
    metadata, records, here = read_kernel_metadata(folder), read_records(folder), find_datasets(folder, {})
    before, pinned, sources = records.get(ref, {}).get("pinned", {}), {}, []
    for text in metadata.get("dataset_sources", []):
        source = Ref.parse(text)
        told, place = records.get(str(source.bare), {}), here.get(str(source.bare).lower())
        known = told.get("version")
        if known and source.version in (None, before.get(str(source.bare))):
            if place and told.get("content") != hash_content(place):
                raise ValueError(
                    f"kernel {ref} was not pushed: {place} has changed since it became {source.bare}/{known}. Push it "
                    "too, together with the kernel"
                )
            pinned[str(source.bare)] = known
            text = f"{source.bare}/{known}"
        sources.append(text)
    if sources != metadata.get("dataset_sources", []):
        write_json(folder / KERNEL_FILE, {**metadata, "dataset_sources": sources})
    remember(folder, ref, **records.get(ref, {}) | {"pinned": pinned})  # also when Kaggle does not take the kernel now
    return pinned


def hash_content(folder: Path) -> str:
    """A hash of what a data set folder holds: bundle.json and wheels.json tell the hashes of the other files."""
    digest = hashlib.sha256()
    listed = any((folder / name).is_file() for name in ("bundle.json", "wheels.json"))
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        if file.suffix == ".json" or not listed:
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
