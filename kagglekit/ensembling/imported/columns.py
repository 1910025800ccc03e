"""Columns of imported predictions: which belongs to which class, in every file, and logits as probabilities."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, softmax

from kagglekit.competition.checks import listed, name_row
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.labels import strip_affixes
from kagglekit.competition.read import Note
from kagglekit.scoring.metrics import CLASSES

NEAR_ONE = 0.02  # how far the sum of a row's probabilities may be from 1: they may be rounded
OUTSIDE = 0.05  # the share of rows that hold no probabilities, from which a file is taken for logits
CLEARLY = 3  # standard errors by which another order of the classes must be right more often to be taken


def plain_names(columns: Sequence) -> list[str]:
    """The names without what all begin and end with, in lower case; the numbers of arrays' columns as text."""
    names = [str(name).strip() for name in columns]
    return [stripped.strip().casefold() or name.casefold() for name, stripped in strip_affixes(names).items()]


def align_columns(tables: dict[str, pd.DataFrame], names: dict[str, str], notes: list[Note]) -> dict[str, pd.DataFrame]:
    """The tables with the columns of the first that names its own, so that all are called alike.

    Others are matched by name, by name but for case and what all names of a file begin or end with ("prob_cat"), or,
    where they are mere numbers, by their order. Raises ValueError for columns that are not in all files.
    """
    first = next((stem for stem, table in tables.items() if not _are_places(table.columns)), next(iter(tables)))
    wanted, found, by_order = [str(name) for name in tables[first].columns], {}, []
    for stem, table in tables.items():
        columns = [str(name) for name in table.columns]
        if set(columns) == set(wanted) and (stem == first or len(set(columns)) == len(columns)):
            found[stem] = table.set_axis(columns, axis=1)
            continue
        match = dict(zip(plain_names(wanted), wanted, strict=True))
        plain = plain_names(columns)
        if len(columns) == len(wanted) and set(plain) == set(match) and len(match) == len(wanted):
            found[stem] = table.set_axis([match[name] for name in plain], axis=1)
        elif len(columns) == len(wanted) and (len(wanted) == 1 or _are_places(table.columns)):
            found[stem] = table.set_axis(wanted, axis=1)
            by_order += [names[stem]] * (len(wanted) > 1)
        else:
            odd = sorted(set(wanted) ^ set(columns))[0]
            has, lacks = (names[first], names[stem]) if odd in wanted else (names[stem], names[first])
            raise ValueError(f"{has} has the column {odd!r} and {lacks} has not: all models need the same columns")
    if by_order:
        reason = f"they have no names there: {listed(wanted, 9)} is assumed"
        notes.append(("columns by their order", listed(by_order, 4), reason))
    return found


def _are_places(columns: Sequence) -> bool:
    """Whether columns are called 0, 1, 2, or class_1, class_2: in order, and no more."""
    plain, count = plain_names(columns), len(columns)
    return plain in ([str(place) for place in range(count)], [str(place + 1) for place in range(count)])


def name_classes(
    columns: list[str], values: pd.Series, models: dict[str, pd.DataFrame], classes: Sequence[str], notes: list[Note]
) -> tuple[list[str], dict[str, str]]:
    """The classes, one for each column, and label as written -> class.

    values: the labels, as written. models: with these columns, rows as in `values`. classes: as given, in the order of
    the columns or of the labels' numbers; empty: inferred. Labels are names of columns, or, where only one of both is a
    name, numbers of columns: that is checked against the predictions. Raises ValueError where they do not go together.
    """
    written = sorted(set(values))
    plain = dict(zip(plain_names(columns), columns, strict=True))
    alike = {value: _same(value, columns, plain) for value in written}
    places = _are_places(columns)
    if not classes and all(alike.values()):
        named = {column: value for value, column in alike.items() if not are_numbers([value]).all()}
        classes = [named.get(column, column) for column in columns]
        return classes, {value: classes[columns.index(column)] for value, column in alike.items()}
    if classes and (len(set(classes)) != len(columns) or len(classes) != len(columns)):
        raise ValueError(f"classes={list(classes)}: name {len(columns)} classes, one for each column of predictions")
    if places:  # columns are numbers, labels are names
        named = list(classes) or written
        unknown = [value for value in written if value not in named]
        if unknown or len(named) != len(columns):
            raise ValueError(
                f"the labels are {listed([*map(repr, written)], 9)}, and the predictions have {len(columns)} columns "
                "without names: say classes= in their order"
            )
        order = dict(zip(named, columns, strict=True))
        best = order if classes else _check_order(order, values, models, "the classes by alphabet", notes)
        back = {column: value for value, column in best.items()}
        return [back[column] for column in columns], {value: value for value in written}
    numbers = are_numbers(written).all() and [float(value) for value in written]
    for base in (0, 1):
        if numbers and all(number - base in range(len(columns)) for number in numbers):
            named = [_same(name, columns, plain) for name in classes] or columns
            if None in named:
                raise ValueError(f"classes={list(classes)}: the predictions have the columns {listed(columns, 9)}")
            order = {value: named[int(number) - base] for value, number in zip(written, numbers, strict=True)}
            if not classes:
                order = _check_order(order, values, models, "the label is the number of the column", notes)
            return columns, order
    unknown = next(value for value in written if not alike[value])
    row = int((values == unknown).to_numpy().argmax())
    raise ValueError(
        f"column {values.name!r} holds {unknown!r} in {name_row(row, values.index)}, and the predictions have the "
        f"columns {listed(columns, 9)}: name each column as its class is written"
    )


