"""The tables of a competition: found, read alike, joined with other files; a sample is made where there is none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.competition import checks
from kagglekit.competition.columns import find_header
from kagglekit.competition.find_files import ROLES, find_files, plain
from kagglekit.competition.formats.csv_ways import PLAIN
from kagglekit.competition.formats.encodings import decode
from kagglekit.competition.guess import UNSPACED
from kagglekit.competition.join import Joiner
from kagglekit.competition.labels import USUAL, is_missing
from kagglekit.competition.read import NAMELESS, Note, read_table
from kagglekit.competition.settings import TaskSettings


@dataclass
class Tables:
    """train, test and sample_submission, and how they were read.

    files: role or "join NAME" -> path in the folder; there may be no sample_submission. encoding: of the files that are
    not UTF-8. reading: what `read_again` needs: delimiter, quotes, join (see `Joiner.plan`), and names: the column that
    file names are, where test is a folder of texts. header: whether the sample submission has one. notes: what was
    guessed, made or left out.
    """

    tables: dict[str, pd.DataFrame]
    files: dict[str, str]
    encoding: str
    reading: dict[str, Any]
    header: bool = True
    notes: list[Note] = field(default_factory=list)


def open_tables(folder: Path, settings: TaskSettings) -> Tables:
    """Find, read and join the tables of a competition. Raises FileNotFoundError, and ValueError that names the file."""
    known: dict[Path, tuple[pd.DataFrame, list[Note]]] = {}
    reading = {"delimiter": settings.delimiter, "quotes": settings.quotes}

    def read(path: Path) -> pd.DataFrame:
        if path not in known:
            notes: list[Note] = []
            known[path] = read_one(path, settings.encoding, **reading, notes=notes), notes
        return known[path][0]

    given = {"train": settings.train, "test": settings.test, "sample_submission": settings.sample}
    paths, notes = find_files(folder, read, **given)
    train, test = paths["train"], paths["test"]
    read(train)
    read(test)
    encoding = settings.encoding or _agree_on_encoding(known, train, test, reading)
    if (f"quotes in {train.name}", PLAIN) in {note[:2] for note in known[train][1]}:
        reading["quotes"] = False  # texts of test that are in quotes keep them too
        again: list[Note] = []
        known[test] = read_one(test, encoding, **reading, notes=again), again
    tables = {"train": known[train][0], "test": known[test][0]}
    checks.check_header(tables["train"], train.name, tables["test"], test.name)
    notes += [*known[train][1], *known[test][1]]
    header = True
    if sample := paths.get("sample_submission"):
        rows = read_one(sample, encoding, settings.delimiter, header=False)
        names = find_header(rows, *tables.values())
        header = names is None
        how = (sample, encoding, settings.delimiter)
        tables["sample_submission"] = read_one(*how, notes=notes) if header else rows.set_axis(names, axis=1)
        encoding = encoding or next((note[1] for note in notes if note[0] == f"encoding of {sample.name}"), None)
    files = {role: str(path.relative_to(folder)) for role, path in paths.items()}
    more = _joiner(folder, encoding, reading)
    reading["names"] = more.name_texts(tables) if test.is_dir() else "id"
    tables["test"] = tables["test"].rename(columns={"id": reading["names"]}) if test.is_dir() else tables["test"]
    join = dict(settings.join) or more.find(tables, {*paths.values()})
    steps = reading["join"] = more.plan(join, tables)
    notes += more.notes
    for role in ("train", "test"):
        tables[role] = more.apply(steps, tables[role], role)
    files |= {f"join {name}": name for name in join}
    if "sample_submission" not in tables:
        tables["sample_submission"], note = make_sample(tables["train"], tables["test"], settings)
        notes.append(note)
    return Tables({role: tables[role] for role in ROLES}, files, encoding or "utf-8", reading, header, notes)


def read_again(folder: str | Path, files: Mapping[str, str], encoding: str, reading: dict[str, Any], role: str):
    """The table of a role, as `open_tables` gave it."""
    how = {name: reading.get(name) for name in ("delimiter", "quotes")}
    table = read_one(Path(folder) / files[role], encoding, **how)
    if Path(folder, files[role]).is_dir():
        table = table.rename(columns={"id": reading["names"]})
    return join_again(folder, encoding, reading, table, role)


def join_again(folder: str | Path, encoding: str, reading: Mapping[str, Any], table: pd.DataFrame, role: str = "train"):
    """A table of a role with the columns of other files that `open_tables` joined."""
    return _joiner(Path(folder), encoding, reading).apply(reading.get("join", ()), table, role)


def _joiner(folder: Path, encoding: str | None, reading: Mapping[str, Any]) -> Joiner:
    how = (encoding, reading.get("delimiter"), reading.get("quotes"))
    return Joiner(folder, lambda path: read_one(path, *how))


def read_one(
    path: Path, encoding: str | None, delimiter=None, quotes=None, notes: list[Note] | None = None, header: bool = True
) -> pd.DataFrame:
    """A table, or a folder of texts as one, with the columns id (the name of the file) and text."""
    if not path.is_dir():
        return read_table(path, encoding, delimiter, quotes, notes, header)
    names = sorted(name for name in path.iterdir() if name.suffix.lower() == ".txt" and not name.name.startswith("."))
    if not names:
        raise ValueError(f"{path} is a folder without .txt files")
    if notes is not None:
        notes.append((f"rows of {path.name}", f"{len(names):,} texts", "each file is a row, and its name the id"))
    texts = [decode(name, name.read_bytes(), encoding) for name in names]
    return pd.DataFrame({"id": [name.stem for name in names], "text": texts})


def existing_files(folder: str | Path, files: Iterable[str]) -> list[Path]:
    """The paths of files, those of a folder of texts one by one. Raises FileNotFoundError for one that is gone."""
    paths: list[Path] = []
    for name in files:
        path = Path(folder) / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is gone: put it back, or run 1_eda again with data= where it is now")
        paths += sorted(path.glob("*.txt")) if path.is_dir() else [path]
    return paths


def make_sample(train: pd.DataFrame, test: pd.DataFrame, settings: TaskSettings) -> tuple[pd.DataFrame, Note]:
    """A sample submission for a competition without one: ids of test, and the labels with their most frequent value.

    Raises ValueError where it cannot be told which columns are the labels.
    """
    id = settings.id if settings.id is not None else guess_id(test)
    labels = [settings.labels] if isinstance(settings.labels, str) else settings.labels
    labels = labels or [c for c in train.columns if c not in test.columns and c != id and not NAMELESS.fullmatch(c)]
    usual = [label for label in labels if USUAL.fullmatch(label.strip())] if settings.labels is None else []
    labels = usual if len(usual) == 1 else labels
    lacking = [label for label in labels if label not in train.columns]
    if (len(labels) != 1 and settings.labels is None) or lacking:
        which = f"train has no column {lacking[0]!r}" if lacking else f"train has {', '.join(labels) or 'no column'}"
        raise ValueError(
            f"there is no sample submission to say what to predict, and {which} that test has not: say labels=, or "
            "sample= the name of its file"
        )
    columns = {id: test[id]} if id in test.columns else {}
    filled = {label: train[label][~is_missing(train[label], settings.classes or ())] for label in labels}
    shown = {label: cells.mode().get(0, "") for label, cells in filled.items()}
    sample = pd.DataFrame({**columns, **shown}, index=test.index)
    why = "there is no file of one; sample= names it"
    return sample, ("sample submission", f"made: {', '.join(sample.columns)}", why)


def guess_id(test: pd.DataFrame) -> str:
    """The column of test with ids: filled in, different in every row, and named so; else the first such column of
    single words; "" where there is none."""
    could = [c for c in test.columns if test[c].is_unique and (test[c].str.strip() != "").all()]
    named = [column for column in could if plain(column).endswith("id") or plain(column) in ("index", "key")]
    words = [column for column in could if not test[column].str.strip().str.contains(rf"\s|{UNSPACED.pattern}").any()]
    return next(iter([*named, *words]), "")


def _agree_on_encoding(known: dict, train: Path, test: Path, reading: dict[str, Any]) -> str | None:
    """One encoding for the files that are not UTF-8: the one guessed from the larger file, which tells more; None where
    both are UTF-8."""
    found = {
        path: note[1] for path in (train, test) for note in known[path][1] if note[0] == f"encoding of {path.name}"
    }
    if not found:
        return None
    best = max(found, key=lambda path: path.stat().st_size)
    for path in (path for path in found if found[path] != found[best]):
        notes: list[Note] = [(f"encoding of {path.name}", found[best], f"that of {best.name}; encoding= says another")]
        known[path] = read_one(path, found[best], **reading, notes=notes), notes
    return found[best]
