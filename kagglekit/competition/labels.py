"""Labels as competitions write them (a column, a 1 in one of several, several in a cell, shares), brought to one form.

A layout says how train holds them: "" is a column of its own for each label; "largest": the class is the column with
the largest number, such as the only 1 of a row; "list": several labels in one cell; "threshold": fractions, of which
those from 0.5 on are 1; "votes" and "mean": columns of several annotators, of which the most frequent answer counts, or
the mean of their numbers; "comma": numbers with a comma for the point.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from kagglekit.competition.formats.label_lists import SEPARATORS, find_separator, split_labels
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.read import NAMELESS
from kagglekit.scoring.metrics import find_metric

MISSING = {"", "nan", "na", "n/a", "#n/a", "null", "<na>"}  # what no label is, in any case, unless it is a known class
COMMA = re.compile(r"\b0,|,(?!\d{3}\b)")  # of decimals, not between thousands
SIGNS = {"-", "--", "?"}  # nor these beside labels of letters or digits, but for + and -
VOTE = re.compile(  # "label_1", "rater2", "annotator_b", "coder-anna": name, and which annotator
    r"(.*?)[\W_]*\d+|(.*?)[\W_]+[a-z]|(annotator|rater|coder|judge|worker|expert|reviewer|labell?er|vote)s?[\W_].+",
    re.I,
)
USUAL = re.compile(r"labels?|targets?|class(es)?|y|category", re.IGNORECASE)


def is_missing(column: pd.Series, known: Iterable[str]) -> np.ndarray:
    """Which cells are no labels: blank, or a word or sign for a missing value that is no `known` class; bool (n,)."""
    cells = column.str.strip().str.casefold()
    values = {*cells} - MISSING
    signs = SIGNS if "+" not in values and any(sign.isalnum() for value in values for sign in value) else set()
    return (cells.isin(MISSING | signs) & ~column.isin(set(known))).to_numpy()


def guess_labels(
    train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, targets: list[str], taken: set
) -> tuple[list[str], str]:
    """The sample's columns if train has them; else the train-only column that holds their names, or their values; else
    the only such column, or the only one that is called label or target."""
    if set(targets) <= set(train.columns):
        return targets, "in train and in the sample submission"
    bare = [*strip_affixes(targets).values()]
    if {*bare} <= {*train.columns}:
        return bare, "in train, and in the sample submission with one beginning or end"
    parts = re.split(r"[^\w ]", targets[0])
    if len(targets) == 1 and len(parts) > 1 and set(parts) <= set(train.columns):
        sep = targets[0][len(parts[0])]
        made = f" + {sep!r} + ".join(f"train[{part!r}]" for part in parts)
        raise ValueError(
            f"train has {' and '.join(parts)} apart: give it a column {targets[0]!r} of both, {made} (after "
            "pandas.read_csv(..., dtype=str, keep_default_na=False), which leaves NA as it is)"
        )
    only = [column for column in train.columns if column not in test.columns and column not in taken]
    only = [column for column in only if not NAMELESS.fullmatch(column)]
    values = {column: set(train[column].str.strip()) - {""} for column in only if len(targets) > 1}
    holding = [column for column, found in values.items() if found and match_columns(found, targets)]
    if len(holding) == 1:
        return holding, "its values are the columns of the sample submission"
    lacking = [target for target in targets if target not in train.columns]
    if len(targets) > len(lacking) > 0:
        raise ValueError(
            f"the sample submission asks for {', '.join(targets[:9])}, and train has no column {lacking[0]!r}: leave "
            "it out of the sample, or say labels="
        )
    if len(only) == 1:
        return only, "the only column that train has and test has not"
    shown = set(sample[targets[0]]) - {""} if len(targets) == 1 else set()
    alike = [column for column in only if shown and not are_numbers(shown).all() and shown <= set(train[column])]
    if len(alike) == 1:
        return alike, f"it holds the values of {targets[0]!r} of the sample submission, and test has no such column"
    usual = [column for column in only if len(targets) == 1 and USUAL.fullmatch(column.strip())]
    if len(usual) == 1:
        return usual, "test has no such column, and of those that train alone has it is called a label"
    votes = find_votes(train, only)
    said = {value for column in votes for value in train[column]}
    others = [column for column in only if column not in votes and {*train[column]} <= said]
    if votes and not others and (len(targets) == 1 or {*votes} <= {*holding}):
        return votes, "answers of several annotators, and test has no such columns"
    found = f"train has {', '.join(only)} and test has not" if only else "train has no column that test has not"
    raise ValueError(
        f"which column holds the labels? The sample submission asks for {', '.join(targets[:9])}; {found}. Say labels="
    )


def find_votes(train: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Three or more columns in which several annotators say which class a row is of: named alike but for a number, a
    letter or who they are, with few values, that others have too. Empty where there are none."""
    named: dict[str, list[str]] = {}
    for column, found in ((column, VOTE.fullmatch(column.strip())) for column in columns):
        if found:
            named.setdefault(next(filter(None, found.groups()), "").casefold(), []).append(column)
    group = max(named.values(), key=len, default=[])
    values = [{*train[column][~is_missing(train[column], ())]} for column in group]
    shared = [one & {value for other in values if other is not one for value in other} for one in values]
    alike = all(0 < len(one) <= 20 and 2 * len(same) > len(one) for one, same in zip(values, shared, strict=True))
    if len(group) < 3 or not alike:
        return []
    one_hot = set().union(*values) <= {"0", "1"} and (train[group] == "1").sum(axis=1).eq(1).all()
    return [] if one_hot else group


