"""Inputs that Kaggle mounts below a notebook: competitions, data sets and models, found with a bounded search.

Layout since 2026: competitions/SLUG, datasets/OWNER/SLUG, notebooks/OWNER/SLUG,
models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION; before: SLUG. Archives are often unpacked into one more folder.
"""

import os
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from glob import escape
from itertools import islice
from pathlib import Path

from kagglekit.files import read_json

DEPTH = 8  # models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION, and two folders in it
ENTRIES = 1000  # a folder with more holds data, and is not searched
FOLDERS = 5000  # folders in one search, nearest first: a minute where each takes 10 ms
LINES, LEVELS, SHOWN = 40, 5, 6  # of the tree that is shown: lines, levels, and names in a folder
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*")


def mount_root(root: Path | None = None) -> Path:
    """The folder of inputs: `root`, or the variable KAGGLEKIT_INPUTS, or /kaggle/input."""
    return Path(root or os.environ.get("KAGGLEKIT_INPUTS") or "/kaggle/input")


def folders_below(folder: Path, depth: int = DEPTH, skipped: Path | None = None) -> Iterator[Path]:
    """The folders at most `depth` levels below `folder`, nearest first, then by name.

    Left out are hidden ones, `skipped`, and those below a folder with more than 1000 entries; the search ends after
    5000 folders.
    """
    waiting, seen = deque([(folder, 0)]), 0
    while waiting and seen < FOLDERS:
        folder, level = waiting.popleft()
        if level:
            yield folder
        if level < depth:
            seen += 1
            waiting += [(Path(path), level + 1) for path in _folders(folder) if Path(path) != skipped]


def is_below(folder: Path, name: str) -> bool:
    """Whether a file lies there: by its path from `folder`, or by its name alone, also without its ending, in any
    folder below."""
    found = () if "/" in name else folder.rglob(f"{escape(name)}*")
    return (folder / name).is_file() or any(name in (one.name, one.stem) for one in found)


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            some = list(islice(entries, ENTRIES + 1))
    except OSError:  # missing, or not readable
        return []
    if len(some) > ENTRIES:
        return []
    return sorted(entry.path for entry in some if entry.is_dir() and not entry.name.startswith("."))


def competition_folders(slug: str, root: Path | None = None) -> list[Path]:
    """The folders where a competition of this slug is mounted: competitions/SLUG and SLUG, those that exist."""
    root = mount_root(root)
    return [folder for folder in (root / "competitions" / slug, root / slug) if slug and folder.is_dir()]


def find_competition(slug: str, files: Sequence[str] = (), root: Path | None = None) -> Path:
    """The folder of a competition's files among the inputs.

    slug: as in the competition's URL; empty: any folder with the files. files: names that must all be there.
    competitions/SLUG and SLUG come first, then folders in these, then any other folder with all the files. Raises
    FileNotFoundError with a tree of the inputs when there is none, or when several fit equally well.
    """
    root = mount_root(root)
    for first in competition_folders(slug, root):
        for folder in (first, *folders_below(first)):
            if _holds(folder, files):
                return folder
    found = [folder for folder in folders_below(root) if files and _holds(folder, files)]
    found = [folder for folder in found if slug in folder.relative_to(root).parts] or found
    if len(found) == 1:
        return found[0]
    what = f"the competition {slug!r}" if slug else "the competition's files"
    wanted = f" with {', '.join(files)}" if files else ""
    if found:
        places = ", ".join(map(str, found[:5]))
        raise FileNotFoundError(
            f"{what}{wanted} could be {len(found)} of the inputs: {places}. Attach one of them, or name the "
            f"competition as in its URL\n{show_inputs(root)}"
        )
    places = f"at {root / 'competitions' / slug} and {root / slug}, and " if slug else ""
    raise FileNotFoundError(
        f"{what}{wanted} is not among the inputs: looked {places}in the folders below {root}. Attach the "
        f"competition (competition_sources in kernel-metadata.json), and join it with your account\n{show_inputs(root)}"
    )


def _holds(folder: Path, files: Sequence[str]) -> bool:
    return all((folder / name).exists() for name in files)


def find_marked(name: str, root: Path | None = None) -> list[Path]:
    """The files of a name among the inputs, such as bundle.json, nearest first, then by path; there may be none.
    competitions/ is left out: it may be vast, and holds no such file."""
    root = mount_root(root)
    below = folders_below(root, skipped=root / "competitions")
    return [folder / name for folder in (root, *below) if (folder / name).is_file()]


