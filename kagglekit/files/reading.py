"""Reading what was written, or naming it as damaged: JSON with checksums, and hashes of files."""

import errno
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kagglekit.files.paths import remedy
from kagglekit.files.writing import replacing

CHECKSUM = "checksum"  # the key in JSON and parquet
OF_CONTENT = (None, errno.EINVAL)  # OSErrors of pyarrow for damaged pages, of torch for files that were cut


class Damaged(ValueError):
    """A file that is empty, cut or garbled, or that is not what was written."""

    def __init__(self, path: str | Path, why: str):
        super().__init__(f"{path} {why}: {remedy(Path(path))}")


ONLY_HASH = ".only-hash"  # NAME.only-hash has the SHA-256 of a file NAME that stayed on another machine
CHANGED = (
    "is cut, or was changed after it was written, by a fault of the disk or by hand (whoever means to change it has to "
    f"leave out its {CHECKSUM})"
)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Whatever a reader of `path` raises for its content becomes Damaged, with the path and what makes it again, and
    FileNotFoundError says the same."""
    try:
        yield
    except Damaged:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist: {remedy(Path(path))}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in OF_CONTENT:
            raise
        if not Path(path).stat().st_size:
            raise Damaged(path, "is empty (0 bytes)") from error
        said = next(iter(str(error).splitlines()), "")[:200]
        raise Damaged(path, f"is damaged ({said or type(error).__name__})") from error


def read_json(path: str | Path, kind: Any = dict) -> Any:
    """The value in a JSON file, of this kind (Any: whichever), checked against the checksum that `write_json` wrote.

    Raises Damaged, a ValueError, for a file that is empty, cut, garbled or changed.
    """
    with reading(path):
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    if kind is not Any and not isinstance(value, kind):
        raise Damaged(path, f"holds {value!r:.50} in place of a {kind.__name__}")
    if isinstance(value, dict) and (written := value.pop(CHECKSUM, None)) and written != _hash_json(value):
        raise Damaged(path, CHANGED)
    return value


def write_json(path: str | Path, value, *, plain: bool = False) -> None:
    """Write `value` as indented JSON, whole or not at all; a dict with a checksum, but `plain` for other programs."""
    if isinstance(value, dict) and not plain:
        value = {**value, CHECKSUM: _hash_json(json.loads(json.dumps(value)))}
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _hash_json(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def hash_files(files: Iterable[Path]) -> str:
    """One SHA-256 over the names and contents of `files`, in the given order (16 hexadecimal digits); a file that has
    only the hash of another counts as that one, see `hash_content`."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.removesuffix(ONLY_HASH).encode())
        digest.update(bytes.fromhex(hash_content(file)))
    return digest.hexdigest()[:16]


def hash_content(file: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits, or the one that NAME.only-hash has of NAME."""
    if file.name.endswith(ONLY_HASH):
        return file.read_text(encoding="utf-8")
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksum_file(file: Path) -> str:
    """A quick checksum (CRC-32, 0.3 s a GB): of what may be damaged, not of what may be equal to another."""
    value = 0
    with open(file, "rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def checksum_files(folder: Path) -> dict[str, str]:
    """File of a folder, and below -> its checksum."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): checksum_file(file) for file in files}
