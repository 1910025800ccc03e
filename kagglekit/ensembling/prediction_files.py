"""Files of imported predictions: which file holds what, and whether the files agree."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.checks import name_row
from kagglekit.competition.formats.encodings import PACKED
from kagglekit.competition.read import read_table

KINDS = (".csv", ".tsv", ".parquet")
LABELS = "labels"  # the name of the file that holds them
ONE_LABEL = ("label", "target")  # the name of a column of labels where there is one
PREFIX = "label_"  # of such names where there are several
OTHER = ("fold", "group")


@dataclass(frozen=True, eq=False)
class ImportedFiles:
    """The contents of a folder of prediction files, checked as far as possible without the kind of task.

    ids: of train, in the order of `source`, the file that holds the labels. labels: a column for each, as written
    (str), in that order; fold and group likewise, or None. models, tests: predictions of each model, float64, in the
    order of its own file, whose ids are the index; tests may be empty. names: the file name of each model, of its tests
    (model.test), and of "labels".
    """

    ids: list[str]
    source: str
    labels: pd.DataFrame
    fold: pd.Series | None
    group: pd.Series | None
    models: dict[str, pd.DataFrame]
    tests: dict[str, pd.DataFrame]
    names: dict[str, str]
    paths: list[Path]


def read_files(folder: Path) -> ImportedFiles:
    """Read every table of the folder. Raises FileNotFoundError for a folder without models, and ValueError that names
    file, column and row for what does not fit together."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and _stem(path)]
    tables, names = {}, {}
    for path in paths:
        if _stem(path) in tables:
            raise ValueError(f"{names[_stem(path)]} and {path.name} have the same name: keep one, or rename it")
        tables[_stem(path)], names[_stem(path)] = _read(path), path.name
    for stem in tables.keys() - {LABELS}:
        alone = [column for column in tables[stem].columns if column not in OTHER]
        if len(alone) == 1 and alone[0] in ONE_LABEL and (LABELS in tables or stem.endswith(".test")):
            tables[stem] = tables[stem].rename(columns={alone[0]: "prediction"})  # as in a submission
    models = [stem for stem in tables if stem != LABELS and not stem.endswith(".test")]
    if not models:
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise FileNotFoundError(f"{folder} has no table of predictions ({', '.join(KINDS)}); it holds {held}")
    sources = sorted(tables.keys() & {LABELS, *models}, key=lambda stem: (stem != LABELS, stem))
    sources.sort(key=lambda stem: not _labels_of(tables[stem], stem))
    first, facts = sources[0], {}
    ids, label_names = tables[first].index.tolist(), list(_labels_of(tables[first], first))
    if not label_names:
        raise ValueError(
            f"no file in {folder} holds the labels: add labels.csv with the columns id and label, or a column 'label' "
            f"to {names[first]}"
        )
    _check_several(tables[first], names[first], _labels_of(tables[first], first))
    for stem in sources:
        table, own = tables[stem], _labels_of(tables[stem], stem)
        _check_ids(table, names[stem], ids, names[first])
        if own and set(own) != set(label_names):
            raise ValueError(
                f"{names[first]} has the labels {', '.join(label_names[:9])}, and {names[stem]} has "
                f"{', '.join([*own][:9])}: leave them out of one, or name them alike. Predictions must not be called "
                f"{', '.join(ONE_LABEL)} or {PREFIX}..."
            )
        for fact, column in [*own.items(), *((None, name) for name in OTHER if name in table.columns)]:
            what = f"label {fact!r}" if fact else column
            _agree(facts, what, table[column].reindex(ids), names[stem])
    labels = pd.DataFrame({name: facts[f"label {name!r}"][0] for name in label_names})
    others = [facts.get(name, (None,))[0] for name in OTHER]
    predictions = {stem: _numbers(tables[stem], names[stem], stem) for stem in models}
    tests = {s.removesuffix(".test"): _numbers(t, names[s], s) for s, t in tables.items() if s.endswith(".test")}
    _check_columns(predictions, tests, names)
    return ImportedFiles(ids, names[first], labels, *others, predictions, tests, names, paths)


def _stem(path: Path) -> str:
    """The name without its ends; "" for what is no table."""
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.stem if name.suffix.lower() in KINDS and not name.name.startswith(".") else ""


