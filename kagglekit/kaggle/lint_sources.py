"""What a kernel reads: whether it is attached, pinned, and there to look at; and whether its backbones are in it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kagglekit.competition.mounts import plain_name
from kagglekit.kaggle.bundle import BUNDLE_FILE, read_bundle
from kagglekit.kaggle.findings import Finding
from kagglekit.kaggle.keys import DATASET_FILE, KERNEL_FILE
from kagglekit.kaggle.metadata import Ref, read_object, shelves
from kagglekit.kaggle.wheels import MINILM, SLUG
from kagglekit.model.catalogue import SOURCES

NO_MODEL = {"", "tfidf", "soup"}  # values of backbone= that read none


def find_datasets(kernel: Path, sources: Mapping[str, str | Path]) -> dict[str, Path]:
    """owner/slug -> local folder of the data sets that can be looked at: those given, and those on its `shelves`."""
    places = [folder for shelf in reversed(shelves(kernel)) for folder in sorted(shelf.iterdir())]
    found = {_bare(name): folder for folder in places if (name := read_id(folder))}
    for source, folder in sources.items():
        kind, _, name = source.partition(":")
        found |= {_bare(name): Path(folder)} if kind == "dataset" else {}
    return found


def read_id(folder: Path) -> str:
    """The id of a data set folder; "" for another folder, and for metadata that cannot be read (lint says so)."""
    try:
        return str(read_object(folder / DATASET_FILE).get("id") or "")
    except (FileNotFoundError, ValueError):
        return ""


def lint_sources(kernel: Path, metadata: Mapping, sources: Mapping[str, str | Path]) -> Iterator[Finding]:
    """Findings about the sources of a kernel: their form, their versions, and data sets that are not here.

    A data set that is not here cannot be looked at, which is a warning: it may be on Kaggle, such as the wheels that
    kernels of several work folders share. It is an error for the kernel's own bundle (SLUG-inputs of the same owner)
    without a version, since `build` makes that beside the kernel, and an older one on Kaggle would be another's input.
    """
    where, here = f"{kernel.resolve().name}/{KERNEL_FILE}", find_datasets(kernel, sources)
    for key, least in (("dataset_sources", 1), ("kernel_sources", 5)):
        for text in _texts(metadata, key):
            try:
                ref = Ref.parse(text, key)
            except ValueError as error:
                yield Finding("error", where, key, str(error))
                continue
            if len(ref.slug) < least:
                yield Finding("error", where, key, f"{text}: the slug of a kernel has at least {least} characters")
            elif key == "kernel_sources" or _bare(text) not in here:
                yield from _missing(ref, key, where, str(metadata.get("id")))
            elif not here[_bare(text)].is_dir():
                yield Finding("error", where, key, f"{text}: {here[_bare(text)]} is no folder")
    for text in _texts(metadata, "model_sources"):
        parts = text.split("/")
        if len(parts) != 5 or not all(parts) or not parts[-1].isdigit():
            message = f"{text!r} must be owner/model/framework/variation/version, five parts, the last a number"
            yield Finding("error", where, "model_sources", message)
    for text in _texts(metadata, "competition_sources"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text):
            yield Finding("error", where, "competition_sources", f"{text!r} must be the slug alone, without a /")


def lint_backbones(kernel: Path, metadata: Mapping, backbones: set[str], sources: Mapping) -> Iterator[Finding]:
    """Findings about backbones that no attached source provides, for a kernel that cannot download them."""
    here, where = find_datasets(kernel, sources), f"{kernel.resolve().name}/{KERNEL_FILE}"
    attached = {_bare(text): here.get(_bare(text)) for text in _texts(metadata, "dataset_sources")}
    hidden = [name for name, folder in attached.items() if folder is None] + _texts(metadata, "kernel_sources")
    folders = [folder for folder in attached.values() if folder is not None]
    texts = _texts(metadata, "dataset_sources") + _texts(metadata, "model_sources")
    parts = {plain_name(part) for text in texts for part in text.split("/")}
    for name in sorted(backbones - NO_MODEL):
        if name.startswith("/kaggle/input/"):  # whoever writes that knows what is attached
            continue
        unknown = [ref for ref in hidden if name == "minilm" or not ref.endswith(f"/{SLUG}")]  # those hold no other
        if name == "minilm":
            found = any(any(folder.glob(f"{MINILM.replace('-', '_')}-*.whl")) for folder in folders)
            mend = f"build the wheels with {MINILM} (wheels --with {MINILM})"
        else:
            wanted = {plain_name(text.rsplit("/", 1)[-1]) for text in (name, SOURCES.get(name, name))}
            found = bool(wanted & parts) or any(_holds(folder, name) for folder in folders)
            mend = "attach it (build --model, --dataset), or name a local folder, which is packed"
        if not found and unknown:
            message = f"backbone={name!r} is in no source that can be looked at here; {', '.join(unknown)} may have it"
            yield Finding("warning", where, "model_sources", message)
        elif not found:
            message = f"backbone={name!r} is in no attached source, and the internet is off: {mend}"
            yield Finding("error", where, "model_sources", message)


def _missing(ref: Ref, key: str, where: str, kernel: str) -> Iterator[Finding]:
    own = f"{re.sub('-fold[0-9]+$', '', kernel)}-inputs"
    if key == "dataset_sources" and str(ref).lower() == own.lower():  # without a version
        message = f"{ref} is no folder beside the kernel: build it anew, or name a version that is on Kaggle"
        yield Finding("error", where, key, message)
    elif ref.version is None:
        more = ", and cannot be looked at here" if key == "dataset_sources" else ""
        message = f"{ref} has no version{more}: write {ref}/N, or the kernel reads whatever is newest when it runs"
        yield Finding("warning", where, key, message)
    elif key == "dataset_sources":
        yield Finding("warning", where, key, f"{ref} is not here, so it cannot be looked at")


def _holds(folder: Path, name: str) -> bool:
    """Whether a bundle puts a folder of this name into the kernel's folder."""
    if not (folder / BUNDLE_FILE).is_file():
        return False
    try:
        records = read_bundle(folder)["files"]
    except ValueError:  # said by the look at the data set
        return False
    return any(record["path"].startswith(f"{name.removeprefix('./').rstrip('/')}/") for record in records)


def _texts(metadata: Mapping, key: str) -> list[str]:
    value = metadata.get(key)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _bare(text: str) -> str:
    return "/".join(text.lower().split("/")[:2])
