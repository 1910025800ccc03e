"""The tables of a competition: found, read alike, joined with other files; a sample is made where there is none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.competition.columns import find_header
from kagglekit.competition.find_files import ROLES, find_files, is_text_folder, plain, role_of, unused_tables
from kagglekit.competition.formats.csv_ways import PLAIN
from kagglekit.competition.formats.encodings import decode
from kagglekit.competition.read import Note, read_table, split_name
from kagglekit.competition.settings import TaskSettings

SMALL = 50_000_000  # bytes of a table that is read to see whether it could be joined


@dataclass
class Tables:
    """train, test and sample_submission, and how they were read.

    files: role or "join NAME" -> path in the folder; there may be no sample_submission. encoding: of the files that are
    not UTF-8. reading: what `read_again` needs: delimiter, quotes, join, and names: what the file names of test are.
    header: whether the sample submission has one. notes: what was guessed, made or left out.
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
    join = dict(settings.join) or _texts_beside(folder, tables, paths, notes)
    if test.is_dir() and join:
        reading["names"] = next(iter(join.values()))
        tables["test"] = tables["test"].rename(columns={"id": reading["names"]})
    for name in join:
        files[f"join {name}"] = name
    reading["join"] = join
    if join:
        tables = _join(folder, tables, join, encoding, reading, notes)
    if "sample_submission" not in tables:
        tables["sample_submission"], note = make_sample(tables["train"], tables["test"], settings)
        notes.append(note)
    notes += _unused(folder, tables, {*paths.values(), *(folder / name for name in join)}, encoding)
    return Tables({role: tables[role] for role in ROLES}, files, encoding or "utf-8", reading, header, notes)


def read_again(folder: str | Path, files: Mapping[str, str], encoding: str, reading: dict[str, Any], role: str):
    """The table of a role, as `open_tables` gave it."""
    how = {name: reading.get(name) for name in ("delimiter", "quotes")}
    table = read_one(Path(folder) / files[role], encoding, **how)
    if Path(folder, files[role]).is_dir():
        table = table.rename(columns={"id": reading.get("names", "id")})
    join = reading.get("join") or {}
    if not join or role == "sample_submission":
        return table
    return _join(Path(folder), {role: table}, join, encoding, reading, [])[role]


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
    labels = labels or [column for column in train.columns if column and column not in test.columns and column != id]
    lacking = [label for label in labels if label not in train.columns]
    if (len(labels) != 1 and settings.labels is None) or lacking:
        which = f"train has no column {lacking[0]!r}" if lacking else f"train has {', '.join(labels) or 'no column'}"
        raise ValueError(
            f"there is no sample submission to say what to predict, and {which} that test has not: say labels=, or "
            "sample= the name of its file"
        )
    columns = {id: test[id]} if id in test.columns else {}
    sample = pd.DataFrame({**columns, **{label: train[label].mode().iloc[0] for label in labels}}, index=test.index)
    why = "there is no file of one; sample= names it"
    return sample, ("sample submission", f"made: {', '.join(sample.columns)}", why)


def guess_id(test: pd.DataFrame) -> str:
    """The column of test with ids: filled in, different in every row, and named so; else the first such column of
    single words; "" where there is none."""
    could = [c for c in test.columns if test[c].is_unique and (test[c].str.strip() != "").all()]
    named = [column for column in could if plain(column).endswith("id") or plain(column) in ("index", "key")]
    words = [column for column in could if not test[column].str.strip().str.contains(r"\s").any()]
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


# Text in other files


def _join(
    folder: Path,
    tables: dict[str, pd.DataFrame],
    join: Mapping[str, str],
    encoding: str,
    reading: dict[str, Any],
    notes: list[Note],
) -> dict[str, pd.DataFrame]:
    """Train and test with the columns of other files, found by a key column: one row there for many rows here.

    join: file or folder of texts -> key column. Files with the same columns count as one. A column that the table has
    already is called `FILE.column`.
    """
    stacked: dict[tuple, tuple[str, pd.DataFrame]] = {}
    for name, key in join.items():
        how = {one: reading.get(one) for one in ("delimiter", "quotes")}
        if not (folder / name).exists():
            raise FileNotFoundError(f"join: {folder} has no file {name!r}")
        more = read_one(folder / name, encoding, **how)
        more = more.rename(columns={"id": key}) if (folder / name).is_dir() else more
        if key not in more.columns:
            raise ValueError(f"join: {name} has no column {key!r}; it has {', '.join(more.columns)}")
        columns = (key, *more.columns)
        first, before = stacked.get(columns, (name, more.iloc[:0]))
        more = pd.concat([before, more], ignore_index=True).drop_duplicates()
        twice = more[key].duplicated()
        if twice.any():
            raise ValueError(
                f"join: {name} has several rows with {key}={more[key][int(twice.argmax())]!r}; one is needed for each"
            )
        stacked[columns] = first, more
    tables = dict(tables)
    for name, more in stacked.values():
        key = join[name]
        for role in (role for role in ("train", "test") if role in tables):
            tables[role] = _with_columns(tables[role], role, more, name, key, notes)
    return tables


