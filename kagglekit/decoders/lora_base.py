"""The backbone that a saved model stands on: named with the hash of its weights, not copied for every fold.

A model whose backbone is frozen saves what was trained: adapters, pooling and head, megabytes in place of gigabytes.
Its `base.json` says which backbone they belong to, and a model is loaded only with weights of the same hash.
"""

from __future__ import annotations  # torch takes seconds to import: kernels are packed without it

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kagglekit.files import hash_files, read_json, write_json

if TYPE_CHECKING:
    from torch import nn

BASE = "base.json"
LACKING = (FileNotFoundError, OSError, ValueError)  # why a backbone is not found
Found = TypeVar("Found")


def weight_files(folder: Path) -> list[Path]:
    """The files of a backbone with its weights: safetensors, and only where there are none older kinds."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def hash_weights(folder: Path) -> str:
    """The hash of a backbone's weights; that of a folder is taken once, about 1 s a GB."""
    return _hash(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in weight_files(folder)))


@lru_cache
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    return hash_files(file for file, *_ in files)


def describe_base(folder: Path, name: str) -> dict[str, Any]:
    """What `base.json` says of a backbone. name: as it was asked for, on any machine."""
    size = sum(file.stat().st_size for file in weight_files(folder))
    return {"backbone": name, "folder": str(folder), "hash": hash_weights(folder), "bytes": size}


def write_base(folder: Path, base: dict[str, Any]) -> None:
    """Write `base.json` to the folder of a model; it is not sealed, as a kernel has the backbone at another place."""
    write_json(folder / BASE, base)


def read_base(folder: Path) -> dict[str, Any] | None:
    """What `base.json` of a model's folder says; None: the folder has all weights."""
    return read_json(folder / BASE) if (folder / BASE).is_file() else None


def base_names(folder: Path, base: dict[str, Any]) -> Iterator[str]:
    """Where the backbone of a model may be: as its run names it, as it was named in training, and its folder."""
    run = next((place for place in folder.parents if (place / "params.json").is_file()), None)
    theirs = read_json(run / "params.json").get("recipe", {}).get("backbone", "") if run else ""
    yield from dict.fromkeys(filter(None, [theirs, base["backbone"], base["folder"]]))


def find_base(
    folder: Path, base: dict[str, Any], find: Callable[[str], Found], place: Callable[[Found], Path]
) -> Found:
    """The backbone of a model, with weights of the same hash.

    find: of a name, what is loaded. place: its folder.
    Raises FileNotFoundError that says which backbone is missing, and what was looked at.
    """
    tried = []
    for name in base_names(folder, base):
        try:
            found = find(name)
            there = place(found)
        except LACKING as error:
            tried.append(f"{name} ({str(error).splitlines()[0].rstrip('.')})")
            continue
        if not there.is_dir() or not weight_files(there):
            tried.append(f"{name} (no folder with weights)")
        elif (found_hash := hash_weights(there)) != base["hash"]:
            tried.append(f"{name} ({there} has other weights, {found_hash})")
        else:
            return found
    raise FileNotFoundError(
        f"{folder} has adapters or a head for the backbone {base['backbone']!r} (weights {base['hash']}, "
        f"{base['bytes'] / 1e6:,.0f} MB), which is not here. Tried: {'; '.join(tried)}. Put that backbone where one of "
        f"these names finds it, or say its folder in {folder / BASE} under folder"
    )


def trained_state(model: nn.Module, backbone: nn.Module) -> dict[str, Any]:
    """The tensors of a model without the frozen ones of its backbone: what is saved beside `base.json`."""
    frozen = {id(one) for one in backbone.parameters() if not one.requires_grad}
    ours = dict(model.named_parameters(remove_duplicate=False))
    return {name: x for name, x in model.state_dict().items() if id(ours.get(name)) not in frozen}


def load_trained(model: nn.Module, backbone: nn.Module, state: dict[str, Any]) -> None:
    """Load what `trained_state` gave into a model whose backbone is frozen in the same parts.

    Raises ValueError where one of them has a weight that the other lacks.
    """
    lacking, more = model.load_state_dict(state, strict=False)
    ours = dict(model.named_parameters(remove_duplicate=False))
    frozen = {id(one) for one in backbone.parameters() if not one.requires_grad}
    if wrong := [*more, *(name for name in lacking if id(ours.get(name)) not in frozen)]:
        raise ValueError(f"the saved weights are of another model: {wrong[0]} is in one of them alone")
