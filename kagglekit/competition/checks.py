"""Checks that a competition's files and the settings agree. Each raises ValueError and names the first bad row."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from kagglekit.competition.formats.csv_tables import count
from kagglekit.competition.formats.label_lists import split_labels
from kagglekit.competition.guess import UNSPACED, are_numbers

AMOUNT = re.compile(r"[%$€£¥₹]|\b(?:USD|EUR|GBP)\b|(?<=\d),(?=\d{3}(?!\d))")  # what stands around digits
PROSE = 6  # words that no name of a column has
NAME = re.compile(r"[A-Za-z_#][\w#.-]*( [\w#.-]+){0,2}", re.ASCII)
LARGEST = 1e15  # a number beyond it is a mistake, and its square too much for single precision


def name_row(row: int, ids: Iterable[str] | None = None) -> str:
    """Position 6 is "data row 7 (id 12)": the header does not count."""
    return f"data row {row + 1}" + ("" if ids is None else f" (id {list(ids)[row]!r})")


def listed(names: Sequence, most: int = 20) -> str:
    """Names in a message, up to so many: "a, b, ..."."""
    return ", ".join([*map(str, names[:most]), *(["..."] if len(names) > most else [])])


def first_bad(bad: np.ndarray, column: pd.Series, ids: Iterable[str] | None, why: str) -> str:
    """The first bad cell of a column: "column 'age' holds 'x' in data row 5 (id 'e'), which is ... (2 such rows)"."""
    row = int(np.argmax(bad))
    known = "" if ids is None else f" (id {list(ids)[row]!r})"
    where = f"column {column.name!r} holds {column.iloc[row]!r} in {name_row(column.index[row])}{known}"
    return f"{where}, {why} ({np.sum(bad):,} such rows)"


def check_header(train: pd.DataFrame, name: str, test: pd.DataFrame, test_name: str) -> bool:
    """Whether both tables have a header, and False where none has; see `_row_in_header`. Where train has one, that of
    test is none if it shares no name with it, and holds a number or a text. Raises ValueError where one alone has."""
    if row := _row_in_header(train, test):
        if any(column in set(test[column]) or not NAME.fullmatch(column) for column in test.columns):
            return False
        raise ValueError(
            f"{name} has no header: its first line holds {row}. Put a line of {count(train.columns, 'name')} above it; "
            f"the texts need the same names in {test_name}"
        )
    apart = not {*_plain(train)} & {*_plain(test)}
    if cells := [column for column in test.columns if apart and (are_numbers([column]).all() or _is_text(column))]:
        raise ValueError(
            f"{test_name} has no header: its first line holds {cells[0][:60]!r}, and no name of {name}. Put a line of "
            f"{count(test.columns, 'name')} above it, as {name} calls them: {listed(list(train.columns))}"
        )
    return True


def _row_in_header(train: pd.DataFrame, test: pd.DataFrame) -> str:
    """What shows that the first line of train is a row; "" where it is a header.

    One of its cells is a value of its own column, such as a label, and none is a name in test; numbers, and other
    values of a column, are no names. Or it shares none at all with test, and has a text.
    """
    if list(train.columns) == [str(place) for place in range(len(train.columns))]:
        return ""  # as pandas names them
    values = [column for column in train.columns if column.strip() and column in set(train[column])]
    shared = [column for column in train.columns if column in test.columns and not are_numbers([column]).all()]
    shared = [column for column in shared if not re.fullmatch(r"column \d+", column)]  # a cell without a name
    same = [column for column in shared if column in values]
    if values and same == shared and (len(same) > 1 or len(values) > len(same)):
        return f"{values[0]!r}, as rows below do"
    texts = [column for column in train.columns if _is_text(column)]
    return f"{texts[0][:60]!r}, which is a text" if texts and not {*_plain(train)} & {*_plain(test)} else ""


def _plain(table: pd.DataFrame) -> list[str]:
    return [column.strip().casefold() for column in table.columns]


def _is_text(name: str) -> bool:
    """Whether a name has more words than any column."""
    return len(name.split()) + len(UNSPACED.findall(name)) / 2 >= PROSE


def check_ids(tables: dict[str, pd.DataFrame], names: dict[str, str], id: str) -> None:
    """Ids are present and unique, the sample submission has exactly those of test. Train may lack the column; without
    an id, "", rows go by order and both have as many."""
    sample, test = tables["sample_submission"], tables["test"]
    if not id:
        if len(sample) != len(test):
            raise ValueError(
                f"{names['sample_submission']} has {len(sample):,} rows and {names['test']} {len(test):,}: without a "
                "column of ids, rows go by order, and there must be as many. Say id= if there is one"
            )
        return
    for what, table in tables.items():
        if id not in table.columns:
            if what == "train":
                continue
            if what == "test" and id in sample and not any(sample[id].isin(test[column]).any() for column in test):
                raise ValueError(
                    f"{names[what]} has no column with the ids of {names['sample_submission']} ({id!r}, such as "
                    f"{sample[id].iloc[0]!r}): add it, with a row for each of the {len(sample):,} ids"
                )
            raise ValueError(
                f"{names[what]} has no column {id!r} (id); it has {listed(table.columns)}. Say id=, or rename one"
            )
        empty, twice = table[id] == "", table[id].duplicated()
        if empty.any():
            where = name_row(int(empty.argmax()))
            raise ValueError(f"{names[what]}: {where} has no value in the id column {id!r}; add it")
        if twice.any():
            again = int(twice.argmax())
            value = table[id].iloc[again]
            why = "A row is a text here, and labels of whole texts are predicted: no spans, no tokens"
            if what == "train" and table.duplicated([c for c in table if c in test])[twice].all():
                why = "Write each text once, with the label that most of its rows have"
            raise ValueError(
                f"{names[what]}: column {id!r} holds {value!r} in data rows {int((table[id] == value).argmax()) + 1} "
                f"and {again + 1}; ids must differ ({twice.sum():,} repeat an earlier one). {why}"
            )
    if len(sample.columns) < 2:
        raise ValueError(f"{names['sample_submission']} has only the id column {id!r}: it must show what to submit")
    for one, other in (("sample_submission", "test"), ("test", "sample_submission")):
        missing = ~tables[one][id].isin(tables[other][id])
        if missing.any():
            where = name_row(int(missing.argmax()), tables[one][id])
            why = "both must have the same ids, written the same way"
            if one == "test":
                why = "leave the rows out of test that need no prediction, or add them to the sample"
            elif len(sample) > len(test) and sample[id].str.startswith(tuple(test[id])).all():
                why = "give a sample with a row for each text and a column for each label; pandas.melt makes this form"
            raise ValueError(
                f"{names[one]}: {where} is not in column {id!r} of {names[other]} "
                f"({missing.sum():,} such ids), which begins with {tables[other][id].iloc[0]!r}; {why}"
            )


def check_columns(train: pd.DataFrame, name: str, id: str, group: str | None, labels: list[str]) -> None:
    """The group and label columns are in train and different from each other, and the group is filled in."""
    for what, columns in (("group", [group] if group else []), ("labels", labels)):
        for column in columns:
            if column not in train.columns:
                raise ValueError(f"{what}={column!r} is no column of {name}; it has {listed(train.columns)}")
    if group and (empty := (train[group].str.strip() == "").to_numpy()).any():
        where = name_row(int(empty.argmax()), train.get(id))
        raise ValueError(
            f"{name}: column {group!r} has no value in {where} ({empty.sum():,} such rows); fill them in, or say "
            "another group="
        )
    reserved = {id, "id", "text", *([group, "group"] if group else [])}
    clash = [label for label in labels if label in reserved or labels.count(label) > 1]
    if clash:
        raise ValueError(f"labels={labels} of {name}: {clash[0]!r} stands for another column too")


def check_missing(missing: np.ndarray, column: pd.Series, name: str, id: Iterable[str] | None) -> None:
    """No label is missing. missing: which rows of the column are."""
    if missing.any():
        numbers = are_numbers(column[~missing]).all()
        if cell := column[missing].iloc[0].strip():
            cell = first_bad(missing, column, id, "which is no label")
            advice = "" if numbers else f", or name it in classes= if {column[missing].iloc[0]!r} is one"
        else:
            cell = f"column {column.name!r} has no value in {name_row(int(missing.argmax()), id)}"
            cell, advice = f"{cell} ({missing.sum():,} such rows)", ""
        raise ValueError(f"{name}: {cell}; correct it, or leave such rows out with drop_unlabelled=True{advice}")


def check_objects(column: pd.Series, name: str, id: Iterable[str] | None) -> None:
    """No label is an object of JSON."""
    objects = column.str.strip().str.fullmatch(r"\[?\s*\{.*:.*\}\s*\]?", flags=re.DOTALL).to_numpy(bool)
    if objects.any() and (objects := objects & [split_labels(cell, "list") is None for cell in column]).any():
        cell = first_bad(objects, column, id, "which is an object and no label")
        raise ValueError(f"{name}: {cell}; make it one column a label, and name these in labels=")


def check_lists(column: pd.Series, name: str, id: Iterable[str] | None) -> None:
    """A column of labels holds no list in brackets, which would be a class of its own; lists are whole ones."""
    bad = column.str.fullmatch(r"\s*\[.*\]\s*", flags=re.DOTALL).to_numpy(dtype=bool)
    why, advice = "a list, and most rows hold one label", "write one label there, or lists in every row"
    if bad.sum() >= len(column) / 2:
        bad = bad & [split_labels(cell, "list") is None for cell in column]
        why, advice = "no whole list, and most rows hold one", "write all of it"
    if bad.any():
        raise ValueError(f"{name}: {first_bad(bad, column, id, why)}; {advice}")


def check_label_list(made: Sequence[str], column: pd.Series, name: str) -> None:
    """The labels of a column of lists are fewer than its rows, as spans are not, and no 0 and 1 for each label."""
    if {*made} == {"0", "1"} and len(sizes := {*column.str.count("[01]")}) == 1 and max(sizes) > 2:
        raise ValueError(
            f"{name}: column {column.name!r} holds {max(sizes)} numbers in each row, such as {column.iloc[0]!r}: a 0 "
            "or 1 for each label, it seems. Make a column of each, and name them in labels="
        )
    if len(made) > max(20, len(column) / 2):
        raise ValueError(
            f"{name}: column {column.name!r} lists {len(made):,} different labels in {len(column):,} rows "
            f"({listed(made, 3)}): these are no classes, but spans or answers, which are not predicted. Say labels="
        )


def check_numbers(column: pd.Series, name: str, id: Iterable[str] | None, shown: Iterable[str]) -> None:
    """A column that holds nearly only numbers holds nothing else: no "%" or "$". shown: cells of the sample; where they
    are other numbers, so are the labels, however few there are."""
    bad, bare = ~are_numbers(column), column.str.replace(AMOUNT, "", regex=True)
    if not are_numbers(bare).all():  # 1.234,56 or 1 234,56
        bare = bare.str.replace(r"(?<=\d)[.\s'](?=\d{3}(?!\d))", "", regex=True).str.replace(",", ".")
    others = [AMOUNT.sub("", cell) for cell in {*shown} - {*column}]
    many = column.nunique() > (2 if others and are_numbers(others).all() else 20)
    if many and bad.any() and are_numbers(bare).all():
        cell, plain = first_bad(bad, column, id, "a number with a sign or commas"), bare.iloc[int(bad.argmax())].strip()
        raise ValueError(f"{name}: {cell}; write {plain}, or say kind='multiclass' if these are names of classes")
    if 0 < bad.mean() < 0.1 and column[~bad].nunique() > 20:
        cell = first_bad(bad, column, id, "and the other rows hold numbers")
        raise ValueError(f"{name}: {cell}; correct it, or say kind='multiclass' if these are names of classes")


def check_kind(kind: str, train: pd.DataFrame, name: str, id: str, labels: list[str], ordered: bool) -> None:
    """The labels can be of this kind. `ordered`: the order of the classes was given."""
    several = len(labels) > 1
    if several and kind not in ("multilabel", "regression"):
        raise ValueError(f"kind={kind!r} has one label column, and labels= names {len(labels)}: {', '.join(labels)}")
    if kind == "multilabel" and not several:
        raise ValueError(f"kind='multilabel' needs several label columns of 0 and 1, and there is one: {labels[0]!r}")
    for label in labels:
        values = train[label]
        if values.nunique() == 1:
            raise ValueError(f"{name}: column {label!r} is {values.iloc[0]!r} in every row; there is nothing to learn")
        bad = np.zeros(len(train), dtype=bool)
        if kind in ("multilabel", "regression") or (kind == "ordinal" and not ordered):
            bad = ~are_numbers(values)
        if kind == "multilabel":
            bad[~bad] = ~np.isin([float(value) for value in values[~bad]], (0, 1))
        if kind == "regression" and not bad.any() and (bad := np.abs(values.astype(np.float64)) > LARGEST).any():
            cell = first_bad(bad.to_numpy(), values, train.get(id), f"and no label is larger than {LARGEST:g}")
            raise ValueError(f"{name}: {cell}; correct it")
        if bad.any():
            wanted = "0 or 1" if kind == "multilabel" else "a number"
            advice = (
                "say classes= in their order" if kind == "ordinal" else "correct it, or say another kind= or labels="
            )
            cell = first_bad(bad, values, train.get(id), f"and kind={kind!r} wants {wanted}")
            raise ValueError(f"{name}: {cell}; {advice}")
    if kind == "binary" and train[labels[0]].nunique() != 2:
        values = sorted(train[labels[0]].unique())
        raise ValueError(
            f"kind='binary' wants 2 classes, and column {labels[0]!r} of {name} has {len(values)} "
            f"({listed(values, 9)}); say kind='multiclass', or correct them"
        )


def check_classes(
    kind: str, classes: list[str], train: pd.DataFrame, name: str, id: str, labels: list[str], shown: list[str]
) -> None:
    """Every label is a class, and every class has a row, or a column in the sample submission (`shown`)."""
    if kind in ("multilabel", "regression"):
        if classes:
            raise ValueError(f"classes= does not go with kind={kind!r}, which has none")
        return
    values = train[labels[0]]
    if are_numbers(values).all() and len({float(one) for one in set(values)}) < values.nunique():
        raise ValueError(
            f"{name}: column {labels[0]!r} writes the same number in two ways ({listed(sorted(set(values)))}); "
            "merge_spellings=True makes one class of them"
        )
    unknown = ~values.isin(classes).to_numpy()
    if unknown.any():
        cell = first_bad(unknown, values, train.get(id), f"which is none of the classes {listed(classes)}")
        which = (
            f", or which column is which: mapping={{{min(values)!r}: {shown[0]!r}, ...}}"
            if len(shown) == values.nunique()
            else ""
        )
        raise ValueError(f"{name}: {cell}; correct it, or say classes={which}")
    without = [one for one in classes if one not in set(values) and one not in shown]
    twice = [one for one in classes if classes.count(one) > 1]
    if without or twice:
        what = f"class {without[0]!r} has no row in" if without else f"class {twice[0]!r} is named twice for"
        raise ValueError(f"{what} column {labels[0]!r} of {name}; say classes= without it")


def check_text(
    text: list[str],
    taken: set[str],
    train: pd.DataFrame,
    test: pd.DataFrame,
    names: dict[str, str],
    pattern: str | None = None,
) -> None:
    """The text columns are in train and test, and hold something."""
    for column in text:
        what = f"template={pattern!r}: {column!r}" if pattern else f"text={column!r}"
        for file, table in (("train", train), ("test", test)):
            if column not in table.columns:
                raise ValueError(f"{what} is no column of {names[file]}; it has {listed(table.columns)}")
        if column in taken:
            raise ValueError(f"{what} is a label already; name a column of text")
        if not train[column].str.strip().any():
            raise ValueError(
                f"{names['train']}: the text column {column!r} is empty in every row; name a column of text"
            )
