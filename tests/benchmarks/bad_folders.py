"""Work folders with damaged files, folders that are no runs, and bad predictions from elsewhere."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from tests.benchmarks.bad_cells import column
from tests.benchmarks.bad_inputs import EDA, FAST, Blow, edit, garble, write


def damaged(base: Path) -> Iterator[Blow]:
    """Every file of a work folder: empty, cut, garbled, with one byte changed, gone. Then what reads it runs again."""
    damages = {
        "empty": lambda b: b"",
        "cut": lambda b: b[: len(b) // 2],
        "garbled": garble,
        "one byte": lambda b: b[: len(b) // 3] + bytes([b[len(b) // 3] ^ 1]) + b[len(b) // 3 + 1 :],
    }
    steps = [
        ("3_train", {"run": "base", "backbone": "FOLDER/bert", **FAST}),
        ("3_train", {"run": "more", "backbone": "FOLDER/bert", "start": "base", **FAST}),
        ("4_ensemble", {"run": "again", "runs": ["tfidf", "base"], "method": "weights"}),
        ("5_submit", {"run": "blend"}),
        ("5_submit", {"run": "base", "predict": True}),
    ]
    work = base / "work"
    for path in sorted(path for path in work.rglob("*") if path.is_file() and not path.name.endswith(".lock")):
        name = path.relative_to(base).as_posix()
        for how, change in damages.items():
            if path.stat().st_size > 9:
                yield Blow(f"{name}: {how}", (path.name,), edit(name, change), steps, fine=same_results)
        yield Blow(
            f"{name}: gone",
            (path.relative_to(work).parts[0],),
            lambda folder, name=name: (folder / name).unlink(),
            steps,
            fine=same_results,
        )


def same_results(folder: Path, base: Path) -> bool:
    """Whether the tables of all runs, the blend's copy and the submission are what they are without damage."""
    whole = base / "whole"
    paths = [path.relative_to(whole) for path in whole.rglob("*.parquet")]
    pairs = [(path, path) for path in paths] + [
        (p, Path("again", *p.parts[1:])) for p in paths if p.parts[0] == "blend"
    ]
    submissions = [(place / "submission.csv").read_bytes() for place in (whole, folder / "work")]
    return submissions[0] == submissions[1] and all(
        pd.read_parquet(whole / one).equals(pd.read_parquet(folder / "work" / other))
        for one, other in pairs
        if (folder / "work" / other).is_file() or one != other
    )


def folders(base: Path) -> Iterator[Blow]:
    """Folders that are no runs, links, and names that are taken."""
    again = [("3_train", {"run": "base", "backbone": "FOLDER/bert", **FAST, "seed": 5, "overwrite": True})]

    def mine(folder: Path) -> None:
        shutil.rmtree(folder / "work" / "base")
        (folder / "work" / "base").mkdir()
        (folder / "work" / "base" / "thesis.txt").write_text("mine")

    def link(folder: Path) -> None:
        shutil.move(folder / "work" / "base", folder / "elsewhere")
        os.symlink(folder / "elsewhere", folder / "work" / "base")

    kept = lambda folder, base: (folder / "work" / "base" / "thesis.txt").is_file()  # noqa: E731
    yield Blow("overwrite=True on a folder that is no run", ("base",), mine, again, fine=kept)
    yield Blow("overwrite=True on a link", ("base",), link, again)
    yield Blow(
        "a run of that name with other settings",
        ("base", "seed"),
        lambda folder: None,
        [("3_train", again[0][1] | {"overwrite": False})],
    )
    yield Blow(
        "a run that is a file",
        ("file",),
        lambda folder: (folder / "work" / "file").write_text("x"),
        [("3_train", {"run": "file", "backbone": "tfidf"})],
    )
    yield Blow(
        "data changed since 1_eda",
        ("data",),
        edit("data/train.csv", lambda b: b.replace(b"good", b"bad", 1)),
        [("3_train", {"run": "new", "backbone": "tfidf"})],
    )
    yield Blow(
        "data gone since 1_eda",
        ("train.csv",),
        lambda folder: (folder / "data" / "train.csv").unlink(),
        [("3_train", {"run": "new", "backbone": "tfidf"})],
    )
    yield Blow(
        "another competition in this work folder",
        ("work",),
        column("train.csv", "text", {3: "new"}),
        [("1_eda", EDA[1] | {"work": "FOLDER/work"})],
    )


