"""Columns that stand in other files: prompts, one for many rows; texts, each a file named by its id; labels by id."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.competition.columns import has_few_values, kind_of_cells
from kagglekit.competition.find_files import is_text_folder, role_of, unused_tables
from kagglekit.competition.read import Note, split_name

ASIDE = "if they are labels in its order, write them into it as a column"
SMALL = 50_000_000  # bytes of a table that is read to see whether it could be joined


def _bare(names: pd.Series) -> pd.Series:
    """Names of texts without their ending, as the ids of a folder of texts are."""
    return names.str.replace(r"\.txt$", "", regex=True, case=False)


def _is_of_train(train: pd.DataFrame, test: pd.DataFrame, more: pd.DataFrame, key: str, role: str = "train") -> bool:
    """Whether a table has rows for train alone: none of test, or those of train and no other, though ids of test are
    alike."""
    apart = not _bare(test[key]).isin(more[key]).any()
    return apart or (role == "train" and {*train[key]} == {*more[key]})


def _is_text(column: pd.Series) -> bool:
    return kind_of_cells(column)[0] == "words" and not has_few_values(column)


class Joiner:
    """Adds columns of other files of a competition to train and test, found by a key column.

    folder: of the competition. read: path -> table; of a folder of texts with the columns id and text. notes: what was
    found, or joined.
    """

    def __init__(self, folder: Path, read: Callable[[Path], pd.DataFrame]):
        self.folder, self.read, self.notes = folder, read, list[Note]()
        self.texts: dict[str, set[str]] = {}  # folder of texts -> names of its files

    def plan(self, join: Mapping[str, str], tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
        """Steps for `apply`: {"files": [...], "key": column, "columns": {as written: as called}, "roles": [...]}.

        join: file or folder of texts -> key column; files with the same columns count as one. A column that train or
        test has already is called `FILE.column`. Raises FileNotFoundError, and ValueError that names file and row.
        """
        steps: list[dict[str, Any]] = []
        for name, key in join.items():
            if not (self.folder / name).exists():
                raise FileNotFoundError(f"join: {self.folder} has no file {name!r}")
            columns = list(self._read(name, key).columns)
            same = next((step for step in steps if [step["key"], *step["columns"]] == columns), None)
            if same:
                same["files"].append(name)
                continue
            if key not in columns:
                raise ValueError(f"join: {name} has no column {key!r}; it has {', '.join(columns)}")
            stem = split_name(Path(name).name)[0]
            taken = {*tables["train"].columns, *(() if self._of_train(name) else tables["test"].columns)}
            called = {one: f"{stem}.{one}" if one in taken else one for one in columns if one != key}
            steps.append({"files": [name], "key": key, "columns": called, "roles": ["train", "test"]})
        for step in steps:
            more, train, test = self._stack(step), tables["train"], tables["test"]
            for role in ("train", "test"):
                if step["key"] not in tables[role].columns:
                    has = ", ".join(tables[role].columns)
                    raise ValueError(f"join: {role} has no column {step['key']!r} to find rows by; it has {has}")
            of_train = all(role_of(split_name(Path(name).name)[0]) == "train" for name in step["files"])
            apart = _is_of_train(train, test, more, step["key"])
            if of_train and apart and (train[step["key"]].is_unique or {*step["columns"].values()} <= {*test.columns}):
                step["roles"] = ["train"]
            found = ", ".join(step["columns"].values())
            only = "" if "test" in step["roles"] else "; test has no row there"
            self.notes.append((f"join {', '.join(step['files'])}", found, f"found by {step['key']!r}{only}"))
        return steps

    def apply(self, steps: Sequence[Mapping[str, Any]], table: pd.DataFrame, role: str) -> pd.DataFrame:
        """A table with the columns of `steps`. Raises ValueError that names the first row without a partner."""
        for step in (step for step in steps if role in step["roles"]):
            more, key, files = self._stack(step), step["key"], ", ".join(step["files"])
            rows = pd.Index(more[key]).get_indexer(
                table[key] if table[key].isin(more[key]).all() else _bare(table[key])
            )
            if (rows < 0).any():
                row = int((rows < 0).argmax())
                raise ValueError(
                    f"join: {key!r} in data row {row + 1} of {role} is {table[key].iloc[row]!r}, which {files} has not "
                    f"({(rows < 0).sum():,} such rows): add it there, or leave join= out"
                )
            added = {new: more[old].to_numpy()[rows] for old, new in step["columns"].items()}
            table = pd.concat([table, pd.DataFrame(added, index=table.index, dtype=object)], axis=1)
        return table

    def name_texts(self, tables: Mapping[str, pd.DataFrame]) -> str:
        """What the file names of a folder of test are: the first column of the sample submission that holds them, else
        the column of train that holds those of the folder of train, else "id"."""
        names, sample = set(tables["test"]["id"]), tables.get("sample_submission", pd.DataFrame())
        of_train = set().union(*(held for name, held in self._texts().items() if role_of(name) == "train"))
        return next(
            (
                column
                for table, held in ((sample, names), (tables["train"], of_train))
                for column in table.columns
                if held and set(table[column]) <= held
            ),
            "id",
        )

    def find(self, tables: Mapping[str, pd.DataFrame], used: Iterable[Path]) -> dict[str, str]:
        """What to join without being asked: texts that stand in folders where train has no text, and labels that stand
        in another file where train has none. Notes what else could be joined, and what is not used."""
        return self._find_texts(tables) or self._find_tables(tables, set(used))

    def _find_texts(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
        train, test = tables["train"], tables["test"]
        held = {role: [n for n in self._texts() if role_of(n) in (role, "")] for role in ("train", "test")}
        names = {role: set().union(*(self._texts()[name] for name in held[role])) for role in held}
        keys = [c for c in train if c in test and names["train"] and {*_bare(train[c])} <= names["train"]]
        keys = [key for key in keys if {*_bare(test[key])} <= names["test"]]
        if not keys:
            return {}
        held = {role: [n for n in held[role] if self._texts()[n] & {*_bare(tables[role][keys[0]])}] for role in held}
        own = "text" in test.columns and len(test.columns) == 2 and set(test[keys[0]]) == names["test"]
        join = dict.fromkeys(held["train"] if own else held["train"] + held["test"], keys[0])
        shared = [column for column in train.columns if column in test.columns]
        if any(train[column].str.split().str.len().mean() >= 3 for column in shared):
            self.notes.append(("not used", ", ".join(join), f"texts named by {keys[0]!r}; join={join} would add them"))
            return {}
        return join

    def _find_tables(self, tables: Mapping[str, pd.DataFrame], used: set[Path]) -> dict[str, str]:
        train, test = tables["train"], tables["test"]
        shared = [column for column in train.columns if column in test.columns]
        could: dict[str, dict[str, pd.DataFrame]] = {}  # key column -> file -> table
        texts: dict[str, dict[str, pd.DataFrame]] = {}  # likewise, of texts, where train has none
        lacking = not any(_is_text(table[column]) for table in (train, test) for column in table)
        for path in unused_tables(self.folder, used):
            if path.stat().st_size > SMALL or path.suffix.lower() in (".txt", ".zip"):
                continue
            try:
                more = self.read(path)
            except ValueError:
                continue
            own = [column for column in train.columns if column in more.columns]
            words = [column for column in own if _is_text(train[column])]
            if words and {*own} - {*shared, words[0]}:
                self.notes.append(
                    ("not used", path.name, "labelled rows as of train: extra= of 3_train learns them too")
                )
                continue
            keys = [column for column in more.columns if column in shared and more[column].is_unique]
            labels = [key for key in keys if train[key].is_unique and set(train[key]) <= set(more[key])]
            labels = [key for key in labels if _is_of_train(train, test, more, key, role_of(path.stem))]
            if len(shared) == len(train.columns) and {*more} - {*own} and labels:
                return {path.name: labels[0]}
            if lacking and any(_is_text(more[column]) for column in more if column not in own):
                if keys:
                    texts.setdefault(keys[0], {})[path.name] = more
                    continue
                long = [key for key in shared if not has_few_values(train[key])]
                for key, one in ((a, b) for a in long for b in more if {*train[a], *test[a]} <= {*more[b]}):
                    raise ValueError(
                        f"train has no text, and {path.name} has it: {key!r} of train and test names its rows, by "
                        f"{one!r}. Write the texts into both, a column for each that names one"
                    )
            keys = [key for key in keys if not train[key].is_unique and len(more.columns) > 1]
            if keys:
                could.setdefault(keys[0], {})[path.name] = more
            elif rows := [c for c in more if c in shared and test[c].is_unique and set(test[c]) <= set(more[c])]:
                why = "columns of the rows of test, such as their labels"
                if not more[rows[0]].is_unique:
                    why = f"several rows for one {rows[0]!r}: with one row each, join= would add its columns"
                self.notes.append(("not used", path.name, why))
            else:
                why = f"has {', '.join(more.columns[:6])}; train=, test=, sample= or join= would use it"
                if len(more) == len(train) and not own and role_of(split_name(path.name)[0]) == "train":
                    why = f"has {', '.join(more.columns[:6])}, and as many rows as train: {ASIDE}"
                self.notes.append(("not used", path.name, why))
        for key, files in texts.items():
            known = {value for more in files.values() for value in more[key]}
            if all({*tables[role][key]} <= known for role in ("train", "test")):
                return dict.fromkeys(files, key)
        for key, files in (could | texts).items():
            known = {value for more in files.values() for value in more[key]}
            lacking = [role for role in ("train", "test") if not set(tables[role][key]) <= known]
            why = f"join={dict.fromkeys(files, key)} would add their columns"
            why = f"{key!r} in {lacking[0]} has values that are not there" if lacking else why
            self.notes.append(("not used", ", ".join(files), why))
        return {}

    def _of_train(self, name: str) -> bool:
        """Whether these are texts of train, beside which test may have its own."""
        return (self.folder / name).is_dir() and role_of(name) == "train"

    def _texts(self) -> dict[str, set[str]]:
        if not self.texts:
            places = [place for place in sorted(self.folder.iterdir()) if place.is_dir()]
            self.texts = {p.name: {file.stem for file in p.iterdir()} for p in places if is_text_folder(p)}
        return self.texts

    def _read(self, name: str, key: str) -> pd.DataFrame:
        table = self.read(self.folder / name)
        return table.rename(columns={"id": key}) if (self.folder / name).is_dir() else table

    def _stack(self, step: Mapping[str, Any]) -> pd.DataFrame:
        """The rows of all files of a step. Raises ValueError for a key with several rows."""
        key = step["key"]
        more = pd.concat([self._read(name, key) for name in step["files"]], ignore_index=True).drop_duplicates()
        twice = more[key].duplicated()
        if twice.any():
            value, files = more[key].iloc[int(twice.argmax())], ", ".join(step["files"])
            raise ValueError(f"join: {files} has several rows with {key}={value!r}; one is needed for each")
        return more
