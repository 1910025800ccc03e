"""Bytes of a file as text: unpacked (.gz, .zip ...), and decoded by its byte order mark, as UTF-8, or as guessed."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

from charset_normalizer import from_bytes

from kagglekit.competition.settings import check_encoding
from kagglekit.files import reading

PACKED = (".gz", ".zip", ".bz2", ".xz")
MARKS = {  # byte order mark -> encoding; UTF-32 first, since its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SURE = 6  # bytes: so many more than characters are UTF-8 by accident only in a file that nobody wrote
FIRST = 1 << 20  # bytes from which an encoding is guessed
FEW = 12  # bytes beyond ASCII, in runs that differ: fewer tell too little
SINGLE = ("cp1252", "cp1250", "cp1254", "cp1257")  # encodings by how usual they are: of letters with accents
USUAL = ("gb18030", "big5", "cp932", "cp949", "cp1251", "koi8_r", "cp1256", "cp1253", "cp1255", "cp874", *SINGLE)
HIGH = re.compile(rb"[\x80-\xff]+")


def unpack(path: Path) -> tuple[str, bytes]:
    """Name and bytes of the file in a path, which may be packed, whatever its name says.

    Of an archive of several files the only one with the archive's own stem. Raises ValueError for a damaged file, and
    for an archive that holds several.
    """
    data = path.read_bytes()
    with reading(path):
        if path.suffix.lower() == ".gz" or data[:3] == b"\x1f\x8b\x08":
            return path.name, gzip.decompress(data)
        if path.suffix.lower() in (".bz2", ".xz"):
            return path.name, (bz2 if path.suffix.lower() == ".bz2" else lzma).decompress(data)
        if path.suffix.lower() != ".zip" and data[:4] != b"PK\x03\x04":
            return path.name, data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
            own = [name for name in names if Path(name).name.split(".")[0] == path.name.split(".")[0]]
            names = names if len(names) == 1 or len(own) != 1 else own
            if len(names) == 1:
                return Path(names[0]).name, archive.read(names[0])
    if "[Content_Types].xml" in names:
        raise ValueError(f"{path} is a file of Excel, and not read: save the sheet as CSV UTF-8 in its place")
    raise ValueError(
        f"{path} should hold one table and holds {len(names)} files: {', '.join(names[:5])}. Unpack it: "
        f"python -m zipfile -e {path.name} ."
    )


@dataclass(frozen=True)
class Text:
    """The text of a file. guessed: the encoding was neither given nor said by the file, and is not UTF-8. above: how
    many lines stand above the table; they are read as blank ones."""

    path: Path
    data: bytes
    encoding: str
    guessed: bool = False
    above: int = 0

    @cached_property
    def whole(self) -> str:
        return self.data.decode(self.encoding).removeprefix("\ufeff")

    def lines(self, newline: str = "\n") -> Iterator[str]:
        """The lines with their ends, one at a time. newline: "\\n", or "" where a lone \\r ends a line too."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        lines = io.TextIOWrapper(io.BytesIO(self.data), encoding, newline=newline)
        return chain(("\n" for _ in islice(lines, self.above)), lines)


def find_encoding(path: Path, data: bytes, encoding: str | None = "utf-8") -> Text:
    """The text of a file's bytes. A byte order mark decides, whatever `encoding` says; then UTF-8, where no byte speaks
    against it; then `encoding`, or a guess where that is None.

    Raises ValueError that names file, line and byte where that does not fit, with an encoding that does; and for an
    encoding that Python does not know.
    """
    check_encoding(encoding)
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return _checked(Text(path, data, name))
    wide = _wide(data)
    if wide and encoding is None:
        return _checked(Text(path, data, wide, guessed=True))
    plain = Text(path, data, "utf-8")
    characters = _count_utf8(data)
    if characters is not None and not wide and (characters == 0 or characters >= SURE or encoding is None):
        return plain
    if encoding is not None:
        if characters is not None and not wide and not _fits(data, encoding):
            return plain
        return _checked(Text(path, data, encoding))
    return Text(path, data, _guess(path, data), guessed=True)


def decode(path: Path, data: bytes, encoding: str | None) -> str:
    """The text of a file's bytes, see `find_encoding`."""
    return find_encoding(path, data, encoding).whole


def _count_utf8(data: bytes) -> int | None:
    """The number of characters beyond ASCII in bytes of UTF-8; None for bytes that are none."""
    if data.isascii():
        return 0
    try:
        return len(data) - len(data.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _wide(data: bytes) -> str:
    """UTF-16 without a mark is seen by its zeros: every other byte of text in Latin letters; "" where there are few."""
    some = data[:4096]
    zeros = [some[start::2].count(0) / max(1, len(some) // 2) for start in (0, 1)]
    if max(zeros) < 0.3 or min(zeros) > 0.1:
        return ""
    return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _checked(text: Text) -> Text:
    """The text, if all its bytes are of its encoding."""
    try:
        text.data.decode(text.encoding)
        return text
    except UnicodeDecodeError as error:
        likely = next((name for mark, name in MARKS.items() if text.data.startswith(mark)), _wide(text.data))
        advice = likely or _likely(text.data)
        instead = f"say what the file is written in, perhaps encoding={advice!r}" if advice else "mend the byte"
        raise ValueError(f"{_place(text.path, text.data, error)} is not {text.encoding}; {instead}") from error


def _place(path: Path, data: bytes, error: UnicodeDecodeError) -> str:
    line = data.count(b"\n", 0, error.start) + 1
    return f"{path}: byte 0x{data[error.start]:02x} at offset {error.start} (line {line})"


def _guess(path: Path, data: bytes) -> str:
    """The likely encoding of bytes that are no UTF-8. Raises ValueError where most of the file is UTF-8, so that only
    some bytes are damaged, and where nothing fits."""
    text = data.decode("utf-8", "surrogateescape")
    bad = sum(text.count(chr(code)) for code in range(0xDC80, 0xDD00))
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = _likely(data)
        good = (len(data) - len(text)) // 2  # characters of two bytes or more, at least
        if good > bad or not found:
            most = f"though the rest is ({bad:,} such bytes)" if good > bad else "and no other encoding fits"
            raise ValueError(
                f"{_place(path, data, error)} is not UTF-8, {most}: the file is damaged there or joined of several. "
                "Mend it, or say encoding='latin-1', which reads any byte, and all other such characters wrongly"
            ) from error
        return found
    raise AssertionError("only bytes that are no UTF-8 are guessed")


def _likely(data: bytes) -> str:
    """The encoding that charset_normalizer finds for the lines beyond ASCII, if all bytes fit it; else "".

    Bytes that stand alone among ASCII are of an encoding with one byte a character. Few bytes tell too little: then the
    most usual one that fits goes first.
    """
    some = b"\n".join(line for line in data.split(b"\n") if not line.isascii())[:FIRST]
    runs = HIGH.findall(some)
    usual = SINGLE if sum(map(len, runs)) < 2 * sum(len(run) == 1 for run in runs) else USUAL
    found = [match.encoding for match in from_bytes(some, cp_isolation=[*usual])]
    if sum(map(len, set(runs))) < FEW:
        found = [name for name in usual if name in found or name == "cp1252"] + found
    return next((name for name in found if _fits(data, name)), "")