def imported(base: Path) -> Iterator[Blow]:
    """Predictions that were made elsewhere, with something wrong."""
    ids = [f"r{n}" for n in range(40)]
    random = np.random.default_rng(0)
    labels = pd.DataFrame({"id": ids, "label": random.choice(["bad", "good", "mixed"], 40)})
    probabilities = random.dirichlet([1, 1, 1], 40)
    table = pd.DataFrame(probabilities, columns=["bad", "good", "mixed"]).assign(id=ids)

    def relabel(value: str) -> pd.DataFrame:
        return labels.assign(label=labels["label"].where(np.arange(40) != 4, value))

    def put(**tables) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            (folder / "oof").mkdir()
            for name, content in (
                {"labels": labels, "one": table, "two": table.sample(frac=1, random_state=0)} | tables
            ).items():
                if content is not None:
                    write(folder / "oof" / f"{name}.csv", content)

        return change

    def cell(name: str, row: int, value) -> pd.DataFrame:
        return table.assign(**{name: table[name].astype(object).where(np.arange(40) != row - 1, value)})

    steps = [("4_ensemble", {"run": "new", "files": "FOLDER/oof", "method": "weights"})]
    for name, tables, words in (
        ("no labels", {"labels": None}, ("label",)),
        ("no predictions", {"one": None, "two": None}, ("oof",)),
        ("a row is missing", {"two": table[:-1]}, ("two.csv", "r39")),
        ("a row too many", {"two": pd.concat([table, table[:1].assign(id="new")])}, ("two.csv", "new")),
        ("an id twice", {"two": pd.concat([table, table[:1]])}, ("two.csv", "r0")),
        ("an id is missing", {"two": cell("id", 5, "")}, ("two.csv", "5")),
        ("a probability is missing", {"two": cell("good", 5, "")}, ("two.csv", "good", "r4")),
        ("a probability is a word", {"two": cell("good", 5, "high")}, ("two.csv", "good", "r4")),
        ("a probability is nan", {"two": cell("good", 5, "nan")}, ("two.csv", "good", "r4")),
        ("a probability is inf", {"two": cell("good", 5, "inf")}, ("two.csv", "good", "r4")),
        ("a probability is 7", {"two": cell("good", 5, 7)}, ("two.csv", "r4")),
        ("a probability is negative", {"two": cell("good", 5, -0.2)}, ("two.csv", "r4")),
        ("sums are 2", {"two": table.assign(good=table["good"] + 1)}, ("two.csv",)),
        ("a class is missing", {"two": table.drop(columns="good")}, ("two.csv", "good")),
        ("a class too many", {"two": table.assign(new=0.0)}, ("two.csv", "new")),
        ("a label is missing", {"labels": relabel("")}, ("labels.csv", "5")),
        ("a label is no class", {"labels": relabel("new")}, ("new",)),
        ("labels of other ids", {"labels": labels.assign(id=labels["id"] + "x")}, ("labels.csv",)),
        ("a fold is a word", {"labels": labels.assign(fold="a")}, ("fold",)),
        ("one fold", {"labels": labels.assign(fold=0)}, ("fold",)),
        ("a test file lacks a class", {"one.test": table[["id", "good"]], "two.test": table}, ("one.test.csv", "bad")),
        ("a test file for one of two", {"one.test": table}, ("two",)),
        ("constant predictions", {"two": table.assign(bad=0.2, good=0.3, mixed=0.5)}, ("two",)),
    ):  # fmt: skip
        fine = (lambda folder, base: True) if name == "constant predictions" else None
        yield Blow(name, words, put(**tables), steps, fine=fine)
    yield Blow(
        "a folder of pictures",
        ("pictures",),
        lambda folder: (folder / "pictures").mkdir(),
        [("4_ensemble", {"run": "new", "files": "FOLDER/pictures"})],
    )
