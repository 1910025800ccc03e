"""The tables of a competition: found, read alike, joined with other files; a sample is made where there is none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.competition import checks
from kagglekit.competition.columns import find_header, left_out, name_columns
from kagglekit.competition.find_files import ROLES, find_files, plain, texts_of
from kagglekit.competition.formats.csv_ways import NAMES, PLAIN
from kagglekit.competition.formats.encodings import decode
from kagglekit.competition.guess import UNSPACED
from kagglekit.competition.join import ASIDE, Joiner
from kagglekit.competition.labels import USUAL, VOTE, find_votes, is_missing, plain_label
from kagglekit.competition.read import NAMELESS, Note, parts_of, read_table, split_name
from kagglekit.competition.settings import TaskSettings

EXAMPLES = 10  # rows of a sample submission that are fewer than those of test: they show its form


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
    told = [*known[train][1], *known[test][1]]
    if not checks.check_header(tables["train"], train.name, tables["test"], test.name):
        told = []
        rows = {role: read_one(paths[role], encoding, **reading, notes=told, header=False) for role in tables}
        reading["headless"] = name_columns(rows["train"], rows["test"])
        tables = {role: rows[role].set_axis(names, axis=1) for role, names in reading["headless"].items()}
        for role, names in reading["headless"].items():
            told.append((f"header of {paths[role].name}", "none", f"columns are called {', '.join(names)}"))
    notes += told
    header = True
    if sample := paths.get("sample_submission"):
        tables["sample_submission"], header = _open_sample(sample, encoding, settings.delimiter, tables, reading, notes)
        encoding = encoding or next((note[1] for note in notes if note[0] == f"encoding of {sample.name}"), None)
    files = {role: str(path.relative_to(folder)) for role, path in paths.items()}
    more = _joiner(folder, encoding, reading)
    reading["names"] = more.name_texts(tables) if test.is_dir() else "id"
    for role in (role for role in ("train", "test") if paths[role].is_dir()):
        tables[role] = tables[role].rename(columns={"id": reading["names"]})
    join = dict(settings.join) or more.find(tables, {*paths.values()})
    steps = reading["join"] = more.plan(join, tables)
    notes += more.notes
    for role in ("train", "test"):
        tables[role] = more.apply(steps, tables[role], role)
    files |= {f"join {name}": name for name in join}
    if "sample_submission" not in tables:
        keys = [step["key"] for step in steps if step["roles"] == ["train"] and step["key"] in tables["test"]]
        names = (
            f"; they are {', '.join(left_out(tables['train'], tables['test'], ()))}" if "headless" in reading else ""
        )
        aside = names + "".join(f". {name} {why}" for _, name, why in more.notes if why.endswith(ASIDE))
        tables["sample_submission"], note = make_sample(tables["train"], tables["test"], settings, keys, aside)
        notes.append(note)
    return Tables({role: tables[role] for role in ROLES}, files, encoding or "utf-8", reading, header, notes)


def _open_sample(
    path: Path,
    encoding: str | None,
    delimiter: str | None,
    tables: Mapping[str, pd.DataFrame],
    reading: dict[str, Any],
    notes: list[Note],
) -> tuple[pd.DataFrame, bool]:
    """The sample submission with a row for each of test, and whether it has a header. reading, notes: take what divides
    its cells, and what was found."""
    told: list[Note] = []
    rows = read_one(path, encoding, delimiter, notes=told, header=False)
    kind, dividers = split_name(path.name)[1], {name: sign for sign, name in NAMES.items()}
    found = [dividers[found] for what, found, _ in told if what.startswith("delimiter of ") and found in dividers]
    divider = next(iter(found), "\t" if kind in (".tsv", ".tab") else ",")
    if divider != ",":
        reading["sample_delimiter"] = divider
        notes.append((f"delimiter of {path.name}", NAMES[divider], "the submission is written with it too"))
    if kind in (".json", ".jsonl", ".ndjson", ".parquet"):
        notes.append((f"format of {path.name}", "not that of a CSV", "the submission is written as CSV"))
    names = find_header(rows, *tables.values())
    if names is None:
        told = []
        sample = read_one(path, encoding, delimiter, notes=told)
    else:
        sample = rows.set_axis(names, axis=1)
    notes += [note for note in told if not note[0].startswith("delimiter of ")]
    if (full := fill_sample(sample, tables["test"])) is None:
        return sample, names is None
    why = f"it shows the form; the submission has a row for each of the {len(full):,} of test"
    notes.append((f"rows of {path.name}", f"{len(sample)} examples", why))
    return full, names is None


def read_again(folder: str | Path, files: Mapping[str, str], encoding: str, reading: dict[str, Any], role: str):
    """The table of a role, as `open_tables` gave it."""
    how = {name: reading.get(name) for name in ("delimiter", "quotes")}
    names = reading.get("headless", {}).get(role)
    table = read_one(Path(folder) / files[role], encoding, **how, header=names is None)
    table = table if names is None else table.set_axis(names, axis=1)
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
    if len(parts := parts_of(path)) > 1:
        tables = [
            read_table(part, encoding, delimiter, quotes, notes if part == path else None, header) for part in parts
        ]
        if notes is not None:
            notes.append((f"rows of {path.name}", f"{len(parts)} parts", "their names say that they are one table"))
        return pd.concat(tables, ignore_index=True).fillna("")
    if not path.is_dir():
        return read_table(path, encoding, delimiter, quotes, notes, header)
    if not (files := texts_of(path)):
        raise ValueError(f"{path} is a folder without .txt files")
    ids = pd.Series([file.stem for file in files], dtype=object)
    classes = pd.Series([file.parent.name for file in files], dtype=object)
    apart = files[0].parent != path
    if notes is not None:
        how = "each file is a row, and its name the id" + (", that of its folder the label" if apart else "")
        notes.append((f"rows of {path.name}", f"{len(files):,} texts", how))
    texts = [decode(file, file.read_bytes(), encoding) for file in files]
    table = pd.DataFrame({"id": ids if ids.is_unique else classes + "/" + ids, "text": texts}, dtype=object)
    return table.assign(label=classes) if apart else table


def existing_files(folder: str | Path, files: Iterable[str]) -> list[Path]:
    """The paths of files, those of a folder of texts one by one. Raises FileNotFoundError for one that is gone."""
    paths: list[Path] = []
    for name in files:
        path = Path(folder) / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is gone: put it back, or run 1_eda again with data= where it is now")
        paths += texts_of(path) if path.is_dir() else parts_of(path)
    return paths


def make_sample(
    train: pd.DataFrame, test: pd.DataFrame, settings: TaskSettings, keys: Sequence[str] = (), more: str = ""
) -> tuple[pd.DataFrame, Note]:
    """A sample submission for a competition without one: ids of test, and the labels with their most frequent value.
    keys: by which labels of train were found, as they stand in a file of their own: the first is the id. more: where
    labels may be, for the error.

    Raises ValueError where it cannot be told which columns are the labels.
    """
    id = settings.id if settings.id is not None else keys[0] if keys else guess_id(train, test)
    called = {plain_label(column): column for column in train.columns}
    labels = [settings.labels] if isinstance(settings.labels, str) else settings.labels
    labels = [one if one in train.columns else called.get(plain_label(one), one) for one in labels or ()]
    labels = labels or [c for c in train.columns if c not in test.columns and c != id and not NAMELESS.fullmatch(c)]
    both = [c for c in test.columns if c in train.columns and c != id and train[c].nunique() > 1]
    labels = labels or [c for c in both if {*test[c]}.isdisjoint(train[c]) and test[c].nunique() == 1]
    labels = labels or [c for c in both if is_missing(test[c], ()).all() or USUAL.fullmatch(c.strip())]
    votes = find_votes(train, labels) if settings.labels is None else []
    usual = [label for label in labels if USUAL.fullmatch(label.strip())] if settings.labels is None else []
    labels = usual if len(usual) == 1 else votes[:1] or labels
    lacking = [label for label in labels if label not in train.columns]
    if (len(labels) != 1 and settings.labels is None) or lacking:
        which = f"train has no column {lacking[0]!r}" if lacking else f"train has {', '.join(labels) or 'no column'}"
        raise ValueError(
            f"there is no sample submission to say what to predict, and {which} that test has not: say labels=, or "
            f"sample= the name of its file{more}"
        )
    columns = {id: test[id]} if id in test.columns else {}
    filled = {label: train[label][~is_missing(train[label], settings.classes or ())] for label in labels}
    shown = {label: cells.mode().get(0, "") for label, cells in filled.items()}
    shown = {VOTE.fullmatch(votes[0])[1] or "label": shown[votes[0]]} if labels == votes[:1] != [] else shown
    sample = pd.DataFrame({**columns, **shown}, index=test.index)
    why = "there is no file of one; sample= names it"
    why += "; the labels of test are not read" if {*labels} & {*test.columns} else ""
    return sample, ("sample submission", f"made: {', '.join(sample.columns)}", why)


def fill_sample(sample: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame | None:
    """A sample submission with a row for each of test, of one that has a few rows of it alone, or labels alone, as an
    example of the form, also with ids that test has not; None where it is no such example."""
    names = {column.strip().casefold(): column for column in test.columns}
    held = {column: names[column.strip().casefold()] for column in sample if column.strip().casefold() in names}
    both = {column: ({*sample[column]}, {*test[of]}, test[of].is_unique) for column, of in held.items()}
    fits = {column: shown <= all or (ids and shown.isdisjoint(all)) for column, (shown, all, ids) in both.items()}
    held = {column: of for column, of in held.items() if fits[column]}
    few = len(sample) <= EXAMPLES and len(sample) < len(test)
    if not few or len(held) == len(sample.columns) or (not held and len(sample.columns) > 1):
        return None
    full = sample.iloc[[row % len(sample) for row in range(len(test))]].reset_index(drop=True)
    return full.assign(**{column: test[of].to_numpy() for column, of in held.items()})


def guess_id(train: pd.DataFrame, test: pd.DataFrame) -> str:
    """The column of test with ids: filled in, different in every row, also of train, and named so; else the first such
    column of single words; "" where there is none."""
    could = [c for c in test.columns if test[c].is_unique and (test[c].str.strip() != "").all()]
    could = [column for column in could if column not in train.columns or train[column].is_unique]
    named = [column for column in could if plain(column).endswith("id") or plain(column) in ("index", "idx", "key")]
    named.sort(key=lambda column: plain(column) != "id")
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
