"""Knobs of columns: a budget and a truncation for each text, two that are swapped, images; checked and filled in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kagglekit.competition.text_columns import SEPARATOR, split_columns, swap_columns
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.files import resolve
from kagglekit.options import Knobs, check_range, did_you_mean
from kagglekit.training.prompt import OPTION, fill_in_prompt, pattern_columns

if TYPE_CHECKING:  # a recipe is checked before a kernel starts
    import pandas as pd

    from kagglekit.competition.task import Task

PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^A-Za-z\d]+")  # of a name: response_a, question1, textA


def fill_in(recipe: Knobs, task: Task) -> Knobs:
    """A `Recipe` with its prompt and its knobs of text columns filled in for a task: `budget` and a `truncation` by
    column name every column in order, and `swap` also has their places and what changes with them. Filled in twice it
    stays as it is.

    Raises ValueError for a name that is no text column, for a task whose text is in one piece, and for classes that
    cannot be exchanged.
    """
    by_column = recipe.truncation if isinstance(recipe.truncation, dict) else {}
    if recipe.answers:
        _check_columns("answers", recipe.answers, task)
    swapped, changed = swapped_columns(recipe.swap), fill_in_prompt(recipe, task)
    named = pattern_columns(changed.get("pattern", recipe.pattern), task.text, recipe.answers)
    several = (("budget", recipe.budget), ("truncation", by_column), ("swap", swapped))
    for name, columns in (*several, ("pattern", named)):
        if columns:
            _check_columns(name, columns, task)
    if recipe.answers:
        changed["answers"] = order_options(recipe.answers, task)
    if recipe.budget or named or recipe.answers:
        changed["budget"] = {column: recipe.budget.get(column, 0) for column in task.text}
    if by_column:
        changed["truncation"] = {column: by_column.get(column, "head") for column in task.text}
    if swapped:
        changed["swap"] = _fill_swap(recipe, swapped, task)
    return replace(recipe, **changed) if changed else recipe


def fill_in_images(recipe: Knobs, work: str, start: str) -> Knobs:
    """A `Recipe` of images with the folder of their encoder: where it names none, that of the run `start`.

    Raises ValueError where there is none, and as `refuse_trained_encoder` does.
    """
    if not recipe.features.get("images"):
        return recipe
    from kagglekit.runs.initial_weights import refuse_trained_encoder  # pandas comes with them
    from kagglekit.runs.record import split_start

    encoder, starts = recipe.features.get("images_by"), split_start(start)
    if not encoder:
        name = starts[0] if len(starts) == 1 else ""
        encoder = f"{name if '/' in name else f'{work}/{name}'}/model/image_encoder"
        if not name or not (resolve(encoder) / "config.json").is_file():
            raise ValueError(
                "features: images are read by a vision model: name one as images_by, or as start a run of 2_pretrain "
                'with objective="itc_itm"'
            )
    refuse_trained_encoder(work, encoder, "features: images_by")
    return replace(recipe, features={**recipe.features, "images_by": encoder})


def order_options(options: list[str], task: Task) -> list[str]:
    """The columns of candidate answers in the order of the classes: by name, else as they are given.

    Raises ValueError for a column that is named twice, and a task whose label is none of so many classes.
    """
    if twice := [name for name in options if options.count(name) > 1]:
        raise ValueError(f"answers={options} name {twice[0]!r} twice: name each column once")
    if len(options) != len(task.classes):
        raise ValueError(
            f"answers={options} are {len(options)} columns, and the label of the task ({task.kind}) has "
            f"{len(task.classes)} classes: name the column of each"
        )
    if len(options) == len(task.text):
        raise ValueError("answers are candidates, and no text column is left for what they answer")
    return list(task.classes) if set(options) == set(task.classes) else options


def each_option(texts: Sequence[str], columns: Sequence[str], options: Sequence[str]) -> list[str]:
    """The texts of each option, row by row: the other columns of the text, and the option's own as the last one."""
    own, found = [columns.index(name) for name in options], []
    for row in map(split_columns, texts):
        shared = [cell for at, cell in enumerate(row) if at not in own]
        found += [SEPARATOR.join([*shared, row[at]]) for at in own]
    return found