def _with_columns(
    table: pd.DataFrame, role: str, more: pd.DataFrame, name: str, key: str, notes: list[Note]
) -> pd.DataFrame:
    if key not in table.columns:
        raise ValueError(
            f"join: {role} has no column {key!r} to find its rows of {name}; it has {', '.join(table.columns)}"
        )
    rows = pd.Index(more[key]).get_indexer(table[key])
    if (rows < 0).any():
        row = int((rows < 0).argmax())
        raise ValueError(
            f"join: data row {row + 1} of {role} has {key}={table[key].iloc[row]!r}, which has no row in {name} "
            f"({(rows < 0).sum():,} such rows): add it there, or leave {name} out of join="
        )
    stem = split_name(Path(name).name)[0]
    names = {
        column: f"{stem}.{column}" if column in table.columns else column for column in more.columns if column != key
    }
    clash = [column for column, new in names.items() if new != column]
    if role == "train" or not any(note[0] == f"join {name}" for note in notes):
        told = f"{len(names)} columns: {', '.join(names.values())}"
        why = f"found by {key!r}" + (f"; train or test has {', '.join(clash)} too" if clash else "")
        notes.append((f"join {name}", told, why))
    added = {new: more[column].to_numpy()[rows] for column, new in names.items()}
    return pd.concat([table, pd.DataFrame(added, index=table.index, dtype=str)], axis=1)


def _texts_beside(
    folder: Path, tables: dict[str, pd.DataFrame], paths: dict[str, Path], notes: list[Note]
) -> dict[str, str]:
    """Folders of texts to join: those named train and test, where a column of train holds the names of the files."""
    train, test = tables["train"], tables["test"]
    beside = [
        place for place in sorted(folder.iterdir()) if place.is_dir() and role_of(place.name) and is_text_folder(place)
    ]
    names = {
        role: {p.stem for place in beside if role_of(place.name) == role for p in place.iterdir()} for role in ROLES
    }
    keys = [c for c in train.columns if names["train"] and set(train[c]) <= names["train"]]
    if not keys or (
        paths["test"] not in beside and not (keys[0] in test.columns and set(test[keys[0]]) <= names["test"])
    ):
        return {}
    key = keys[0]
    if paths["test"] in beside:
        return {place.name: key for place in beside if role_of(place.name) == "train"}
    join = {place.name: key for place in beside if role_of(place.name) in ("train", "test")}
    if any(train[column].str.split().str.len().mean() >= 3 for column in train.columns if column in test.columns):
        notes.append(("texts", f"not used: {', '.join(join)}", f"join={join} would add them"))
        return {}
    return join


def _unused(folder: Path, tables: dict[str, pd.DataFrame], used: set[Path], encoding: str) -> list[Note]:
    """Tables that are not used; and what `join` would add, where a column of train and test names rows of them."""
    notes: list[Note] = []
    rows: dict[str, dict[str, pd.DataFrame]] = {}  # key column -> file -> table
    for path in unused_tables(folder, used):
        if path.stat().st_size > SMALL or path.suffix.lower() in (".txt", ".zip"):
            continue
        try:
            more = read_table(path, encoding)
        except ValueError:
            continue
        named = set(tables["train"].columns) & set(tables["test"].columns)
        keys = [c for c in more.columns if c in named and more[c].is_unique and not tables["train"][c].is_unique]
        if keys and len(more.columns) > 1:
            rows.setdefault(keys[0], {})[path.name] = more
        else:
            columns = ", ".join(more.columns[:6])
            notes.append(("not used", path.name, f"none of train, test and sample submission by its name: {columns}"))
    for key, files in rows.items():
        known = {value for more in files.values() for value in more[key]}
        lacking = [role for role in ("train", "test") if not set(tables[role][key]) <= known]
        join = f"join={dict.fromkeys(files, key)}"
        why = f"{key!r} in {lacking[0]} has values that are not there" if lacking else f"{join} would add their columns"
        notes.append(("not used", ", ".join(files), why))
    return notes