def show_inputs(root: Path | None = None) -> str:
    """The inputs as a tree of at most 40 lines: folders of five levels, and the names of some files in each."""
    root = mount_root(root)
    if not root.is_dir():
        return f"there are no inputs: {root} does not exist"
    lines = list(islice(_tree(root, 1), LINES + 1))
    if not lines:
        return f"{root} is empty: nothing is attached, or not yet (run the kernel again then)"
    return "\n".join([f"{root} holds:", *lines[:LINES], *(["  ..."] if len(lines) > LINES else [])])


def _tree(folder: Path, level: int) -> Iterator[str]:
    """A line for the files of a folder, and one for each folder in it, followed by its own lines."""
    try:
        with os.scandir(folder) as entries:
            some = sorted(islice(entries, ENTRIES + 1), key=lambda entry: entry.name)
    except OSError:
        return
    files, folders = [e.name for e in some if not e.is_dir()], [e for e in some if e.is_dir()]
    if files:
        count = f"more than {ENTRIES}" if len(some) > ENTRIES else len(files)
        shown = ", ".join(files[:SHOWN]) + (", ..." if len(files) > SHOWN else "")
        yield f"{'  ' * level}{count} file{'' if count == 1 else 's'}: {shown}"
    for entry in folders[:SHOWN]:
        yield f"{'  ' * level}{entry.name}/"
        if level < LEVELS:
            yield from _tree(Path(entry.path), level + 1)
    if len(folders) > SHOWN:
        yield f"{'  ' * level}... and {len(folders) - SHOWN} folders more"


def has_weights(folder: Path) -> bool:
    """Whether a folder holds the weights of a model."""
    return any(file for pattern in WEIGHTS for file in folder.glob(pattern))


def why_no_model(path: Path) -> str:
    """Why transformers cannot load a model from a path, in words that follow it; "" where nothing is seen."""
    packed = path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.gguf")))
    index = path / "model.safetensors.index.json"
    if packed and not has_weights(path):
        return "is a GGUF file, whose weights are packed: name a folder with those that it was made of"
    if not path.is_dir():
        return "is no folder"
    if (path / "adapter_config.json").is_file():
        return (
            "has adapters that peft saved, and no model: merge them (its merge_and_unload, then save_pretrained) and "
            "name that folder, or name their backbone and set tuning='lora'"
        )
    if not (path / "config.json").is_file():
        return "has no config.json: it is not the folder of a transformers model"
    if not has_weights(path):
        return "has no weights (model.safetensors or pytorch_model.bin)"
    parts = set(read_json(index).get("weight_map", {}).values()) if index.is_file() else ()
    lost = [name for name in sorted(parts) if not (path / name).is_file()]
    return f"lacks {lost[0]}, which its {index.name} lists: fetch it again" if lost else ""


def find_mounted(names: Collection[str], root: Path | None = None) -> Path | None:
    """The folder of a model among the inputs, None when there is none of any of `names`.

    Of a name only the last part counts ("deberta-v3-base" of "microsoft/deberta-v3-base"); case and separators are
    ignored, as Kaggle changes both. A folder of that name with config.json and weights comes first, then one below a
    folder of that name: `deberta-v3-base/`, `datasets/OWNER/deberta-v3-base/model/`,
    `models/OWNER/deberta-v3-base/transformers/default/1/`. Raises ValueError when several fit equally well.
    """
    root, wanted = mount_root(root), {plain_name(name.rsplit("/", 1)[-1]) for name in names}
    found = [folder for folder in model_folders(root) if wanted & set(map(plain_name, folder.relative_to(root).parts))]
    best = [folder for folder in found if plain_name(folder.name) in wanted] or found
    if len(best) > 1:
        shown = ", ".join(str(folder) for folder in best[:5])
        raise ValueError(f"backbone={min(names, key=len)!r} is {len(best)} of the inputs: {shown}. Give one folder")
    return best[0] if best else None


def model_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders with config.json and weights at most `depth` levels below `folder`, nearest first."""
    for below in folders_below(folder, depth):
        if (below / "config.json").is_file() and has_weights(below):
            yield below


def plain_name(name: str) -> str:
    """A name in lower case, words joined by "-": equal for names that differ only as Kaggle changes them."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