def unlabelled(table: pd.DataFrame, columns: Sequence[str], layout: str, known: Iterable[str]) -> np.ndarray:
    """Which rows have no label, bool (n,): a column of theirs is blank, and of several annotators all are."""
    missing = [is_missing(table[column], known) for column in columns if layout != "list"]
    rule = np.all if layout in ("votes", "mean") else np.any
    return rule(missing, axis=0) if missing else np.zeros(len(table), dtype=bool)


def strip_affixes(names: Sequence[str]) -> dict[str, str]:
    """Names without the beginning and the end that all of them share: {"prob_cat": "cat", "prob_dog": "dog"}; of a word
    and a number the number: {"class1": "1", "class2": "2"}."""
    numbered = [re.fullmatch(r"([^\W\d]+)(\d+)", name) for name in names]
    if len(names) > 1 and all(numbered) and len({found[1] for found in numbered}) == 1:
        return {name: found[2] for name, found in zip(names, numbered, strict=True)}
    start, end = shared_start(names), shared_start([name[::-1] for name in names])
    return {name: name[len(start) : len(name) - len(end)] if len(names) > 1 else name for name in names}


def match_columns(names: Iterable[str], targets: Sequence[str]) -> dict[str, str]:
    """Columns of the sample submission by the name that they stand for: {"cat": "prob_cat", "Dog": "prob_dog"}.

    They stand for `names`, and for others beside. A name is the column, the column without what all of them begin or
    end with, or one of the two but for case, blanks and signs. Empty where a name is none of these.
    """
    names, bare = {*names}, strip_affixes(targets)
    for short in ({one: one for one in targets}, bare):
        if names <= {*short.values()}:
            return {short[one]: one for one in targets}
    for short in ({one: one for one in targets}, bare):
        keys = {plain_label(one): target for target, one in short.items()}
        found = {name: keys.get(plain_label(name)) for name in sorted(names)}
        if None not in found.values() and len({*found.values()}) == len(found) and len(keys) == len(targets):
            written = {target: name for name, target in found.items()}
            return {written.get(target, short[target]): target for target in targets}
    return {}


def match_affixes(names: Sequence[str], columns: Iterable[str]) -> dict[str, str]:
    """Columns that are a name with one beginning or end: {"cat": "label_cat", "dog": "label_dog"}; empty unless all
    names have one."""
    columns = [*columns]
    for before, found, after in (column.partition(names[0]) for column in columns if len(names) > 1):
        matched = {name: f"{before}{name}{after}" for name in names}
        signs = re.fullmatch(r".*[\W_]|", before) and re.fullmatch(r"[\W_].*|", after)
        if found and signs and {*matched.values()} <= {*columns}:
            return matched
    return {}


def plain_label(name: str) -> str:
    """A label without case, blanks and signs: "Bad smell" and "bad_smell" are "badsmell"; 1 is "1.0"."""
    if are_numbers([name]).all():
        return str(float(name))
    return re.sub(r"[\W_]+", "", name.casefold()) or name.strip()


def shared_start(names: Sequence[str]) -> str:
    """What all names begin with, up to the last sign that is no letter or digit: "prob_" of prob_cat and prob_cow."""
    first, last = min(names), max(names)
    same = next((place for place, letter in enumerate(first) if last[place : place + 1] != letter), len(first))
    return re.match(r"(.*[\W_])?", first[:same], re.DOTALL).group()


