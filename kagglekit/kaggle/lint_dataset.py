"""A look at a data set folder: its metadata, and whether its files are those that were written down."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from kagglekit.kaggle.bundle import BUNDLE_FILE, differs, is_unpacked, read_bundle
from kagglekit.kaggle.findings import Finding
from kagglekit.kaggle.keys import DATASET_FILE, DATASET_KEYS, DATASET_REQUIRED
from kagglekit.kaggle.lint_kernel import name_rules, unknown_keys
from kagglekit.kaggle.metadata import read_object, wrong_values
from kagglekit.kaggle.secrets import find_known, find_secrets
from kagglekit.kaggle.wheels import MANIFEST
from kagglekit.options import accepts

IGNORED = {".git", ".cache", ".huggingface"}  # never sent by Kaggle's client
TOLD = (".json", ".txt", ".md", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".py", ".ipynb", ".env", ".log")
LARGE = 50_000_000  # bytes of a file that is not read in search of credentials
OWN = {DATASET_FILE, BUNDLE_FILE, MANIFEST}


def lint_dataset(folder: Path) -> list[Finding]:
    """The findings about a data set folder. Raises ValueError when its metadata is not JSON."""
    metadata, name = read_object(folder / DATASET_FILE), folder.resolve().name
    where = f"{name}/{DATASET_FILE}"
    told = [*unknown_keys(metadata, DATASET_KEYS), *wrong_values(metadata, DATASET_KEYS, DATASET_REQUIRED)]
    findings = [Finding("error", where, *one) for one in [*told, *name_rules(metadata, least=6), *_look(metadata)]]
    files = sorted(path for path in folder.iterdir() if path.name not in IGNORED)
    manifests = [file for file in (BUNDLE_FILE, MANIFEST) if (folder / file).is_file()]
    for path in files:
        findings += [Finding(*one[:1], f"{name}/{path.name}", "", *one[1:]) for one in _look_at(path, bool(manifests))]
    for manifest in manifests:
        findings += [Finding(*one[:1], f"{name}/{manifest}", "", *one[1:]) for one in _compare(folder, manifest)]
    if not any(path.is_file() and path.name not in OWN for path in files):
        findings.append(Finding("error", name, "", "has no file, and Kaggle takes no empty data set"))
    return findings


def _look(metadata: Mapping) -> Iterator[tuple[str, str]]:
    subtitle, licenses = metadata.get("subtitle"), metadata.get("licenses")
    if isinstance(subtitle, str) and subtitle and not 20 <= len(subtitle) <= 80:
        yield "subtitle", f"{subtitle!r} has {len(subtitle)} characters: Kaggle takes 20 to 80, or none"
    if isinstance(licenses, list) and licenses and (len(licenses) > 1 or not _has_name(licenses[0])):
        yield "licenses", f'{licenses!r} must be exactly one, such as [{{"name": "other"}}]'


def _has_name(license) -> bool:
    return isinstance(license, dict) and bool(license.get("name"))


def _look_at(path: Path, listed: bool) -> Iterator[tuple[str, str]]:
    """(level, message) about one entry of the folder. listed: whether a manifest names the files by their names."""
    if path.is_dir():
        yield (
            "error",
            "is a folder, and Kaggle's client passes over those: put its files beside the others, or pack them",
        )
        return
    if not path.is_file():
        yield "error", "is a link to nothing"
        return
    if not path.stat().st_size:
        yield "warning", "is empty, and the client does not say the size of such a file: Kaggle may not take it"
    if is_unpacked(path.name):
        level = "error" if listed else "warning"
        yield level, f"will be unpacked by Kaggle, so that a kernel finds no {path.name}: call it {path.name}.bin"
    for kind in dict.fromkeys(_secrets_in(path)):
        yield "error", f"holds {kind}: take it out, and make a new one if it was ever pushed"


def _secrets_in(path: Path) -> Iterator[str]:
    """Kinds of credentials in a file: this user's in any, also inside a wheel; those known by their form in settings.

    Training texts may hold what looks like a key, and are not searched for that.
    """
    if path.stat().st_size > LARGE:
        return
    content = path.read_bytes()
    yield from find_known(content)
    if path.name.lower().endswith(TOLD):
        yield from find_secrets(content.decode("utf-8", errors="replace"))
    if path.suffix == ".whl" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.infolist():
                if member.filename.lower().endswith(TOLD) and member.file_size < LARGE:
                    yield from (f"{kind} ({member.filename})" for kind in find_known(wheel.read(member)))


def _compare(folder: Path, manifest: str) -> Iterator[tuple[str, str]]:
    """(level, message) where the files are not those that bundle.json or wheels.json wrote down."""
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
            yield "error", f"{problem}: make the data set anew"
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in OWN | set(records) and not path.name.startswith("."):
            yield "warning", f"{path.name} is not in it, and goes along"
