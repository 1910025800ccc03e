"""Push kernels and data sets to Kaggle: checked first, waited for, and an error wherever the client lets one pass.

`.pushed.json` beside the folders keeps what was pushed, so that nothing is sent twice and data sets are pinned.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagglekit.files import file_lock, read_json, resolve, write_json
from kagglekit.kaggle.bundle import show_size
from kagglekit.kaggle.client import ENDED, KaggleError, asked, connect, status, wait
from kagglekit.kaggle.lint import lint_all, show
from kagglekit.kaggle.metadata import (
    DATASET_FILE,
    KERNEL_FILE,
    SOURCES,
    Ref,
    find_datasets,
    read_dataset_metadata,
    read_kernel_metadata,
    search_folders,
)

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


def push(folders: Sequence[str | Path], message: str = "", *, every: float = 10.0, api=None) -> list[Pushed]:
    """Push data sets, then kernels. A kernel that reads the output of another one of them waits until that has run, and
    one for which Kaggle has no free session (it runs two with GPUs of a user at a time) until one of them has.

    message: of the versions of data sets. every: seconds between two looks at what is waited for. Raises ValueError for
    a folder with an error that `lint` finds, before anything is sent, and KaggleError where Kaggle refuses a folder,
    one of a kernel's sources (it runs without it then: stop it there) or a tag.
    """
    folders = [resolve(folder) for folder in folders]
    errors = [finding for finding in lint_all(folders) if finding.level == "error"]
    if errors:
        raise ValueError(f"nothing was pushed:\n{show(errors)}")
    api, done = api or connect(), []
    datasets = [folder for folder in folders if (folder / DATASET_FILE).is_file()]
    left = {_id(read_kernel_metadata(folder)): folder for folder in folders if folder not in datasets}
    order = _sort(left)
    for folder in datasets:
        done.append(_send_dataset(api, folder, message, every))
    for number, ref in enumerate(order):
        if before := _reads(left[ref], order[:number]):
            wait(before, every, api=api)
        done.append(_send_when_free(api, left[ref], order[:number], every))
    return done


def _id(metadata: dict) -> str:
    return str(Ref.parse(metadata["id"]).bare)


def _reads(folder: Path, refs: Iterable[str]) -> list[str]:
    """Which of the kernels `refs` a kernel reads the output of."""
    sources = {str(Ref.parse(source).bare) for source in read_kernel_metadata(folder).get("kernel_sources") or []}
    return [ref for ref in refs if ref in sources]


def _sort(kernels: dict[str, Path]) -> list[str]:
    """Kernels in an order in which each comes after those whose output it reads."""
    order: list[str] = []
    while left := [ref for ref in kernels if ref not in order]:
        ready = [ref for ref in left if not _reads(kernels[ref], left)]
        if not ready:
            raise ValueError(f"the kernels {', '.join(left)} read each other's output: none of them can be the first")
        order += ready
    return order


def _send_dataset(api, folder: Path, message: str, every: float) -> Pushed:
    """Make a private data set, or its next version, and wait until Kaggle has it ready; nothing where it has the same.

    The record is written when all is done, so that a push that broke off starts again.
    """
    ref, content = _id(read_dataset_metadata(folder)), hash_content(folder)
    state, before = _look(api, ref)
    last = _records(folder).get(ref, {})
    if before and last.get("content") == content and last["version"] == before:
        return Pushed(ref, before, last["url"], "dataset", new=False)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    print(f"data set {ref}: sending {show_size(size)}", flush=True)
    place, notes = str(folder), message or content[:16]
    if not state:
        answer = asked(lambda: api.dataset_create_new(place, quiet=True), f"make data set {ref}", patience=0)
    else:
        answer = asked(lambda: api.dataset_create_version(place, notes, quiet=True), f"push data set {ref}", patience=0)
    if answer.error or (answer.status or "ok").lower() != "ok":
        raise KaggleError(f"data set {ref}: Kaggle says: {answer.error or answer.status}")
    _refuse(f"data set {ref}", {"tags": answer.invalid_tags})
    version = _await_dataset(api, ref, before, every)
    _remember(folder, ref, version=version, url=answer.url, content=content)
    return Pushed(ref, version, answer.url, "dataset")


def _look(api, ref: str) -> tuple[str, int]:
    """The state and the version of a data set; "" and 0 where there is none, or none that this user may see."""
    try:
        answer = asked(lambda: api.dataset_status(ref, format="json(status,current_version_number)"), f"look for {ref}")
    except KaggleError as error:
        if error.status in (403, 404):
            return "", 0
        raise
    answer = json.loads(answer)
    return answer["status"], answer["current_version_number"] or 0


def _await_dataset(api, ref: str, before: int, every: float, limit: float = 3600) -> int:
    """Wait until a version above `before` is ready, at most `limit` seconds, and return it."""
    begin, shown = time.monotonic(), None
    while True:
        state, version = _look(api, ref)
        if state == "ready" and version > before:
            return version
        if state in ("failed", "deleted"):
            raise KaggleError(f"data set {ref}: Kaggle could not take its files ({state}): push it again")
        if state != shown:
            print(f"data set {ref}: {state.replace('_', ' ') or 'on its way'}", flush=True)
            shown = state
        if time.monotonic() - begin + every > limit:
            raise KaggleError(f"data set {ref}: not ready after {limit:g} s ({state}): look at it on Kaggle")
        time.sleep(every)


def _send_when_free(api, folder: Path, others: Sequence[str], every: float) -> Pushed:
    """Push a kernel; where Kaggle has no session for it beside `others`, pushed before it, again when one has run."""
    while True:
        try:
            return _send_kernel(api, folder)
        except KaggleError as error:
            if "session count" not in str(error) or not others:
                raise
            print(f"{error}: it waits until another one has run", flush=True)
            others = [ref for ref in others if status(ref, api).state not in ENDED]
        time.sleep(every)


def _send_kernel(api, folder: Path) -> Pushed:
    ref = _id(read_kernel_metadata(folder))
    pinned = pin(folder, ref)
    # once: where the answer is lost Kaggle may run it already, and a second version would run beside it
    answer = asked(lambda: api.kernels_push(str(folder)), f"push kernel {ref}", again=False)
    if answer.error:
        raise KaggleError(f"kernel {ref}: Kaggle says: {answer.error}")
    sources = {f"{kind} sources": getattr(answer, f"invalid_{kind}_sources") for kind in SOURCES}
    then = ". It runs without: stop it on Kaggle, check the names and whether they are yours, and push it again"
    _refuse(f"kernel {ref}, version {answer.version_number}", {**sources, "tags": answer.invalid_tags}, then)
    if not answer.version_number:
        raise KaggleError(f"kernel {ref}: Kaggle gave no version, so it is not known whether it has the kernel")
    _remember(folder, ref, version=answer.version_number, url=answer.url, pinned=pinned)
    return Pushed(ref, answer.version_number, answer.url, "kernel")


def _refuse(what: str, invalid: dict[str, Sequence[str] | None], then: str = "") -> None:
    """Raise KaggleError for what Kaggle left out while it took the rest, as the client does not."""
    refused = [f"{kind} {', '.join(names)}" for kind, names in invalid.items() if names]
    if refused:
        raise KaggleError(f"{what}: Kaggle refuses the {'; the '.join(refused)}{then}")


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a folder and of its `search_folders`: owner/slug -> version, url, content or pinned versions."""
    files = [place / RECORD for place in reversed(search_folders(folder))]
    return {ref: record for file in files if file.is_file() for ref, record in read_json(file).items()}