def of_options(values: dict[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """What is said of each text column, in a recipe filled in, for the texts of `each_option`: the largest
    budget, or the first rule, is that of an option."""
    shared, own = {name: values[name] for name in values if name not in options}, [values[name] for name in options]
    return shared | {OPTION: own[0] if isinstance(own[0], str) else max(own)}


def swapped_columns(swap: list[str] | dict[str, Any]) -> list[str]:
    """The two columns that `swap` names; raises ValueError for another number, and for what it does not know."""
    if not swap:
        return []
    given = {"columns": swap} if isinstance(swap, list) else swap
    known = ("columns", "labels", "features", "places", "exchange", "one_order")  # the last three are filled in
    for name in given:
        check_range("swap", name, name in known, 'a list of two columns, or {"columns": [...], "labels": {...}}')
    columns, labels = given.get("columns", []), given.get("labels", {})
    two = isinstance(columns, list) and len(columns) == 2 and columns[0] != columns[1]
    check_range("swap", columns, two and all(isinstance(name, str) for name in columns), "two different text columns")
    pairs = isinstance(labels, dict) and all(isinstance(name, str) for name in labels.values())
    check_range("swap: labels", labels, pairs, 'pairs of names: {"winner_a": "winner_b"}')
    return columns


def _check_columns(name: str, columns: Sequence[str], task: Task) -> None:
    if len(task.text) == 1 or task.pattern or task.text_separator != SEPARATOR:
        why = (
            f"is one column, {task.text[0]!r}"
            if len(task.text) == 1
            else f"is made of its columns by template={task.pattern!r}"
        )
        if not task.pattern and len(task.text) > 1:
            why = (
                "was joined by line breaks by an earlier version: run 1_eda with another work= for columns of their own"
            )
        every = list(dict.fromkeys([*task.text, *columns]))
        more = f": say text={every} in 1_eda, if these are columns of train" if len(every) > len(task.text) == 1 else ""
        what, also = (
            ("is of text columns", more) if name != "pattern" else (f"names {columns[0]!r}", "; {text} is all of it")
        )
        raise ValueError(f"{name} {what}, and the text of this task {why}{also}")
    for column in columns:
        if column not in task.text:
            meant = did_you_mean(column, task.text)
            raise ValueError(f"{name}: {column!r} is no text column of the task{meant}: it has {', '.join(task.text)}")


def _fill_swap(recipe: Knobs, columns: list[str], task: Task) -> dict[str, Any]:
    given = recipe.swap.get("labels") if isinstance(recipe.swap, dict) else None
    names = task.classes or task.columns
    labels = find_sides(*columns, names) if given is None else given
    for name in (*labels, *labels.values()):
        if name not in names:
            raise ValueError(f"swap: labels: {name!r} is none of {', '.join(names)}{did_you_mean(name, names)}")
    both = labels | {new: old for old, new in labels.items()}
    if any(both[both[name]] != name for name in both):
        raise ValueError(f"swap: labels={labels} exchanges a name with two others: each has one partner")
    if task.kind == "ordinal" and any(old != new for old, new in both.items()):
        raise ValueError(
            "swap: ordered classes are learned as one number, and their labels cannot be exchanged: say "
            "kind='multiclass' in 1_eda"
        )
    given = recipe.swap.get("features") if isinstance(recipe.swap, dict) else None
    features = find_sides(*columns, recipe.columns) if given is None else given
    paired = {*features, *features.values()}
    if lonely := [name for name in recipe.columns if given is None and name not in paired and _side(*columns, name)]:
        raise ValueError(
            f"swap: the feature {lonely[0]!r} is of one side, and none of the features is that of the other: add it, "
            f'or say swap={{"columns": {columns}, "features": {{}}}} if it belongs to no side'
        )
    return {
        "columns": list(columns),
        "labels": labels,
        "places": [task.text.index(column) for column in columns],
        "exchange": [task.columns.index(both.get(name, name)) for name in task.columns],
        "features": features,
        "one_order": [name for name in recipe.auxiliary if _side(*columns, name)],  # not learned in the other
    }


def find_sides(first: str, second: str, names: Sequence[str]) -> dict[str, str]:
    """The names that name a side as two columns do: winner_a -> winner_b, for response_a and response_b.

    Where the columns differ in one piece of their names (a and b), two names that differ by it are a pair; else whole
    names of columns do. A number alone, such as the class "1" for question1 and question2, names no side.
    """
    known, found = {name.lower(): name for name in names}, {}
    for name in names:
        other = _side(first, second, name)
        if other in known and name not in found.values():
            found[name] = known[other]
    return found


def _side(first: str, second: str, name: str) -> str:
    """The name of the other side in lower case, or "" where a name is of no side, see `find_sides`."""
    one, two = PIECE.findall(first), PIECE.findall(second)
    apart = [pair for pair in zip(one, two, strict=False) if pair[0].lower() != pair[1].lower()]
    a, b = apart[0] if len(one) == len(two) and len(apart) == 1 else (first, second)
    exchange = {a.lower(): b.lower(), b.lower(): a.lower()}
    other = "".join(exchange.get(piece.lower(), piece.lower()) for piece in PIECE.findall(name))
    other = exchange.get(name.lower(), other)
    return "" if name.isdigit() or other == name.lower() else other


def describe_swap(swap: dict[str, Any]) -> str:
    """What is exchanged, in one line."""
    pairs = [f"{old} and {new}" for old, new in (swap["labels"] | swap["features"]).items()]
    with_them = f", and with them {', '.join(pairs)}" if pairs else "; no label names a side"
    with_them += f"; {', '.join(swap['one_order'])} learned in the order of the file alone" if swap["one_order"] else ""
    return f"swap: {swap['columns'][0]} and {swap['columns'][1]} change places at random{with_them}"


def swap_table(table: pd.DataFrame, swap: dict[str, Any]) -> pd.DataFrame:
    """A table in the other order: two columns of its text exchanged, and features that name a side."""
    changed = {"text": [swap_columns(text, *swap["places"]) for text in table["text"]]}
    for old, new in swap["features"].items():
        if old in table.columns:
            changed |= {old: table[new].to_numpy(), new: table[old].to_numpy()}
    return table.assign(**changed)


def check_rules(recipe: Knobs) -> None:
    """Raise ValueError for knobs of text columns that are wrong for any task."""
    for column, tokens in recipe.budget.items():
        check_range(f"budget: {column}", tokens, tokens >= 0, "0 or more tokens")
    most, total = recipe.max_length, sum(recipe.budget.values())
    check_range("budget", recipe.budget, total < most, f"below max_length={most} in all, where separators stand too")
    if recipe.budget and recipe.chunks:
        raise ValueError(
            "budget is of texts that are truncated, and chunks read all of a column: leave one of them out"
        )
    if isinstance(recipe.truncation, dict):
        for column, rule in recipe.truncation.items():
            check_range(f"truncation: {column}", rule, rule in TRUNCATIONS, f"one of {', '.join(TRUNCATIONS)}")
    swapped_columns(recipe.swap)
