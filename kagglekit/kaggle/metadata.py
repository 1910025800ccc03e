"""The files that tell Kaggle what a kernel and a data set are: written with every key, read with every type checked."""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kagglekit.files import read_json
from kagglekit.kaggle.keys import (
    DATASET_FILE,
    DATASET_KEYS,
    DATASET_REQUIRED,
    KERNEL_FILE,
    KERNEL_KEYS,
    KERNEL_REQUIRED,
)
from kagglekit.kaggle.keys import RETIRED as RETIRED
from kagglekit.kaggle.keys import SHAPES as SHAPES
from kagglekit.options import accepts, check_range


@dataclass(frozen=True)
class Ref:
    """The address of a kernel or a data set: owner/slug, with /version one state of it, without the newest."""

    owner: str
    slug: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str, what: str = "ref") -> "Ref":
        """The address that `text` writes, "owner/slug" or "owner/slug/3". what: what an error calls it."""
        match = re.fullmatch(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)(?:/([1-9][0-9]*))?", text)
        check_range(what, text, match is not None, "owner/slug or owner/slug/version, as in its address on kaggle.com")
        owner, slug, version = match.groups()
        return cls(owner, slug, int(version) if version else None)

    @property
    def bare(self) -> "Ref":
        """The same without a version."""
        return replace(self, version=None)

    def __str__(self):
        return f"{self.owner}/{self.slug}" + (f"/{self.version}" if self.version else "")


def slugify(title: str) -> str:
    """The slug that Kaggle makes of a title: "BBC, fold 1: it's 1,000" -> "bbc-fold-1-it-s-1000".

    The rule of python-slugify, which the client uses. Letters that are no Latin ones fall away, where Kaggle writes
    them in Latin letters: keep to titles in ASCII.
    """
    text = unicodedata.normalize("NFKD", html.unescape(title.replace("'", "-"))).encode("ascii", "ignore").decode()
    text = re.sub(r"(?<=\d),(?=\d)", "", text.lower().replace("'", ""))
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def same_title(slug: str) -> str:
    """A title that Kaggle makes this slug of: "kagglekit-wheels" -> "Kagglekit wheels"; 5 to 50 characters."""
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
    private: bool = True,
    competitions: Sequence[str] = (),
    datasets: Sequence[Ref | str] = (),
    kernels: Sequence[Ref | str] = (),
    models: Sequence[str] = (),
    keywords: Sequence[str] = (),
    pinning: str = "original",
) -> dict:
    """What kernel-metadata.json says of a notebook in Python, every key of it, so that no default of Kaggle's counts.

    title: "": one made of the slug. gpu: one of SHAPES, also a TPU; "": a CPU (machine_shape is null then, which the
    client does not send). models: owner/model/framework/variation/version. pinning: "original" keeps to the image that
    the kernel first ran on, "latest" follows Kaggle's.
    """
    rule = f"a machine that Kaggle still has, such as {', '.join(SHAPES)}, or '' for a CPU"
    check_range("gpu", gpu, gpu not in RETIRED, rule)
    tpu = gpu.startswith("Tpu")
    metadata = {
        "id": str(ref),
        "title": title or same_title(Ref.parse(str(ref)).slug),
        "code_file": code_file,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": private,
        "enable_gpu": bool(gpu) and not tpu,
        "enable_tpu": tpu,
        "enable_internet": internet,
        "machine_shape": gpu or None,
        "dataset_sources": [str(source) for source in datasets],
        "competition_sources": list(competitions),
        "kernel_sources": [str(source) for source in kernels],
        "model_sources": list(models),
        "keywords": list(keywords),
        "docker_image_pinning_type": pinning,
        "docker_image": None,
    }
    return _checked(metadata, KERNEL_FILE, KERNEL_KEYS, KERNEL_REQUIRED)


def dataset_metadata(ref: Ref | str, title: str = "", subtitle: str = "", license: str = "other", **told) -> dict:
    """What dataset-metadata.json says of a data set. subtitle: 20 to 80 characters, or none. told: description, ..."""
    metadata = {"id": str(ref), "title": title or same_title(Ref.parse(str(ref)).slug)}
    metadata |= {"subtitle": subtitle} if subtitle else {}
    return _checked(
        {**metadata, "licenses": [{"name": license}], "keywords": [], **told},
        DATASET_FILE,
        DATASET_KEYS,
        DATASET_REQUIRED,
    )


def shelves(folder: str | Path) -> list[Path]:
    """The folders in which what a kernel or data set folder goes with may lie: that around it, and `kaggle/` beside its
    work folder, where `wheels` puts the library for the kernels of all work folders."""
    around = Path(folder).resolve().parent
    return [place for place in dict.fromkeys([around, around.parent.parent / "kaggle"]) if place.is_dir()]


def read_kernel_metadata(folder: str | Path) -> dict:
    """The metadata of a kernel folder. Raises FileNotFoundError or ValueError that name the file and the key."""
    return _checked(read_object(Path(folder) / KERNEL_FILE), Path(folder) / KERNEL_FILE, KERNEL_KEYS, KERNEL_REQUIRED)


def read_dataset_metadata(folder: str | Path) -> dict:
    """The metadata of a data set folder. Raises FileNotFoundError or ValueError that name the file and the key."""
    file = Path(folder) / DATASET_FILE
    return _checked(read_object(file), file, DATASET_KEYS, DATASET_REQUIRED)


def read_object(file: Path) -> dict:
    """The JSON object in a file. Raises FileNotFoundError without the file, ValueError when it holds something else."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not there: a folder to push has one, see `python -m kagglekit.kaggle build`"
        )
    try:
        value = read_json(file)
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file} holds a {type(value).__name__}: it must be an object, {{...}}")
    return value


def wrong_values(metadata: Mapping, keys: Mapping[str, str], required: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the values, (key, message): a required one that is missing, a type, a reference's form."""
    for key in required:
        if metadata.get(key) in (None, ""):
            yield key, f"{key} is missing"
    for key, kind in keys.items():
        if key in metadata and not accepts(kind, metadata[key]) and (key not in required or metadata[key]):
            yield key, f"{key}={metadata[key]!r} is not allowed: it takes {kind.replace('Literal', 'one of ')}"
    if isinstance(metadata.get("id"), str) and metadata["id"]:
        try:
            Ref.parse(metadata["id"], "id")
        except ValueError as error:
            yield "id", str(error)


def _checked(metadata: dict, where: str | Path, keys: Mapping[str, str], required: Sequence[str]) -> dict:
    for _, message in wrong_values(metadata, keys, required):
        raise ValueError(f"{where}: {message}")
    return metadata
