"""Files of a competition that are empty, cut, garbled, packed badly, or of another kind."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from tests.benchmarks.bad_inputs import Blow, edit, garble, rows_read


def files(base: Path) -> Iterator[Blow]:
    """Files of the competition that are empty, cut, of another kind or garbled."""
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    html = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<body>Please sign in first</body></html>\n"
    damages = {
        "empty": lambda b: b"",
        "header alone": lambda b: b.split(b"\n")[0] + b"\n",
        "a picture": lambda b: png,
        "a page of HTML": lambda b: html,
        "a row too short": lambda b: b + b"99\n",
        "a row too long": lambda b: b + b"99,a,b,c,d,e\n",
        "a column twice": lambda b: b.replace(b"id,", b"id,id,", 1).replace(b"\n", b"\n7,", 20),
        "an open quote": lambda b: b + b'99,"it was,good\n',
        "zeros to the end": lambda b: b + bytes(500),
        "one byte of Latin-1": lambda b: b.replace(b"good", b"caf\xe9", 1),
        "cut inside a row": lambda b: b[: b.rindex(b",") - 1],
    }
    for file in ("train.csv", "test.csv", "sample_submission.csv"):
        for name, change in damages.items():
            fine = None
            if name == "one byte of Latin-1":  # a guess that is told
                fine = rows_read(60)
            yield Blow(f"{file}: {name}", (file,), edit(f"data/{file}", change), fine=fine)
        yield Blow(f"{file}: gone", (file.split(".")[0],), lambda folder, file=file: (folder / "data" / file).unlink(),
                   fine=rows_read(60) if file.startswith("sample") else None)  # fmt: skip
        yield Blow(f"{file}: a folder", (file.split(".")[0],), lambda folder, file=file: swap(folder / "data" / file),
                   fine=rows_read(60) if file.startswith("sample") else None)  # fmt: skip
        yield from packed(file)
    for name, change in {
        "UTF-16": lambda b: b.decode().encode("utf-16"),
        "UTF-8 with a byte order mark": lambda b: b"\xef\xbb\xbf" + b,
        "line ends of Windows": lambda b: b.replace(b"\n", b"\r\n"),
        "line ends of old Macintoshes": lambda b: b.replace(b"\n", b"\r"),
        "semicolons": lambda b: b.replace(b";", b"").replace(b",", b";"),
        "tabs": lambda b: b.replace(b",", b"\t"),
        "bars": lambda b: b.replace(b",", b"|"),
        "blank rows at the end": lambda b: b + b",,\n" * 30,
        "blank lines in the middle": lambda b: b.replace(b"\n", b"\n\n", 9),
    }.items():
        damage = edit("data/train.csv", lambda b, change=change: change(plain(b)))
        yield Blow(f"train.csv: {name}", (), damage, fine=rows_read(60))  # an error would not be right


def plain(data: bytes) -> bytes:
    """A CSV whose texts hold no comma and need no quotes."""
    table = pd.read_csv(io.BytesIO(data), dtype=str)
    return table.replace({",": ""}, regex=True).to_csv(index=False).encode()


def swap(path: Path) -> None:
    """A folder in place of a file."""
    path.unlink()
    path.mkdir()


def packed(file: str) -> Iterator[Blow]:
    """A packed or columnar file that is damaged."""

    def replaced(ending: str, content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            old = folder / "data" / file
            (folder / "data" / f"{old.stem}{ending}").write_bytes(content(old.read_bytes()))
            old.unlink()

        return change

    stem = file.split(".")[0]
    whole = {"text": ["a"] * 9}
    yield Blow(f"{stem}.csv.gz: cut", (f"{stem}.csv.gz",), replaced(".csv.gz", lambda b: gzip.compress(b)[:-20]))
    yield Blow(f"{stem}.csv.gz: garbled", (f"{stem}.csv.gz",), replaced(".csv.gz", lambda b: garble(gzip.compress(b))))
    yield Blow(f"{stem}.zip: no zip", (f"{stem}.zip",), replaced(".zip", lambda b: b))
    yield Blow(
        f"{stem}.zip: two tables", (f"{stem}.zip",), replaced(".zip", lambda b: zipped({"a.csv": b, "b.csv": b}))
    )
    yield Blow(f"{stem}.parquet: no parquet", (f"{stem}.parquet",), replaced(".parquet", lambda b: b))
    yield Blow(f"{stem}.parquet: garbled", (f"{stem}.parquet",),
               replaced(".parquet", lambda b: garble(parquet(b))))  # fmt: skip
    yield Blow(f"{stem}.parquet: cut", (f"{stem}.parquet",), replaced(".parquet", lambda b: parquet(b)[:-99]))
    yield Blow(f"{stem}.json: cut", (f"{stem}.json",), replaced(".json", lambda b: json.dumps(whole).encode()[:-9]))
    yield Blow(f"{stem}.jsonl: a bad line", (f"{stem}.jsonl", "line 3"),
               replaced(".jsonl", lambda b: b'{"id": "1", "text": "a"}\n' * 2 + b"{id: 3}\n"))  # fmt: skip


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip of files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def parquet(data: bytes) -> bytes:
    """A CSV as parquet."""
    target = io.BytesIO()
    pd.read_csv(io.BytesIO(data), dtype=str).to_parquet(target, index=False)
    return target.getvalue()