def guess_layout(
    train: pd.DataFrame,
    columns: list[str],
    targets: Mapping[str, Iterable[str]],
    kind: str | None,
    metric: str | None,
    sep: str | None,
) -> tuple[str, str, str]:
    """Layout, separator of several labels in one cell, and the reason. targets: columns of the sample, and their cells;
    kind, metric, sep: as given."""
    kinds = find_metric(metric).kinds if metric else ()
    of_classes = kind in ("binary", "multiclass", "multilabel") or (bool(kinds) and "regression" not in kinds)
    if kind != "multilabel" and {*columns}.isdisjoint(targets) and find_votes(train, columns) == columns:
        cells = [cell for column in (train[one] for one in columns) for cell in column[~is_missing(column, ())]]
        shown = [cell for cells in targets.values() for cell in cells] if len(targets) == 1 else []
        fractions = are_numbers(shown).all() and any(float(cell) % 1 for cell in shown)
        if are_numbers(cells).all() and not of_classes and (fractions or kind == "regression" or kinds):
            return "mean", "", f"the mean of {len(columns)} annotators"
        return "votes", "", f"what most of {len(columns)} annotators say, the first of them where as many say another"
    if len(columns) == 1 and kind not in ("regression", "ordinal"):
        found = find_separator(train[columns[0]], targets) if sep is None else sep
        if found:
            return "list", found, f"several labels in one cell, divided by {SEPARATORS.get(found, repr(found))}"
    cells = {cell for column in columns for cell in set(train[column])}
    if (
        not sep
        and not of_classes
        and are_numbers(cell.replace(",", ".", 1) for cell in cells).all()
        and any(map(COMMA.search, cells))
    ):
        return "comma", "", "numbers with a comma for the point; label_sep=',' if they are several labels"
    if sep or kind in ("regression", "ordinal") or not all(are_numbers(train[column]).all() for column in columns):
        return "", "", ""
    values = train[columns].to_numpy(dtype=object).astype(np.float64)
    fractions = ((values % 1) != 0).any()
    if values.min() < 0 or values.max() > 1:
        return "", "", ""
    if len(columns) > 1 and kind != "multilabel" and np.allclose(values.sum(axis=1), 1, atol=0.01):
        if not fractions:
            return "largest", "", "every row holds one 1: one label, and not several"
        if not kinds or of_classes:
            return (
                "largest",
                "",
                "the numbers of a row sum to 1: the class is the largest; soft_targets= learns them all",
            )
    if fractions and of_classes:
        return "threshold", "", "fractions, and a metric or kind of classes: from 0.5 on they count as 1"
    return "", "", ""


def name_labels(train: pd.DataFrame, columns: list[str], layout: str, sep: str, targets: list[str]) -> list[str]:
    """The label columns that `decode` makes: for a list one a label (in the order of the sample's columns where it has
    them), for annotators the sample's column, for "largest" one with the beginning that all columns share."""
    if layout == "list":
        found = {label for cell in train[columns[0]] for label in split_labels(cell, sep) or []}
        numbers = are_numbers(found).all()
        return targets if found <= set(targets) else sorted(found, key=float if numbers else str)
    if layout in ("votes", "mean") and len(targets) == 1 and targets[0] not in train.columns:
        return targets
    if layout in ("largest", "votes", "mean"):
        name = re.sub(r"[\W_]+$", "", shared_start(columns))
        return [name if name and name not in train.columns else "label"]
    return columns


def decode(
    train: pd.DataFrame, layout: str, columns: list[str], labels: list[str], sep: str, spellings: dict[str, str]
) -> dict[str, np.ndarray | list[str]]:
    """The columns `labels` of train, one a label, all str. Raises ValueError for a cell that is no list."""
    if layout in ("largest", "threshold"):
        values = np.array([[float(spellings.get(cell, cell)) for cell in train[column]] for column in columns])
        if layout == "largest":
            return {labels[0]: np.array(columns, dtype=object)[values.argmax(axis=0)]}
        return {label: np.where(row >= 0.5, "1", "0").astype(object) for label, row in zip(labels, values, strict=True)}
    if layout == "list":
        rows = [split_labels(cell, sep) for cell in train[columns[0]]]
        if None in rows:
            row = rows.index(None)
            cell = f"column {columns[0]!r} holds {train[columns[0]].iloc[row]!r} in data row {train.index[row] + 1}"
            raise ValueError(f"{cell}, which is no list of labels")
        sets = [{spellings.get(label, label) for label in row} for row in rows]
        return {label: ["1" if label in row else "0" for row in sets] for label in labels}
    if layout in ("votes", "mean"):
        columns = [train[column].mask(is_missing(train[column], ())).str.strip() for column in columns]
        rows = [[vote for vote in row if isinstance(vote, str)] for row in zip(*columns, strict=True)]
        if layout == "mean":
            return {labels[0]: [f"{np.mean([*map(float, row)]):.9g}" for row in rows]}
        return {labels[0]: [Counter(row).most_common(1)[0][0] if row else "" for row in rows]}
    if layout == "comma":
        return {label: [cell.replace(",", ".") for cell in train[label]] for label in labels}
    return {label: [spellings.get(cell, cell) for cell in train[label]] for label in labels}