def _same(value: str, columns: list[str], plain: dict[str, str]) -> str | None:
    """The column of this name, or of the same number, or of the name but for case and common beginnings and ends."""
    if value in columns:
        return value
    if are_numbers([value]).all():
        equal = [plain[name] for name in plain if are_numbers([name]).all() and float(name) == float(value)]
        return equal[0] if equal else None
    return plain.get(value.strip().casefold())


def _check_order(
    order: dict[str, str], values: pd.Series, models: dict[str, pd.DataFrame], rule: str, notes: list[Note]
) -> dict[str, str]:
    """Label -> column in this order, or in the one in which the predictions are clearly right more often; told."""
    columns, written = list(next(iter(models.values())).columns), list(order)
    codes = pd.Categorical(values, categories=written).codes
    counts = np.zeros((len(written), len(columns)))  # rows of a label, by the column that is largest
    for table in models.values():
        largest = table.loc[values.index, columns].to_numpy().argmax(axis=1)
        np.add.at(counts, (codes, largest), 1 / len(models))
    shares = counts / len(values)
    given = [columns.index(order[value]) for value in written]
    best = linear_sum_assignment(-shares)[1].tolist()
    right, possible = (shares[np.arange(len(written)), each].sum() for each in (given, best))
    reason = f"{rule}: so {right:.0%} of the largest predictions are right"
    if possible - right > CLEARLY * np.sqrt((possible + right) / len(values)):
        order = {value: columns[place] for value, place in zip(written, best, strict=True)}
        reason = f"by the predictions: so {possible:.0%} of the largest are right, and {right:.0%} if {rule}"
    shown = [f"{value!r} is column {column!r}" for value, column in order.items()]
    notes.append(("classes", listed(shown, 9), f"{reason}; classes= says another order"))
    return order


def holds_logits(table: pd.DataFrame) -> bool:
    """Whether more than one row in twenty holds no probabilities, and some are far from any; shares of a sum that is
    the same in all rows, such as 100, are none."""
    values = table.to_numpy()
    if values.shape[1] > 1 and values.min() >= 0 and np.ptp(values.sum(axis=1)) < 1e-3:
        return False
    outside = ((values < -1e-6) | (values > 1 + 1e-6)).any(axis=1)
    return bool(outside.mean() > OUTSIDE and (values.min() < -0.5 or values.max() > 1.5))


def to_probabilities(table: pd.DataFrame, name: str, kind: str, logits: bool = False) -> pd.DataFrame:
    """Predictions of classes or labels as probabilities; rows of several columns of classes sum to 1.

    logits: they go through a softmax first, or of one column or several labels through a sigmoid. Raises ValueError for
    values that are no probabilities, and for rows whose probabilities are more than 0.02 from 1 in sum; the others are
    scaled.
    """
    values, sums_to_one = table.to_numpy(), kind in CLASSES and table.shape[1] > 1
    if logits:
        made = softmax(values, axis=1) if sums_to_one else expit(values)
        return pd.DataFrame(made, index=table.index, columns=table.columns)
    bad = (values < -1e-6) | (values > 1 + 1e-6)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{name}: column {table.columns[column]!r} holds {values[row, column]:g} in "
            f"{name_row(row, table.index)}, which is no probability ({bad.any(axis=1).sum():,} such rows): put "
            f"logits through {'a softmax' if sums_to_one else 'a sigmoid'} first, or say another kind="
        )
    table = table.clip(0, 1)
    if not sums_to_one:
        return table
    sums = table.sum(axis=1).to_numpy()
    far = abs(sums - 1) > NEAR_ONE
    if far.any():
        row = int(far.argmax())
        raise ValueError(
            f"{name}: the probabilities of {name_row(row, table.index)} are {sums[row]:g} in sum and not 1 "
            f"({far.sum():,} such rows): divide each row by its sum, or say kind='multilabel' with a column label_NAME "
            "for each label"
        )
    return table.div(sums, axis=0)