def _remember(folder: Path, ref: str, **record) -> None:
    file = folder.parent / RECORD
    with file_lock(file):
        write_json(file, (read_json(file) if file.is_file() else {}) | {ref: record})


def pin(folder: Path, ref: str) -> dict[str, int]:
    """Write versions into a kernel's data set sources: the last one pushed from here, for a source without a version or
    with one that an earlier push wrote. Returns them; versions written by hand stay.

    Raises ValueError where the local data set is no longer what was pushed: the kernel would read other input.
    """
    metadata, records, here = read_kernel_metadata(folder), _records(folder), find_datasets(folder)
    before, pinned, sources = records.get(ref, {}).get("pinned", {}), {}, []
    for text in metadata.get("dataset_sources") or []:
        source = Ref.parse(text)
        record, place = records.get(str(source.bare), {}), here.get(str(source.bare).lower())
        known = record.get("version")
        if known and source.version in (None, before.get(str(source.bare))):
            if place and record.get("content") != hash_content(place):
                raise ValueError(
                    f"kernel {ref} was not pushed: {place} has changed since it became {source.bare}/{known}. Push it "
                    "too, together with the kernel"
                )
            pinned[str(source.bare)] = known
            text = f"{source.bare}/{known}"
        sources.append(text)
    if sources != (metadata.get("dataset_sources") or []):
        write_json(folder / KERNEL_FILE, {**metadata, "dataset_sources": sources}, plain=True)
    _remember(folder, ref, **records.get(ref, {}) | {"pinned": pinned})  # also when Kaggle refuses the kernel now
    return pinned


def hash_content(folder: Path) -> str:
    """A hash of what a data set folder holds; where bundle.json or wheels.json has the hashes of the files, those."""
    digest = hashlib.sha256()
    listed = any((folder / name).is_file() for name in ("bundle.json", "wheels.json"))
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        if file.suffix == ".json" or not listed:
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
