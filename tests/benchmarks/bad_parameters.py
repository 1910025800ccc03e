"""Command lines that must end before a kernel starts: parameters out of range, of a wrong type, or without effect."""

from collections.abc import Iterator
from pathlib import Path

from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from tests.benchmarks.bad_inputs import Blow

NOTEBOOKS = ("1_eda", "2_pretrain", "3_train", "4_ensemble", "5_submit")


def parameters(base: Path) -> Iterator[Blow]:
    """Every parameter of every notebook, out of its range or of a wrong type, as a command line that ends at once."""
    fixed = {"1_eda": ["data=FOLDER/data"], "3_train": ["run=new"], "2_pretrain": ["run=new"]}
    for notebook in NOTEBOOKS:
        known = read_parameters(find_notebook(notebook))
        start = [notebook, "work=FOLDER/work"]
        for name, parameter in known.items():
            bad = []
            numeric = any(kind in parameter.takes for kind in ("int", "float"))
            if numeric and "list" not in parameter.takes and "dict" not in parameter.takes:
                bad += ["abc", "nan", "-7", "1e999"]
            elif parameter.takes in ("bool",):
                bad += ["7", "maybe"]
            elif parameter.takes.startswith("dict"):
                bad += ["abc", '{"nope": {}}', "[1]"]
            elif parameter.takes.startswith("list"):
                bad += ["[{}]", '{"a": 1}']
            elif parameter.knob and parameter.knob.choices:
                bad += ["nope"]
            for value in bad:
                others = [part for part in fixed.get(notebook, []) if not part.startswith(f"{name}=")]
                if name != "work":
                    word = "nope" if name == "recipe" and "nope" in value else name
                    yield Blow(f"{notebook} {name}={value}", (word,), command=[*start, *others, f"{name}={value}"])
        yield Blow(f"{notebook} an unknown parameter", ("nope",), command=[*start, "nope=1"])
        yield Blow(f"{notebook} a parameter twice", ("run" if "run" in known else "seed", "twice"),
                   command=[*start, *(["run=a", "run=b"] if "run" in known else ["seed=1", "seed=2"])])  # fmt: skip
    train = ["3_train", "work=FOLDER/work", "run=new"]
    for given, words in (
        (["backbone=tfidf", 'tricks={"FGM": {}}'], ("tricks", "tfidf")),
        (["backbone=tfidf", "pooling=cls"], ("pooling", "tfidf")),
        (["backbone=tfidf", "epochs=2"], ("epochs", "tfidf")),
        (["learner=frozen", 'tricks={"FGM": {}}'], ("tricks", "frozen")),
        (['tricks={"FMG": {}}'], ("FMG", "FGM")),
        (['tricks={"FGM": {"epsilom": 1}}'], ("epsilom", "epsilon")),
        (['loss={"focl": {}}'], ("focl", "focal")),
        (["pooling=atention"], ("attention",)),
        (["backbone=FOLDER/nowhere"], ("nowhere",)),
        (["start=nope"], ("nope",)),
        (["folds=[9]"], ("folds", "9")),
        (["folds=[0,0]"], ("folds",)),
        (["folds=[-1]"], ("folds",)),
        (['pseudo={"teacher": "nope"}'], ("nope",)),
        (['pseudo={"techer": "base"}'], ("techer", "teacher")),
        (['features={"columns": ["nope"]}'], ("columns", "numbers")),
        (["epoch=3"], ("epochs",)),
        (["3"], ("3",)),
        (["=3"], ("=3",)),
    ):
        yield Blow(f"3_train {' '.join(given)[:60]}", words, command=[*train, *given])
    for name in (
        "x" * 300,
        "../x",
        "a/b",
        "",
        " ",
        ".",
        "..",
        "con",
        "a b",
        "naïve",
        "a:b",
        "a*b",
        "-x",
        "\x00",
        "notebooks",
        "base ",
    ):
        for notebook in ("2_pretrain", "3_train", "4_ensemble"):
            fine = (lambda folder, base: True) if name in ("naïve", "con", "a b") else None
            yield Blow(
                f"{notebook} run={name[:20]!r}",
                ("run",),
                command=[notebook, "work=FOLDER/work", f"run={name}"],
                fine=fine,
            )
    for given, words in (
        (["run=new", 'runs=["nope"]'], ("nope",)),
        (["run=new", 'runs=["base", "base"]'], ("base",)),
        (["run=base", 'runs=["tfidf"]'], ("base",)),
        (["run=new", "method=nope"], ("method", "nope")),
        (["run=new", "method=weight"], ("weights",)),
        (["run=new", 'methods=["nope"]'], ("nope",)),
        (["run=new", "calibrate=platt"], ("platt",)),
        (["run=new", 'meta=["nope"]'], ("nope",)),
        (["run=new", 'options={"nope": {}}'], ("nope",)),
        (["run=new", 'options={"hill_climbing": {"bag": 2}}'], ("bag",)),
        (["run=new", "files=FOLDER/nowhere"], ("nowhere",)),
    ):
        yield Blow(f"4_ensemble {' '.join(given)[:60]}", words, command=["4_ensemble", "work=FOLDER/work", *given])
    yield Blow("5_submit run=nope", ("nope",), command=["5_submit", "work=FOLDER/work", "run=nope"])
    yield Blow("5_submit without 1_eda", ("1_eda",), command=["5_submit", "work=FOLDER/empty", "run=base"])
    yield Blow("a notebook that is none", ("3_train",), command=["3_trian", "work=FOLDER/work"])
    yield Blow("no work folder", ("work",), command=["3_train", "work=", "run=new"])
    yield Blow(
        "a work folder that is a file",
        ("train.csv",),
        command=["3_train", "work=FOLDER/data/train.csv", "run=new"],
    )
    yield Blow("a limit of zero", ("limit",), command=["3_train", "work=FOLDER/work", "run=new", "--limit", "0"])
