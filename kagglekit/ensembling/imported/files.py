"""Files of imported predictions: which file holds what, and whether the files agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.checks import listed, name_row
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.labels import strip_affixes
from kagglekit.competition.read import Note
from kagglekit.ensembling.imported.tables import KINDS, index_by_id, is_test, model_key, read_tables

LABELS = "labels"  # the name of the file that holds them, or one of these:
LABEL_FILES = (LABELS, "label", "train_labels", "y_train", "y_true", "ground_truth", "truth", "solution", "train")
ONE_LABEL = ("label", "target", "labels", "y_true", "ground_truth", "truth")  # of a column, where there is one
PREFIX = "label_"  # of such names where there are several
OTHER = {"fold": ("fold", "kfold", "folds"), "group": ("group",)}


@dataclass(frozen=True, eq=False)
class ImportedFiles:
    """The contents of a folder of prediction files, checked as far as possible without the kind of task.

    ids: of train, in the order of `source`, the file that holds the labels. labels: a column for each, as written
    (str), in that order; fold and group likewise, or None. models, tests: predictions of each model, float64, in the
    order of its own file, whose ids are the index; tests may be empty. names: the file name of each model, of its tests
    (model.test), and of "labels". notes: what was guessed or left out.
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
    notes: list[Note]


def read_files(folder: Path, id: str | None = None, labels: Sequence[str] = ()) -> ImportedFiles:
    """Read every table of the folder. id, labels: the columns; empty: found by their names, or by what they hold.

    Raises FileNotFoundError for a folder without models, and ValueError that names file, column and row for what does
    not fit together.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    notes: list[Note] = []
    tables, names, paths = read_tables(folder, notes)
    alone = next((stem for name in LABEL_FILES for stem in tables if stem.casefold() == name), None)
    if alone and alone != LABELS:
        tables[LABELS], names[LABELS] = tables.pop(alone), names.pop(alone)
        notes.append(("labels", names[LABELS], "by its name"))
    if alone and tables[LABELS].columns[-1] == tables[LABELS].shape[1] - 1:  # an array, whose columns have no names
        several = [f"{PREFIX}{column}" for column in tables[LABELS].columns]
        tables[LABELS] = tables[LABELS].astype(str).set_axis(several if len(several) > 1 else ["label"], axis=1)
    models = [stem for stem in tables if stem != LABELS and not is_test(stem)]
    if not models:
        held = listed(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise FileNotFoundError(f"{folder} has no table of predictions ({', '.join(KINDS)}); it holds {held}")
    for stem, table in tables.items():
        tables[stem] = _usual_names(table, stem, stem == LABELS or LABELS not in tables, labels)
    holding = _find_labels(tables, models, labels, notes)
    sources = sorted(tables.keys() & {LABELS, *models}, key=lambda stem: (not holding[stem], stem != LABELS, stem))
    first, facts = sources[0], {}
    label_names = list(holding[first])
    if not label_names:
        raise ValueError(
            f"no file in {folder} holds the labels: add labels.csv with the columns id and label, or a column 'label' "
            f"to {names[first]}, or name the column: labels="
        )
    tables = index_by_id(tables, names, first, id, notes)
    _check_several(tables[first], names[first], holding[first])
    ids, tests = _share_rows(tables, names, models, first, notes)
    for stem in sources:
        table, own = tables[stem], holding[stem]
        _check_ids(table, names[stem], ids, names[first])
        if own and set(own) != set(label_names):
            raise ValueError(
                f"{names[first]} has the labels {listed(label_names, 9)}, and {names[stem]} has "
                f"{listed([*own], 9)}: leave them out of one, or name them alike. Predictions must not be called "
                f"{', '.join(ONE_LABEL[:2])} or {PREFIX}..."
            )
        for fact, column in [*own.items(), *((None, name) for name in OTHER if name in table.columns)]:
            what = column if fact is None else f"label {fact!r}"
            _agree(facts, what, table[column].reindex(ids), names[stem])
    found = pd.DataFrame({name: facts[f"label {name!r}"][0] for name in label_names})
    others = [facts.get(name, (None,))[0] for name in OTHER]
    predicting = {stem: tables[stem] for stem in models} | {f"{stem}.test": table for stem, table in tests.items()}
    left_out = {column for own in holding.values() for column in own.values()} if LABELS not in tables else set()
    left_out |= {column for stem in models for column in holding[stem].values()}
    words = _columns_of_words({names[stem]: table for stem, table in predicting.items()}, left_out)
    notes += [(f"column {c!r}", "left out", f"{name} holds no number there") for c, name in words.items()]
    read = {stem: _numbers(table, names[stem], {*left_out, *words}) for stem, table in predicting.items()}
    predictions, predicted = (
        {stem: read[stem + end] for stem in some} for some, end in ((models, ""), (tests, ".test"))
    )
    _check_tests(predictions, predicted, names)
    return ImportedFiles(ids, names[first], found, *others, predictions, predicted, names, paths, notes)


def _usual_names(table: pd.DataFrame, stem: str, holds: bool, labels: Sequence[str]) -> pd.DataFrame:
    """The columns fold and group under these names. In a file that needs no labels a lone column is of predictions,
    whatever it is called, as in a submission."""
    lower = {str(name).strip().casefold(): name for name in table.columns}
    for usual, spellings in OTHER.items():
        known = next((lower[name] for name in spellings if name in lower), None)
        if known is not None and usual not in table.columns and known not in labels:
            table = table.rename(columns={known: usual})
    alone = [name for name in table.columns if name not in OTHER and str(name).casefold() in ONE_LABEL]
    rest = [name for name in table.columns if name not in OTHER and str(name).casefold() != "id"]
    if len(alone) == 1 and rest == alone and (not holds or is_test(stem)):
        table = table.rename(columns={alone[0]: "prediction"})
    return table


def _find_labels(
    tables: dict[str, pd.DataFrame], models: list[str], labels: Sequence[str], notes: list[Note]
) -> dict[str, dict[str, str]]:
    """Stem -> name -> column of the labels that each table holds."""
    if labels:
        return {stem: {name: name for name in labels if name in table.columns} for stem, table in tables.items()}
    found = {stem: _labels_of(table) for stem, table in tables.items()}
    if any(found.values()):
        return found
    if LABELS in tables:
        rest = [name for name in tables[LABELS].columns if name not in OTHER and str(name).casefold() != "id"]
        known = _names_of_classes(tables[LABELS], rest, [tables[stem] for stem in models])
        ids = {name for stem in models for name in tables[stem].columns}
        rest = known or [name for name in rest if name not in ids] or rest
        return found | {LABELS: {column: column for column in rest}}
    for stem in models:
        known = _names_of_classes(tables[stem], list(tables[stem].columns), [tables[stem]])
        if known:
            notes.append(("labels", known[0], f"column of {stem}: its values are the names of columns of predictions"))
            found[stem] = {known[0]: known[0]}
    return found


def _names_of_classes(table: pd.DataFrame, columns: list, models: list[pd.DataFrame]) -> list[str]:
    """The one column whose values are the names of columns of predictions, in a list; else none."""
    for model in models:
        numbers = [name for name in model.columns if pd.to_numeric(model[name], errors="coerce").notna().all()]
        if len(numbers) > 1:
            names = {name.casefold() for name in [*map(str, numbers), *strip_affixes(list(map(str, numbers))).values()]}
            known = [c for c in columns if c in table and 1 < table[c].nunique() <= len(numbers)]
            known = [c for c in known if {str(value).strip().casefold() for value in table[c].unique()} <= names]
            known = [c for c in known if not are_numbers(map(str, table[c].unique())).all()]
            return known if len(known) == 1 else []
    return []


def _labels_of(table: pd.DataFrame) -> dict[str, str]:
    """Name -> column of the labels of a table, by the names of its columns."""
    usual = [column for column in table.columns if str(column).casefold() in ONE_LABEL]
    found = {usual[0]: usual[0]} if usual else {}
    return found | {c.removeprefix(PREFIX): c for c in map(str, table.columns) if c.startswith(PREFIX) and c != PREFIX}


def _share_rows(
    tables: dict[str, pd.DataFrame], names: dict[str, str], models: list[str], first: str, notes: list[Note]
) -> tuple[list[str], dict[str, pd.DataFrame]]:
    """The ids of the labelled rows that models predict, and the tables of test. Shortens `tables` to these rows.

    Rows without a prediction in any file are left out; rows that all models have beyond the labelled ones are of test.
    """
    tests = {}
    for stem in [stem for stem in tables if is_test(stem) and stem not in models]:
        same = [model for model in models if model_key(model) == model_key(stem)]
        if len(same) != 1:
            lacks = f"there is no {stem.removesuffix('.test')}.csv" if not same else f"{', '.join(same)} are alike"
            raise ValueError(f"{names[stem]} holds the test predictions of no model: {lacks}")
        tests[same[0]], names[f"{same[0]}.test"] = tables.pop(stem), names[stem]
    labelled = tables[first].index
    known = set(labelled)
    lacking = set.intersection(*(known - set(tables[stem].index) for stem in models))
    more = [set(tables[stem].index) - known for stem in models]
    if lacking and len(lacking) < len(known):
        labelled = labelled[~labelled.isin(lacking)]
        tables[first] = tables[first].loc[labelled]
        notes.append(("rows left out", f"{len(lacking):,}", f"of {names[first]}: no model predicts them"))
    if more[0] and not tests and first not in models and all(extra == more[0] for extra in more):
        for stem in models:
            within = tables[stem].index.isin(known)
            tests[stem], names[f"{stem}.test"] = tables[stem][~within], names[stem]
            tables[stem] = tables[stem][within]
        notes.append(("rows of test", f"{len(more[0]):,}", f"all models have them, and {names[first]} has no label"))
    return labelled.tolist(), tests


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
                f"{name}: {listed([*labels.values()], 9)} are taken for labels, and column {column!r} holds no "
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


def _columns_of_words(tables: dict[str, pd.DataFrame], left_out: set) -> dict[str, str]:
    """The columns without a number in any row, such as a text, and the file of each: they are no predictions."""
    found: dict[str, str] = {}
    for name, table in tables.items():
        for column in table.columns.difference([*OTHER, *left_out], sort=False):
            words = ~table[column].isin(["", "nan", "inf", "-inf"])
            if words.any() and pd.to_numeric(table[column], errors="coerce").isna().all():
                found.setdefault(column, name)
    return found


def _numbers(table: pd.DataFrame, name: str, left_out: set[str]) -> pd.DataFrame:
    """The columns of predictions, float64 and finite."""
    columns = [column for column in table.columns if column not in OTHER and column not in left_out]
    if not columns:
        raise ValueError(f"{name} has no predictions: beside id, fold, group and labels there is no column of numbers")
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


def _check_tests(models: dict, tests: dict, names: dict[str, str]) -> None:
    """Tests: all or none, with the same ids."""
    lacking = [stem for stem in models if tests and stem not in tests]
    if lacking:
        raise ValueError(
            f"{names[lacking[0]]} has no {lacking[0]}.test.csv beside it, and other models have: add it, or take the "
            "others away"
        )
    given = next(iter(tests), None)
    for stem, table in tests.items():
        _check_ids(table, names[stem + ".test"], tests[given].index.tolist(), names[given + ".test"])
