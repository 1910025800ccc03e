"""kernel-metadata.json and dataset-metadata.json: written with every key, read with the address checked.

The keys are those of the client kaggle 2.2 (kaggle_api_extended.py: kernels_push, dataset_create_new). It checks types,
lengths and licences itself, ignores keys that it does not know, and turns the internet on where `enable_internet` is
absent (docs/kernels_metadata.md of the client says otherwise).
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kagglekit.files import read_json
from kagglekit.options import check_range

KERNEL_FILE, DATASET_FILE = "kernel-metadata.json", "dataset-metadata.json"
KERNEL_REQUIRED = ("id", "code_file", "language", "kernel_type")
DATASET_REQUIRED = ("id", "title", "licenses")
SOURCES = {kind: f"{kind}_sources" for kind in ("dataset", "competition", "kernel", "model")}
KERNEL_KEYS = {
    *KERNEL_REQUIRED, *SOURCES.values(), "id_no", "title", "is_private", "enable_gpu", "enable_tpu", "enable_internet",
    "machine_shape", "keywords", "docker_image_pinning_type", "docker_image",
}  # fmt: skip
DATASET_KEYS = {
    *DATASET_REQUIRED, "id_no", "subtitle", "description", "keywords", "resources",
    # written by `kaggle datasets metadata`, no part of an upload
    "isPrivate", "collaborators", "data", "expectedUpdateFrequency", "userSpecifiedSources", "image",
}  # fmt: skip
SHAPES = (  # values of machine_shape (NvidiaTeslaT4: two T4 of 15 GB); several are open only inside some competitions
    "NvidiaTeslaT4", "NvidiaTeslaT4Highmem", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100",
    "NvidiaRtxPro6000", "TpuV5E8", "TpuV6E8",
)  # fmt: skip
RETIRED = {  # retired machine_shape -> what Kaggle runs such a kernel on instead, without an error
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "a CPU",
    "TpuV2256": "a CPU",
}


@dataclass(frozen=True)
class Ref:
    """The address of a kernel or a data set: owner/slug, or owner/slug/version for a pinned version."""

    owner: str
    slug: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str, what: str = "ref") -> "Ref":
        """Read "owner/slug" or "owner/slug/3". what: how an error message calls the value."""
        match = re.fullmatch(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)(?:/([1-9][0-9]*))?", text)
        check_range(what, text, match is not None, "owner/slug or owner/slug/version, as in its address on kaggle.com")
        owner, slug, version = match.groups()
        return cls(owner, slug, int(version) if version else None)

    @property
    def bare(self) -> "Ref":
        """The same address without a version."""
        return replace(self, version=None)

    def __str__(self):
        return f"{self.owner}/{self.slug}" + (f"/{self.version}" if self.version else "")


def slugify(title: str) -> str:
    """The slug that Kaggle makes of a title: "BBC, fold 1: it's 1,000" -> "bbc-fold-1-it-s-1000".

    The rule of python-slugify, which the client uses. Letters outside the Latin alphabet are dropped here, while Kaggle
    transliterates them: use ASCII titles.
    """
    text = unicodedata.normalize("NFKD", html.unescape(title.replace("'", "-"))).encode("ascii", "ignore").decode()
    text = re.sub(r"(?<=\d),(?=\d)", "", text.lower().replace("'", ""))
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def same_title(slug: str) -> str:
    """A title that Kaggle turns into this slug: "kagglekit-wheels" -> "Kagglekit wheels"; 5 to 50 characters."""
    rule = "5 to 50 of the characters a-z, 0-9 and -, no - at an end, nor two in a row"
    check_range("slug", slug, slugify(slug) == slug and 5 <= len(slug) <= 50, rule)
    return slug.replace("-", " ").capitalize()


def kernel_metadata(
    ref: Ref | str,
    title: str,
    code_file: str,
    *,
    gpu: str = "NvidiaTeslaT4",
    internet: bool = False,
    competitions: Sequence[str] = (),
    datasets: Sequence[Ref | str] = (),
    kernels: Sequence[Ref | str] = (),
    models: Sequence[str] = (),
) -> dict:
    """The content of kernel-metadata.json for a private Python notebook: every key, so that no default counts.

    title: "" makes one from the slug. gpu: one of SHAPES, also a TPU; "": a CPU. models:
    owner/model/framework/variation/version. The image stays the one that the kernel first ran on ("original").
    """
    rule = f"a machine that Kaggle still has, such as {', '.join(SHAPES)}, or '' for a CPU"
    check_range("gpu", gpu, gpu not in RETIRED, rule)
    tpu = gpu.startswith("Tpu")
    return {
        "id": str(ref),
        "title": title or same_title(Ref.parse(str(ref)).slug),
        "code_file": code_file,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": bool(gpu) and not tpu,
        "enable_tpu": tpu,
        "enable_internet": internet,
        "machine_shape": gpu or None,
        "dataset_sources": [str(source) for source in datasets],
        "competition_sources": list(competitions),
        "kernel_sources": [str(source) for source in kernels],
        "model_sources": list(models),
        "keywords": [],
        "docker_image_pinning_type": "original",
        "docker_image": None,
    }


def dataset_metadata(ref: Ref | str, title: str = "", **more) -> dict:
    """The content of dataset-metadata.json. title: "" makes one from the slug. more: subtitle (20 to 80 characters),
    description and so on."""
    title = title or same_title(Ref.parse(str(ref)).slug)
    return {"id": str(ref), "title": title, **more, "licenses": [{"name": "other"}], "keywords": []}


def is_on(metadata: Mapping, key: str) -> bool:
    """Whether a switch is on as the client reads it: true, "true" and "True"; some switches are on when absent."""
    return str(metadata.get(key, key in ("enable_internet", "is_private"))).lower() == "true"


def read_kernel_metadata(folder: str | Path) -> dict:
    """The metadata of a kernel folder. Raises FileNotFoundError or ValueError that name the file and the key."""
    return _read(Path(folder) / KERNEL_FILE, KERNEL_REQUIRED)


def read_dataset_metadata(folder: str | Path) -> dict:
    """The metadata of a data set folder. Raises FileNotFoundError or ValueError that name the file and the key."""
    return _read(Path(folder) / DATASET_FILE, DATASET_REQUIRED)


def read_object(file: Path) -> dict:
    """The JSON object in a file. Raises FileNotFoundError without the file, ValueError when it holds something else."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: `python -m kagglekit.kaggle build` writes it")
    value = read_json(file, Any)
    if not isinstance(value, dict):
        raise ValueError(f"{file} holds a {type(value).__name__}: it must be an object, {{...}}")
    return value


