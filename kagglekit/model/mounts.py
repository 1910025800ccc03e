"""Models among the inputs that Kaggle mounts below a notebook."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from kagglekit.mounts import DEPTH, folders_below, mount_root

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*")


def has_weights(folder: Path) -> bool:
    """Whether a folder holds the weights of a model."""
    return any(file for pattern in WEIGHTS for file in folder.glob(pattern))


def find_mounted(names: Collection[str], root: Path | None = None) -> Path | None:
    """The folder of a model among the inputs, None when there is none of any of `names`.

    Of a name only the last part counts ("deberta-v3-base" of "microsoft/deberta-v3-base"), and not its case nor what
    stands between its words, both of which Kaggle changes. A folder of that name with config.json and weights comes
    first, then one somewhere below a folder of that name: `deberta-v3-base/`, `datasets/OWNER/deberta-v3-base/model/`,
    `models/OWNER/deberta-v3-base/transformers/default/1/`.
    Raises ValueError when several fit equally well.
    """
    root, wanted = mount_root(root), {plain_name(name.rsplit("/", 1)[-1]) for name in names}
    found = [folder for folder in model_folders(root) if wanted & set(map(plain_name, folder.relative_to(root).parts))]
    best = [folder for folder in found if plain_name(folder.name) in wanted] or found
    if len(best) > 1:
        shown = ", ".join(str(folder) for folder in best[:5])
        raise ValueError(f"backbone={min(names, key=len)!r} is {len(best)} of the inputs: {shown}. Give one folder")
    return best[0] if best else None


def model_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders with config.json and weights at most `depth` levels below `folder`, near ones first."""
    for below in folders_below(folder, depth):
        if (below / "config.json").is_file() and has_weights(below):
            yield below


def plain_name(name: str) -> str:
    """A name without what Kaggle changes of it: case, and what stands between its words."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
