"""Which column is which: names that are equal but for case, the id, columns of text, a group, and what is left out."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from kagglekit.competition.guess import UNSPACED, are_numbers
from kagglekit.competition.labels import match_affixes, plain_label
from kagglekit.competition.read import NAMELESS

NO_LETTERS = re.compile(r"[\s\d!-/:-@\[-`{-~]+")
DATES = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}\b.*|([A-Z][a-z]{2,8} )?\d{1,2}[ ,]+([A-Z][a-z]{2,8},? )?\d{4}\b.*")
LINKS = re.compile(r"(https?://|www\.)\S*")
PARSES = re.compile(r"\(\s*([A-Z]+ *)?\(.*", re.DOTALL)  # trees of a parser: ( ( The dog ) runs ), (ROOT (S ...
IMAGES = re.compile(r"[^\n,;|]+\.(jpe?g|png|gif|bmp|webp|tiff?)", re.IGNORECASE)
PEOPLE = re.compile(r"user|author|name|mail|url|link|page|host|phone|date|time", re.IGNORECASE)
IDS = re.compile(r"(.*[\W_])?id|.*[a-z]I[dD]", re.IGNORECASE)
TITLES = re.compile(r"title|headline|subject|query|question|summary|search|phrase|keyword", re.IGNORECASE)
FEW = 5  # so many different values are categories, whatever they say


def match_names(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, str]]:
    """Columns that are called alike but for case, blanks and signs get the name of the first table that has one; those
    of the sample may begin or end with more in train, see `match_affixes`.

    Returns what to rename, by table: {"sample_submission": {"Id": "id"}}. Two such columns of one table keep theirs.
    """
    known, renamed = {}, {what: {} for what in tables}
    for what, table in tables.items():
        plain = [plain_label(column) for column in table.columns]
        for column, key in zip(table.columns, plain, strict=True):
            if plain.count(key) == 1:
                name = known.setdefault(key, column.strip() or column)
                if name != column:
                    renamed[what][column] = name
    others = {plain_label(column) for what in ("train", "test") for column in tables[what].columns}
    alone = [column for column in tables["sample_submission"].columns if plain_label(column) not in others]
    renamed["sample_submission"] |= match_affixes(alone, tables["train"].columns)
    return renamed


def name_columns(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, list[str]]:
    """Names for tables without a header, "column 1", "column 2" ...; those of test are the columns of train that are
    most like its own, in their order. Raises ValueError where test has more columns, or three less."""
    ours, theirs = ([_describe(table[column]) for column in table.columns] for table in (train, test))
    names = [f"column {number}" for number in range(1, len(ours) + 1)]
    if not len(ours) - 3 < len(theirs) <= len(ours):
        raise ValueError(
            f"train has {len(ours)} columns and test {len(theirs)}, and neither has a header: put a line of names above"
        )

    def alike(places: Sequence[int]) -> float:
        pairs = ((ours[place], one) for place, one in zip(places, theirs, strict=True))
        return sum((a[0] == b[0]) + min(a[1], b[1]) / max(a[1], b[1]) for a, b in pairs)

    best = max(itertools.combinations(range(len(ours)), len(theirs)), key=alike)
    return {"train": names, "test": [names[place] for place in best]}


def _describe(column: pd.Series) -> tuple[str, float]:
    """What a column holds, and the mean number of characters, with one more."""
    return kind_of_cells(column)[0], 1 + column.str.len().mean()


def rename(
    tables: Mapping[str, pd.DataFrame], renamed: Mapping[str, dict[str, str]], more: Mapping[str, dict[str, str]]
) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, str]]]:
    """Tables, of which columns are `renamed` already, with `more` of them renamed; and both in one."""
    both = {}
    for what, names in more.items():
        before = renamed.get(what, {})
        both[what] = {old: names.get(new, new) for old, new in before.items()}
        both[what] |= {old: new for old, new in names.items() if old not in before.values()}
    return {what: table.rename(columns=more[what]) for what, table in tables.items()}, both


def find_header(rows: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame) -> list[str] | None:
    """Names for the columns of a sample submission without a header, and None where it has one. rows: with that row.

    It has none when there are as many rows as in test, and the first row begins with a value of a column of test, or,
    of one column, holds a label of train.
    """
    first, *others = rows.iloc[0]
    if len(rows) != len(test) or first in test.columns or first in train.columns:
        return None
    if others:
        held = [column for column in test.columns if first in set(test[column])]
    else:
        held = [column for column in train.columns if column not in test.columns and first in set(train[column])]
    taken = {*train.columns, *test.columns}
    names = [f"column {number}" for number in range(2, len(others) + 2)]
    return [held[0], *(f"{name} of the sample" if name in taken else name for name in names)] if held else None


def find_id(tables: Mapping[str, pd.DataFrame], given: str | None) -> tuple[str, str, dict[str, dict[str, str]]]:
    """The id, the reason, and what to rename for it: the column that test and the sample submission share.

    It may be called otherwise in the sample (the same values) and in train (its only column of ids). "" is no id: rows
    go by order, as the sample has labels alone, or ids that repeat or only count the rows. Columns of the sample that
    are no target, as they count rows or repeat a column of test, are renamed "". Where nothing fits, the first column
    of the sample, for `check_ids` to refuse.
    """
    train, test, sample = tables.values()
    first, renamed = sample.columns[0], {what: {} for what in tables}
    shared = [column for column in sample.columns if column in test.columns and len(sample.columns) > 1]
    same = [column for column in test.columns if column not in train.columns or first not in train.columns]
    same = [column for column in same if set(test[column]) == set(sample[first]) and sample[first].is_unique]
    count = [str(row) for row in range(len(sample) + 1)]
    id, reason = (first, "the first column of the sample submission") if given is None else (given, "given")
    if given is None and shared:
        id = min(shared, key=lambda column: NAMELESS.fullmatch(column) is not None)
    elif given is None and same:
        id, reason = same[0], f"its values are those of {first!r} of the sample submission"
        renamed["sample_submission"][first] = id
    elif given is None and not sample[first].is_unique and (set(sample) <= set(train) or len(sample.columns) == 1):
        id, reason = "", "the sample submission has no column of ids: its rows are those of test, in order"
    elif given is None and len(sample) == len(test) and sample[first].tolist() in (count[1:], count[:-1]):
        id, reason = "", f"{first!r} of the sample submission counts the rows of test, which has no such column"
        renamed["sample_submission"][first] = ""
    if given is None and id == "" and (shared or same):  # an index that pandas wrote
        id = next(name for name in ("index", "nameless index") if name not in (*train.columns, *test.columns))
        for what in (what for what, table in tables.items() if "" in table.columns):
            renamed[what][""] = id
        renamed["sample_submission"] = {column: name or id for column, name in renamed["sample_submission"].items()}
        tables = {what: table.rename(columns=renamed[what]) for what, table in tables.items()}
        train, test, sample = tables.values()
    if id in test.columns and not test[id].is_unique and id in sample and sample[id].tolist() == test[id].tolist():
        renamed["sample_submission"][id] = ""
        id, reason = "", f"{id!r} repeats in test: rows go by order, which is that of the sample submission"
    left = [column for column in shared if column != id and column not in renamed["sample_submission"]]
    copied = [column for column in left if sample[column].nunique() > 1]
    copied = [column for column in copied if sample[column].tolist() == test[column].tolist()]
    renamed["sample_submission"] |= dict.fromkeys(copied, "") if len(copied) < len(sample.columns) - 1 else {}
    if id not in train.columns:
        others = [column for column in train.columns if column not in test.columns and column not in sample.columns]
        others = [column for column in others if IDS.fullmatch(column) and train[column].is_unique]
        renamed["train"] |= {others[0]: id} if len(others) == 1 else {}
    return id, reason, renamed


def kind_of_cells(column: pd.Series) -> tuple[str, float]:
    """What a column holds, in words ("words", "numbers", "dates", "links", "images", "parses", "codes", "nothing"), and
    the mean number of words of a cell that is not blank; in scripts without spaces two characters count as a word.
    Images are names of their files, parses trees of a parser in brackets."""
    cells = [cell for cell in column if cell.strip()]
    some = [cell[:2000] for cell in cells[:: max(1, len(cells) // 1000)]]
    if not some:
        return "nothing", 0.0
    words = float(np.mean([len(cell.split()) + len(UNSPACED.findall(cell)) / 2 for cell in some]))
    letters = np.mean([len(NO_LETTERS.sub("", cell)) / len("".join(cell.split())) for cell in some])
    for kind, pattern in (("dates", DATES), ("links", LINKS), ("images", IMAGES), ("parses", PARSES)):
        if np.mean([pattern.fullmatch(cell.strip()) is not None for cell in some]) > 0.9:
            return kind, words
    if are_numbers(some).all() and are_numbers(cells).all():
        return "numbers", words
    if words >= 8 or (letters >= 0.6 and words >= 1.5):
        return "words", words
    digits = np.mean([any(sign.isdigit() for sign in cell) for cell in some])
    return "words" if letters >= 0.6 and digits < 0.5 else "codes", words


def has_few_values(column: pd.Series) -> bool:
    """Whether short cells repeat so much that they are categories: five values at most, or one in a hundred rows."""
    cells = column[column.str.strip() != ""]
    values = cells.nunique()
    return values < len(cells) / 2 and cells.str.len().mean() < 60 and (values <= FEW or values < len(cells) / 100)


def match_texts(train: pd.DataFrame, test: pd.DataFrame, taken: set) -> dict[str, str]:
    """The text of test under its name in train, {"content": "comment_text"}, where they share no column of words and
    each has one alone."""

    def texts(one: pd.DataFrame, names: Iterable[str]) -> Iterator[str]:
        for name in (name for name in names if name not in taken):
            if kind_of_cells(one[name])[0] == "words" and not has_few_values(one[name]):
                yield name

    theirs = [*texts(test, (name for name in test.columns if name not in train.columns))]
    if (
        len(theirs) != 1
        or next(texts(train, (name for name in train.columns if name in test.columns)), None) is not None
    ):
        return {}
    ours = [*texts(train, (name for name in train.columns if name not in test.columns))]
    return {theirs[0]: ours[0]} if len(ours) == 1 else {}


def guess_text(
    train: pd.DataFrame, test: pd.DataFrame, taken: set, id: str, elsewhere: str = ""
) -> tuple[list[str], str]:
    """Columns of words that train and test share, unless they have few values; at least the longest that is no number.

    Three words on average are prose. Phrases of fewer words are text where no column has four times as many or they are
    called a title or a query, and where their name is not that of a person, a link or a time. The id is the text where
    no other column is. elsewhere: why no other file was joined, for the error where there is none.
    """
    words, length = {}, {}
    for column in (column for column in train.columns if column in test.columns and column not in taken):
        kind, mean = kind_of_cells(train[column])
        if kind in ("nothing", "numbers", "images"):
            continue
        length[column] = (kind == "words", train[column].str.len().mean())
        if kind == "words" and not has_few_values(train[column]) and (mean >= 3 or not PEOPLE.search(column)):
            words[column] = mean
    least = min(3, max(1.5, max(words.values(), default=0) / 4))
    if text := [name for name, mean in words.items() if mean >= least or (mean >= 1.5 and TITLES.search(name))]:
        return text, "; ".join(f"{column}: {words[column]:.0f} words on average" for column in text)
    if length:
        return [max(length, key=length.get)], "nothing reads like prose; this is the longest that is no number"
    if id in train.columns and kind_of_cells(train[id])[0] == "words":
        return [id], "the id itself, as no other column holds words"
    alone = {}
    for what, table, other in (("train", train, test), ("test", test, train)):
        names = [name for name in table.columns if name not in other.columns and name not in taken]
        alone[what] = [name for name in names if kind_of_cells(table[name])[0] == "words"]
    if all(alone.values()):
        has = " and ".join(f"{what} alone has {', '.join(map(repr, names))}" for what, names in alone.items())
        raise ValueError(
            f"train and test share no column of text, while {has}: give a text the same name in both files"
        )
    none = "train and test share no column of text: every one besides the id is numeric or empty"
    raise ValueError(f"{none}. {elsewhere or 'Say text='}")


def possible_groups(
    train: pd.DataFrame, test: pd.DataFrame, taken: Iterable[str], texts: Iterable[str]
) -> dict[str, tuple[float, float]]:
    """Columns whose values repeat across rows of other text: {name: (share of rows of train that share a value, share
    of rows of test that have a value of train)}, the largest share first.

    texts: the whole text of each row of train. Columns of fractions, dates and links, and categories that test has too,
    are none.
    """
    found, texts = {}, pd.Series(list(texts))
    for column in (column for column in train.columns if column not in taken):
        kind, _ = kind_of_cells(train[column])
        values = train[column].where(train[column].str.strip() != "")
        fractions = kind == "numbers" and values.dropna().str.contains(".", regex=False).any()
        if kind in ("dates", "nothing") or fractions or values.nunique() < 2:
            continue
        share = (texts.groupby(values.to_numpy()).transform("nunique") > 1).mean()
        known = test[column].isin(set(values.dropna())).mean() if column in test.columns else 1.0
        if share >= 0.05 and not (has_few_values(train[column]) and known > 0):
            found[column] = (float(share), float(known))
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def guess_group(
    train: pd.DataFrame, test: pd.DataFrame, taken: Iterable[str], texts: Iterable[str], text: list[str]
) -> tuple[str | None, str]:
    """The column by which train and test were parted, if there is one: most values of test are not in train, while
    within train they repeat. Else none, and the reason lists what could be one."""
    found = possible_groups(train, test, taken, texts)
    said = {
        name: f"{name!r}: {share:.0%} of the rows of train share a value with a row of another text, and {known:.0%} "
        "of test have a value of train"
        for name, (share, known) in found.items()
    }
    parted = [
        name
        for name, (share, known) in found.items()
        if name in test.columns
        and share >= 0.2
        and known <= share / 4
        and train[name].nunique() >= 20
        and train[name].value_counts(normalize=True).iloc[0] <= 0.2
        and (train[name].str.strip() != "").all()
        and _largest_share(train[name], texts) <= 0.5
    ]
    if parted:
        name = min(parted, key=lambda name: (name not in text, -found[name][0]))
        return name, f"{said[name]}: so rows that share one share a fold; group='' would split them"
    alone = "rows count as independent; name a column (author, prompt, patient) whose rows must stay in one fold"
    return None, alone + (f". Possible: {'; '.join(list(said.values())[:3])}" if said else "")


def _largest_share(values: pd.Series, texts: Iterable[str]) -> float:
    """The share of rows in the largest group, when rows that share a value or a text are one: copies share a fold too,
    so that sentences of which each has the phrase "good" would be one group."""
    texts = pd.Series(list(texts)).str.casefold().str.strip()
    values, texts = values.to_numpy(), texts.where(texts != "", texts.index.map(str)).to_numpy()
    group, before = pd.Series(pd.factorize(values)[0]), None
    while before is None or not group.equals(before):
        before, group = group, group.groupby(texts).transform("min").groupby(values).transform("min")
    return float(group.value_counts(normalize=True).iloc[0])


def left_out(train: pd.DataFrame, test: pd.DataFrame, used: Iterable[str]) -> list[str]:
    """Columns of train that are not used, each with what it holds: "channel (4 values)", "received (dates)"."""
    found = []
    for column in (column for column in train.columns if column not in set(used)):
        kind = kind_of_cells(train[column])[0]
        count = train[column][train[column].str.strip() != ""].nunique()
        values = f"{count:,} value{'s' * (count != 1)}"
        what = values if has_few_values(train[column]) and kind not in ("dates", "images") else kind
        found.append(f"{column or 'the nameless one'} ({what}{'' if column in test.columns else ', in train only'})")
    return found
