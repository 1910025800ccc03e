"""Arrays and tensors in files (npz, safetensors): read as they were written, or named as damaged; models likewise."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kagglekit.files import CHANGED, CHECKSUM, Damaged, read_json, reading, replacing

if TYPE_CHECKING:  # it takes a second to import
    import torch


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
    """The tensors of a safetensors file, checked against the checksum that `write_tensors` wrote, if it did.

    Costs 0.3 s a GB more than reading. Raises Damaged as `read_json` does."""
    from safetensors import safe_open

    with reading(path):
        with safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get(CHECKSUM)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if written is not None and written != _hash_tensors(state):
            raise Damaged(path, CHANGED)
    return state


def write_tensors(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Write tensors by name to a safetensors file with a checksum."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, path, {CHECKSUM: _hash_tensors(state)})  # of two keys, the order would change from call to call


def _hash_tensors(state: dict[str, torch.Tensor]) -> str:
    import torch

    found = 0
    for name, tensor in sorted(state.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy(), found)
    return f"{found:08x}"


@contextmanager
def loading(folder: str | Path) -> Iterator[None]:
    """Where a loader of a model fails, the file of its folder that is damaged is named; other errors stay."""
    try:
        yield
    except Exception:
        for file in sorted(Path(folder).glob("*")):
            if file.suffix == ".json":
                read_json(file, Any)
            elif file.suffix == ".safetensors":
                read_tensors(file)
            elif file.suffix in (".bin", ".pt", ".model") and file.is_file() and not file.stat().st_size:
                raise Damaged(file, "is empty (0 bytes)") from None
            elif file.suffix in (".bin", ".pt"):
                _check_pickle(file)
        raise


def _check_pickle(file: Path) -> None:
    import torch

    with reading(file):
        torch.load(file, map_location="meta", weights_only=True)
