"""A look at a kernel folder: its metadata, and by way of others its notebook and what it reads."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from kagglekit.kaggle.findings import Finding
from kagglekit.kaggle.keys import ABSENT, KERNEL_FILE, KERNEL_KEYS, KERNEL_REQUIRED, RETIRED, SHAPES
from kagglekit.kaggle.lint_notebook import find_backbones, lint_notebook, lint_text
from kagglekit.kaggle.lint_sources import lint_backbones, lint_sources
from kagglekit.kaggle.metadata import Ref, read_object, slugify, wrong_values
from kagglekit.running.parameters import did_you_mean


def lint_kernel(folder: Path, sources: Mapping[str, str | Path]) -> list[Finding]:
    """The findings about a kernel folder. Raises ValueError when its metadata is not JSON."""
    file = folder / KERNEL_FILE
    metadata, where = read_object(file), f"{folder.resolve().name}/{KERNEL_FILE}"
    internet = is_on(metadata, "enable_internet", absent=True)
    findings = [
        *(Finding("error", where, key, message) for key, message in unknown_keys(metadata, KERNEL_KEYS)),
        *(
            Finding("error", where, key, message)
            for key, message in wrong_values(metadata, KERNEL_KEYS, KERNEL_REQUIRED)
        ),
        *(Finding(*told[:1], where, *told[1:]) for told in _look(metadata, internet)),
        *lint_text(file.read_text(encoding="utf-8"), where),
        *lint_sources(folder, metadata, sources),
    ]
    code = metadata.get("code_file")
    if isinstance(code, str) and code:
        notebook = metadata.get("kernel_type") == "notebook"
        findings += lint_notebook(folder / code, internet=internet, notebook=notebook)
        if notebook and not internet:
            findings += lint_backbones(folder, metadata, find_backbones(folder / code), sources)
    return findings


def unknown_keys(metadata: Mapping, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The keys that Kaggle's client passes over in silence, (key, message)."""
    for key in metadata:
        if key not in known:
            meant = did_you_mean(key, known)
            more = ", so the internet is ON" if "enable_internet" in meant and "enable_internet" not in metadata else ""
            yield key, f"Kaggle knows no such key and takes no notice of it{more}{meant}"


def is_on(metadata: Mapping, key: str, absent: bool = False) -> bool:
    """A switch as the client reads it: true, "true" and "True" are on."""
    return str(metadata.get(key, absent)).lower() == "true"


def name_rules(metadata: Mapping, least: int) -> Iterator[tuple[str, str]]:
    """What Kaggle does not take in an id and a title, (key, message). least: characters of both; 50 is the most."""
    title, text = metadata.get("title"), metadata.get("id")
    if isinstance(title, str) and title and not least <= len(title) <= 50:
        yield "title", f"{title!r} has {len(title)} characters: Kaggle takes {least} to 50"
    if not isinstance(text, str):
        return
    try:
        ref = Ref.parse(text)
    except ValueError:  # said by `wrong_values`
        return
    if ref.version:
        yield "id", f"{text} has a version: write {ref.bare}, since a push makes a new one"
    if not least <= len(ref.slug) <= 50:
        yield "id", f"the slug {ref.slug!r} has {len(ref.slug)} characters: Kaggle takes {least} to 50"
    if slugify(ref.slug) != ref.slug:
        yield "id", f"{ref.slug!r} is no slug: write {ref.owner}/{slugify(ref.slug)}"


def _look(metadata: Mapping, internet: bool) -> Iterator[tuple[str, str, str]]:
    """(level, key, message) of what the values say, each by itself and together."""
    for key, taken in ABSENT.items():
        if key not in metadata:
            level = "error" if key == "enable_internet" else "warning"
            yield level, key, f"is not told, which Kaggle reads as {taken}: write it down"
    for key, message in name_rules(metadata, least=5):
        yield "error", key, message
    title, slug = metadata.get("title"), "".join(str(metadata.get("id")).split("/")[1:2])
    if isinstance(title, str) and title and slugify(title) != slug and "id" in metadata:
        yield "error", "title", f"Kaggle makes {slugify(title)!r} of {title!r}, and the id says {slug!r}: change one"
    if internet and metadata.get("competition_sources"):
        yield "warning", "enable_internet", "is on: a code competition takes no submission of such a kernel"
    if not is_on(metadata, "is_private", absent=True):
        yield "warning", "is_private", "is false: everybody will see this kernel and what it makes"
    yield from _look_at_machine(metadata)


def _look_at_machine(metadata: Mapping) -> Iterator[tuple[str, str, str]]:
    gpu, tpu = is_on(metadata, "enable_gpu"), is_on(metadata, "enable_tpu")
    shape = metadata.get("machine_shape") or ""
    if not isinstance(shape, str):  # said by `wrong_values`
        return
    if shape in RETIRED:
        yield "error", "machine_shape", f"{shape} is no more, Kaggle runs the kernel on {RETIRED[shape]}: name another"
    elif shape and shape not in SHAPES:
        more = did_you_mean(shape, SHAPES) or f"; those known are {', '.join(SHAPES)}"
        yield (
            "warning",
            "machine_shape",
            f"{shape!r} is not known here, and Kaggle's client sends whatever it says{more}",
        )
    if gpu and tpu:
        yield "error", "enable_tpu", "is on together with enable_gpu: a kernel has one of them"
    elif (gpu or tpu) and not shape:
        key = "enable_gpu" if gpu else "enable_tpu"
        message = "names no machine, so Kaggle picks one"
        yield "error", "machine_shape", f"{message}, and {key} is on: write NvidiaTeslaT4 or another"
    elif shape and (gpu, tpu) != (not shape.startswith("Tpu"), shape.startswith("Tpu")):
        message = f"is {shape}, and enable_gpu is {str(gpu).lower()}, enable_tpu {str(tpu).lower()}: let them agree"
        yield "error", "machine_shape", message
