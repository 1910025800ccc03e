"""The form of a submission: which columns it has, and what it writes for each class, found in the sample's cells."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kagglekit.competition.formats.label_lists import SEPARATORS, divider_of, find_joiner, split_labels
from kagglekit.competition.guess import are_numbers
from kagglekit.competition.labels import match_columns
from kagglekit.competition.settings import TOP

CASES = (str.strip, str.lower, str.upper, str.capitalize, str.title)


def names_of(form: str) -> int:
    """How many classes one cell of the form names: 3 for "top3", 0 for other forms."""
    found = TOP.fullmatch(form)
    return int(found.group(1)) if found else 0


def guess_form(kind: str, classes: list[str], layout: str, sample: pd.DataFrame, targets: list[str]) -> tuple[str, str]:
    """The form of the submission: a label (or value), a probability, a column per class or target, several labels in
    one cell, as in train, or the likeliest classes in one cell."""
    if len(targets) > 1:
        return "columns", f"the sample submission has {len(targets)} columns besides the id"
    if layout == "list":
        return "list", "several labels in one cell, as in train"
    if kind == "regression":
        return "label", "one column of values"
    cells = [cell for cell in sample[targets[0]] if cell.strip()]
    for sep in SEPARATORS:
        rows = [split_labels(cell, sep) or [] for cell in cells]
        named = {one for row in rows for one in row}
        some = 2 * len(named & set(classes)) >= len(named) and not set(cells) <= set(classes)
        if rows and min(map(len, rows)) > 1 and some and kind != "ordinal":
            return f"top{max(map(len, rows))}", f"each cell of the sample submission names classes ({cells[0]})"
    if kind != "binary":
        return "label", "one column of classes"
    values = set(cells)
    if not values:
        return "label", "the sample submission leaves the cells blank"
    if values <= set(classes):
        advice = "say form='probability' if it wants probabilities"
        return "label", f"the sample submission holds classes ({', '.join(sorted(values))}); {advice}"
    points = are_numbers(values).all() and any("." in value for value in values)
    same = are_numbers(classes).all() and points and {float(v) for v in values} == {float(one) for one in classes}
    if points and not same:
        return "probability", f"the sample submission holds numbers such as {min(values)}, of class {classes[1]}"
    return "label", "the sample submission's values are not probabilities"


def guess_mapping(
    form: str, names: Sequence[str], sample: pd.DataFrame, targets: Sequence[str], file: str, certain: bool
) -> tuple[dict[str, str], str, str]:
    """What the submission writes for each name (a class, or a label), where it is not the name itself; the reason; and
    what is not clear, for `5_submit` to refuse.

    The cells of the sample are compared with the names: equal, the same numbers (1 and 1.0), or true and false; in form
    "columns" its columns, which may have one beginning or end in common. certain: the form was given, so that names are
    written as they are.
    """
    if form == "columns":
        called = match_columns(names, targets)
        if set(targets) != set(names) and set(called) == set(names):
            return called, "the columns of the sample submission but for beginning, end, case or signs", ""
        return {}, "", ""
    filled = [cell for cell in sample[targets[0]] if cell.strip()]
    sep = divider_of(find_joiner(sample[targets[0]], (), names, "")) if form == "list" or names_of(form) else ""
    cells = {one for cell in filled for one in (split_labels(cell, sep) if sep else [cell.strip()])}
    if not cells or cells <= set(names) or set(filled) <= set(names):
        return {}, "" if cells else "the sample submission leaves the cells blank: labels are written as in train", ""
    numbers = are_numbers(cells).all() and are_numbers(names).all()
    if numbers and {float(cell) for cell in cells} <= {float(name) for name in names}:
        decimals = min(len(cell.partition(".")[2]) for cell in cells)
        styled = {name: f"{float(name):.{decimals}f}" for name in names}
        fits = all(float(name) == float(value) for name, value in styled.items())
        return styled if fits else {}, "the same numbers as in the sample submission, which writes them so", ""
    if are_numbers(names).all() and len(names) > 2 and len(cells) == 1 and are_numbers(cells).all():
        return {}, f"the sample submission holds {min(cells)} alone, which is no class: written as in train", ""
    styles = [(case, "") for case in CASES] + [(case, sign) for sign in "_-" for case in CASES]
    for case, sign in styles:
        styled = {name: re.sub(r"[\W_]+", sign, case(name.strip())) if sign else case(name) for name in names}
        if cells <= {*styled.values()} and len({*styled.values()}) == len(names):
            return styled, "the same words, as the sample submission writes them", ""
    plain, held = {name.casefold(): name for name in names}, {cell.casefold() for cell in cells}
    if are_numbers(names).all():
        plain = {f"{float(name):g}": name for name in names}
    for these, words in (({"true", "false"}, ("0", "1")), ({"0", "1"}, ("false", "true"))):
        if {*plain} == these and held <= set(words):
            styled = [_cased(word, min(cells)) for word in words]
            return {name: styled[key in ("1", "true")] for key, name in plain.items()}, "true is 1, and false is 0", ""
    if certain:
        return {}, "written as in train", ""
    listed = ", ".join(f'"{name}": ...' for name in names[:9]) + (", ..." if len(names) > 9 else "")
    other = f", or form='probability' for that of {names[1]!r}" if len(names) == 2 and form == "label" else ""
    odd = min(cells - set(names))
    unclear = (
        f"column {targets[0]!r} of {file} holds {odd!r}, which is none of the classes {', '.join(names[:9])}; "
        f"run 1_eda again with mapping={{{listed}}}, what to write for each, or with form={form!r} to write them as "
        f"train does{other}"
    )
    return {}, "", unclear


def _cased(word: str, like: str) -> str:
    return word if like.islower() else word.upper() if like.isupper() else word.capitalize()


def check_mapping(mapping: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """A mapping that was given, as text. Raises ValueError unless it names every class once."""
    known = {f"{float(name):g}" if are_numbers([name]).all() else name: name for name in names}
    found = {}
    for name, value in mapping.items():
        key = name if name in names else known.get(f"{float(name):g}" if are_numbers([name]).all() else name)
        if key is None:
            raise ValueError(f"mapping={mapping!r}: {name!r} is none of {', '.join(names[:20])}")
        found[key] = str(value)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"mapping={mapping!r} does not say what to write for {missing[0]!r}: it must name every class")
    if len(set(found.values())) < len(found):
        raise ValueError(f"mapping={mapping!r} writes two classes alike: the submission could not tell them apart")
    return found


def check_form(
    form: str, kind: str, names: list[str], labels: list[str], targets: list[str], mapping: Mapping[str, str], name: str
) -> None:
    """The sample submission has the columns that the form asks for. names: classes, or labels where there are none."""
    has = ", ".join(targets[:9])
    if form == "columns":
        wanted = [mapping.get(one, one) for one in (labels if kind == "ordinal" else names)]
        if set(wanted) != set(targets):
            odd = sorted(set(wanted) ^ set(targets))[0]
            advice = "Correct labels= or classes="
            if len(wanted) == len(targets):
                advice += f", or say which is which: mapping={{{wanted[0]!r}: {targets[0]!r}, ...}}"
            raise ValueError(
                f"{name} has the columns {has} besides the id, and kind={kind!r} asks for {', '.join(wanted[:9])}: "
                f"{odd!r} is in one of them only. {advice}"
            )
    elif len(targets) > 1 or (len(labels) > 1 and kind != "multilabel"):
        raise ValueError(
            f"form={form!r} submits one column besides the id; {name} has {has}, and the labels are "
            f"{', '.join(labels[:9])}: say form='columns', or another labels="
        )
    elif kind == "multilabel" and form != "list" and not names_of(form):
        raise ValueError(
            f"form={form!r} submits one label, and there are {', '.join(labels[:9])}: say form='list' for several in "
            "one cell, or another labels="
        )
    elif form == "list" and kind != "multilabel":
        raise ValueError(f"form='list' is for kind='multilabel', and this is {kind}: say form='label', or label_sep=")
    elif form == "probability" and kind != "binary":
        raise ValueError(f"form='probability' is for kind='binary', and this is {kind}: say form='label'")
    elif names_of(form) and kind not in ("binary", "multiclass", "multilabel"):
        raise ValueError(f"form={form!r} names the likeliest classes, and kind={kind!r} has no probabilities")
    elif names_of(form) > len(names):
        raise ValueError(f"form={form!r} names more classes than there are: {len(names)}")
