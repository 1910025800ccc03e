"""Cells that are no id, label, number or text, and parameters of 1_eda that do not fit them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from tests.benchmarks.bad_inputs import EDA, Blow, edit, rows_read, write

TFIDF = ("3_train", {"work": "FOLDER/new", "run": "tfidf", "backbone": "tfidf"})


def column(file: str, name: str, rows: dict[int, object]) -> Callable[[Path], None]:
    """A damage that sets cells of a column, by data row from 1; row 0 stands for all."""

    def change(folder: Path) -> None:
        table = pd.read_csv(folder / "data" / file, dtype=str, keep_default_na=False)
        for row, value in rows.items():
            table.loc[slice(None) if row == 0 else row - 1, name] = value
        write(folder / "data" / file, table)

    return change


def numbers(rows: dict[int, object]) -> Callable[[Path], None]:
    """A damage that makes the task a regression, with some labels as given."""

    def change(folder: Path) -> None:
        column("train.csv", "label", {n + 1: str(round(n * 0.37, 2)) for n in range(60)} | rows)(folder)
        column("sample_submission.csv", "label", {0: "0.5"})(folder)

    return change


def cells(base: Path) -> Iterator[Blow]:
    """Cells that are no id, label, number or text."""
    train, test, sample = "train.csv", "test.csv", "sample_submission.csv"
    for file in (train, test, sample):
        yield Blow(f"{file}: an id is missing", (file, "row 5"), column(file, "id", {5: ""}))
        yield Blow(f"{file}: an id twice", (file, "'61'" if file != train else "'3'"),
                   column(file, "id", {5: "61", 2: "61"} if file != train else {5: "3"}))  # fmt: skip
    yield Blow("an id of the sample is not in test", (sample, "row 4", "test"), column(sample, "id", {4: "999"}))
    yield Blow(
        "an id of test is not in the sample",
        (test, "sample"),
        edit("data/sample_submission.csv", lambda b: b[: b.rindex(b"79")]),
    )
    for value in ("", " ", "nan", "NaN", "N/A", "NULL", "null", "n/a", "<NA>"):
        yield Blow(
            f"label {value!r} in two rows", (train, "label", "row 7"), column(train, "label", {7: value, 20: value})
        )
    for value in ("Good", "good ", " GOOD"):
        damage = column(train, "label", dict.fromkeys(range(7, 11), value))
        yield Blow(f"label {value!r} beside good", ("label", "good"), damage, fine=told("good"))
    yield Blow("labels are lists", (train, "'bad'"), column(train, "label", {0: "['good', 'bad']"}))
    yield Blow("one label is a list", ("label", "row 7"), column(train, "label", {7: "['good', 'bad']"}))
    yield Blow("one label in every row", (train, "label"), column(train, "label", {0: "good"}))
    yield Blow(
        "a class with one row",
        ("label",),
        column(train, "label", {7: "odd"}),
        fine=lambda folder, base: True,
    )
    for value in ("inf", "-inf", "nan", "N/A", "1e60", "1e400", "1,5", "12%", "$5", "abc", ""):
        yield Blow(
            f"a number is {value!r}", (train, "label", "row 7"), numbers({7: value}), [eda(kind="regression"), TFIDF]
        )
        yield Blow(
            f"a number is {value!r}, kind inferred", (train, "label", "row 7"), numbers({7: value}), [EDA, TFIDF]
        )
    yield Blow("a number in every row alike", (train, "label"), numbers({0: "3.5"}), [eda(kind="regression")])
    yield Blow(
        "texts are numbers", (train, "text"), column(train, "text", {0: "12"}), [eda(text=["text"])], fine=rows_read(60)
    )
    yield Blow("texts are empty", (train, "text"), column(train, "text", {0: ""}), [eda(text=["text"])])
    yield Blow("texts are empty, column inferred", ("text",), column(train, "text", {0: ""}))
    for value in ("\U0001f600", "x", "3 3 3", "\x00", "a " * 20000):
        yield Blow(
            f"a text is {value[:5]!r}", ("text",), column(train, "text", {7: value}), [EDA, TFIDF], fine=rows_read(60)
        )
        yield Blow(
            f"all texts are {value[:5]!r}",
            ("text",),
            column(train, "text", {0: value[:2000]}),
            [EDA, TFIDF],
            fine=rows_read(60),
        )
    for name, given, words in (
        ("labels", ["nope"], ("labels", "nope", train)),
        ("labels", ["text"], ("text",)),
        ("labels", ["id"], ("id",)),
        ("text", ["nope"], ("text", "nope")),
        ("text", ["label"], ("label",)),
        ("id", "nope", ("id", "nope")),
        ("id", "text", ("text",)),
        ("group", "nope", ("group", "nope")),
        ("group", "label", ("label",)),
        ("time", "nope", ("nope",)),
        ("time", "text", ("text",)),
        ("kind", "nope", ("kind",)),
        ("kind", "regression", ("kind",)),
        ("kind", "binary", ("kind", "3")),
        ("kind", "multilabel", ("kind",)),
        ("kind", "ordinal", ("kind",)),
        ("metric", "nope", ("metric",)),
        ("metric", "macro_f1", ("f1_macro",)),
        ("metric", "rmse", ("metric",)),
        ("metric", "no.such:function", ("metric", "no")),
        ("metric", "math:pi", ("metric", "pi")),
        ("metric", "json:loads", ("metric",)),
        ("form", "nope", ("form",)),
        ("form", "columns", ("columns",)),
        ("form", "probability", ("form",)),
        ("classes", ["good", "bad"], ("mixed",)),
        ("classes", ["good", "bad", "mixed", "new"], ("new",)),
        ("classes", ["good", "good", "bad", "mixed"], ("good",)),
        ("encoding", "nope", ("encoding",)),
        ("n_folds", 1, ("n_folds",)),
        ("n_folds", 100, ("n_folds",)),
        ("n_folds", 0, ("n_folds",)),
        ("repeats", 0, ("repeats",)),
        ("near_duplicates", 2.0, ("near_duplicates",)),
        ("near_duplicates", -0.1, ("near_duplicates",)),
        ("seed", -1, ("seed",)),
        ("clean", ["nope"], ("nope",)),
        ("backbone", "no-such-folder", ("no-such-folder",)),
        ("data", "FOLDER/nowhere", ("nowhere",)),
        ("data", "FOLDER/data/train.csv", ("train.csv",)),
    ):
        yield Blow(f"1_eda {name}={given!r}", words, steps=[eda(**{name: given})])


def eda(**given) -> tuple[str, dict]:
    """1_eda with more parameters."""
    return EDA[0], EDA[1] | given


def told(word: str) -> Callable[[Path, Path], bool]:
    """Whether the findings of 1_eda say a word of the label column; asked again, as the notebook shows a table."""

    def check(folder: Path, base: Path) -> bool:
        from kagglekit.competition.infer import infer

        findings = infer(folder / "data")[1]
        return any(word in " ".join(map(str, row)).lower() and "label" in str(row[0]) + str(row[2])
                   for row in findings.to_numpy() if row[0] not in ("labels", "classes", "kind"))  # fmt: skip

    return check