def _read(path: Path) -> pd.DataFrame:
    """The table, indexed by its ids, which are there and differ."""
    table = read_table(path)
    if "" in table.columns:
        raise ValueError(f"{path.name} has a column without a name: write it without row numbers (index=False)")
    if "id" not in table.columns:
        raise ValueError(f"{path.name} has no column 'id': it has {', '.join(table.columns[:20])}")
    for bad, what in ((table["id"] == "", "is empty"), (table["id"].duplicated(), "stands in an earlier row already")):
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{path.name}: the value of column 'id' in {name_row(row, table['id'])} {what} ({bad.sum():,} such "
                "rows): every row needs an id of its own"
            )
    return table.set_index("id")


def _labels_of(table: pd.DataFrame, stem: str) -> dict[str, str]:
    """Name -> column of the labels that a table of train holds."""
    found = {column: column for column in table.columns if column in ONE_LABEL}
    found |= {c.removeprefix(PREFIX): c for c in table.columns if c.startswith(PREFIX) and c != PREFIX}
    if not found and stem == LABELS:
        found = {column: column for column in table.columns if column not in OTHER}
    return found


def _check_ids(table: pd.DataFrame, name: str, ids: list[str], first: str) -> None:
    for alone, has, lacks in ((pd.Index(ids).difference(table.index, sort=False), first, name),
                              (table.index.difference(ids, sort=False), name, first)):  # fmt: skip
        if len(alone):
            raise ValueError(
                f"{lacks} has no row with id {alone[0]!r}, and {has} has ({len(alone):,} such ids): all files need the "
                "same ids, written the same way"
            )


def _check_several(table: pd.DataFrame, name: str, labels: dict[str, str]) -> None:
    for column in labels.values() if len(labels) > 1 else ():
        if pd.to_numeric(table[column], errors="coerce").isna().all():
            raise ValueError(
                f"{name}: {', '.join([*labels.values()][:9])} are taken for labels, and column {column!r} holds no "
                "number: call the column of the label 'label', or leave out those that are no labels"
            )


def _agree(facts: dict, what: str, values: pd.Series, name: str) -> None:
    """Keep what a file says of the rows, or compare it with what an earlier file says; "1.0" and "1" are equal."""
    known, where = facts.setdefault(what, (values, name))
    left, right = (pd.to_numeric(column, errors="coerce").to_numpy() for column in (known, values))
    differ = (known != values).to_numpy() & (left != right)
    if differ.any():
        row = int(differ.argmax())
        raise ValueError(
            f"{where} and {name} differ in the {what} of id {known.index[row]!r}: {known.iloc[row]!r} and "
            f"{values.iloc[row]!r} ({differ.sum():,} such rows). Runs are combined on the same rows: correct one"
        )


def _numbers(table: pd.DataFrame, name: str, stem: str) -> pd.DataFrame:
    """The columns of predictions, float64 and finite."""
    labels = set(_labels_of(table, stem).values())
    columns = [column for column in table.columns if column not in OTHER and column not in labels]
    if not columns:
        raise ValueError(f"{name} has no predictions: beside id, fold, group and labels there is no column")
    values = table[columns].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    bad = ~np.isfinite(values.to_numpy())
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{name}: column {columns[column]!r} holds {table[columns[column]].iloc[row]!r} in "
            f"{name_row(row, table.index)}, which is no number ({bad.any(axis=1).sum():,} such rows): every cell of "
            "predictions must be one. Correct it, or leave the column or the file out"
        )
    return values


def _check_columns(models: dict, tests: dict, names: dict[str, str]) -> None:
    """All files have the columns of the first, or one column each, whose name does not count; tests: all or none."""
    first = next(iter(models))
    wanted = set(models[first].columns)
    every = [(names[stem], table) for stem, table in models.items()]
    for stem, table in tests.items():
        if stem not in models:
            raise ValueError(f"{names[stem + '.test']} holds the test predictions of no model: there is no {stem}.csv")
        every.append((names[stem + ".test"], table))
    for name, table in every:
        odd = sorted(wanted ^ set(table.columns))
        if odd and len(wanted) + table.shape[1] > 2:
            has, lacks = (names[first], name) if odd[0] in wanted else (name, names[first])
            raise ValueError(f"{has} has the column {odd[0]!r} and {lacks} has not: all models need the same columns")
    lacking = [stem for stem in models if tests and stem not in tests]
    if lacking:
        raise ValueError(
            f"{names[lacking[0]]} has no {lacking[0]}.test.csv beside it, and other models have: add it, or take the "
            "others away"
        )
    given = next(iter(tests), None)
    for stem, table in tests.items():
        _check_ids(table, names[stem + ".test"], tests[given].index.tolist(), names[given + ".test"])