def wrong_values(metadata: Mapping, required: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(key, message) for what kagglekit itself cannot work with; the client checks the rest when it pushes."""
    for key in required:
        if metadata.get(key) in (None, ""):
            yield key, f"{key} is missing"
    for key in SOURCES.values():
        value = metadata.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
            yield key, f"{key}={value!r} must be a list of addresses"
    if metadata.get("id"):
        try:
            Ref.parse(str(metadata["id"]), "id")
        except ValueError as error:
            yield "id", str(error)


def _read(file: Path, required: Sequence[str]) -> dict:
    metadata = read_object(file)
    for _, message in wrong_values(metadata, required):
        raise ValueError(f"{file}: {message}")
    return metadata


def search_folders(folder: str | Path) -> list[Path]:
    """The folders in which the data sets of a kernel folder are looked for, nearest first: the folder around it, and
    `kaggle/` beside its work folder, where `wheels` puts the library for the kernels of all work folders."""
    around = Path(folder).resolve().parent
    return [place for place in dict.fromkeys([around, around.parent.parent / "kaggle"]) if place.is_dir()]


def find_datasets(kernel: Path, given: Mapping[str, str | Path] = {}) -> dict[str, Path]:
    """The data set folders that can be looked at here, owner/slug -> folder: those `given` as "dataset:owner/slug" ->
    folder, then those in the `search_folders` of a kernel. Raises ValueError for two neighbours with the same id."""
    found = {}
    for place in reversed(search_folders(kernel)):
        here = {}
        for folder in sorted(place.iterdir()):
            if name := bare(read_id(folder)):
                if name in here:
                    raise ValueError(f"{here[name]} and {folder} have the same id: {name}. Delete one of them")
                here[name] = folder
        found |= here
    sources = ((source.partition(":"), folder) for source, folder in given.items())
    return found | {bare(name): Path(folder) for (kind, _, name), folder in sources if kind == "dataset"}


def read_id(folder: Path) -> str:
    """The id of a data set folder; "" for another folder, and for metadata that cannot be read."""
    try:
        return str(read_object(folder / DATASET_FILE).get("id") or "")
    except (FileNotFoundError, ValueError):
        return ""


def bare(ref: str) -> str:
    """An address without its version, in lower case, as Kaggle compares them."""
    return "/".join(ref.lower().split("/")[:2])
