"""Arrays and tensors in files (npz, safetensors): read as they were written, or named as damaged; models likewise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kagglekit.files.reading import CHANGED, Damaged, checksum_file, checksum_files, read_json, reading, write_json
from kagglekit.files.writing import replacing

if TYPE_CHECKING:  # it takes a second to import
    import torch

SEAL = "checksums.json"  # in the folder of a model
WEIGHTS = (".safetensors", ".bin")


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, which has a checksum of each. Raises Damaged as `read_json` does."""
    with reading(path), np.load(path) as arrays:
        return dict(arrays)


def cached_arrays(path: Path, make: Callable[[], dict[str, np.ndarray]], write: bool = True) -> dict[str, np.ndarray]:
    """The arrays in a file; where it is missing or damaged, those of `make()`, which are then written to it."""
    with suppress(FileNotFoundError, Damaged):
        return read_arrays(path)
    arrays = make()
    if write:
        write_arrays(path, arrays)
    return arrays


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays by name to an npz file, whole or not at all."""
    with replacing(path) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays)


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, checked against the seal of its folder. Raises Damaged as `read_json` does."""
    from safetensors.torch import load_file

    with reading(path):
        state = load_file(path)
    check_seal(Path(path).parent, weights=True)
    return state


def seal(folder: Path) -> None:
    """Write the checksums of a model's files beside them, which `loading` and `read_tensors` look at."""
    write_json(folder / SEAL, checksum_files(folder))


def check_seal(folder: Path, weights: bool = False) -> None:
    """Raise Damaged for a file of a model's folder that is not what was sealed; weights: look at those alone."""
    written = read_json(folder / SEAL) if (folder / SEAL).is_file() else {}
    for file in [folder / name for name in written if name.endswith(WEIGHTS) == weights]:
        if not file.is_file():
            raise Damaged(file, "does not exist")
        if checksum_file(file) != written[file.relative_to(folder).as_posix()]:
            raise Damaged(file, CHANGED if file.stat().st_size else "is empty (0 bytes)")


@contextmanager
def loading(folder: str | Path, weights: bool = False) -> Iterator[None]:
    """A loader of a model from a folder: files that are not those that were sealed are named before, and where it
    fails, the one that is damaged; other errors stay. weights: check them too (0.3 s a GB)."""
    folder = Path(folder)
    for kind in (False, True)[: 1 + weights]:
        check_seal(folder, kind)
    try:
        yield
    except Exception:
        for file in sorted(folder.rglob("*")):
            if file.suffix == ".json":
                read_json(file, Any)
            elif file.suffix == ".safetensors":
                read_tensors(file)
            elif file.suffix in (".bin", ".pt"):
                _check_pickle(file)
            elif file.suffix in (".model", ".spm") and not file.stat().st_size:
                raise Damaged(file, "is empty (0 bytes)") from None
        raise


def _check_pickle(file: Path) -> None:
    import torch

    with reading(file):
        torch.load(file, map_location="meta", weights_only=True)
