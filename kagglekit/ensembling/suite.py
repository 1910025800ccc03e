"""A suite: the submissions of several work folders in one zip, a file each, scored by the mean of their metrics."""

import json
import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kagglekit.competition.formats.encodings import PACKED, decode, unpack
from kagglekit.competition.submission import check_submission, make_submission, suspicious
from kagglekit.competition.task import Task, encode_labels, is_work, load_task, read_sample, read_test, read_train
from kagglekit.files import replacing, resolve
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import read_folds, read_run
from kagglekit.scoring.metrics import is_higher_better

JSON = (".json", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class SuitePart:
    """One task of a suite: its work folder and run, the checked submission, and the name and bytes of its file.

    score, error: of the run out of fold, in the task's metric; NaN where it has none. cautions: see `suspicious`.
    """

    place: Path
    run: str
    metric: str
    name: str
    submission: pd.DataFrame = field(repr=False)
    data: bytes = field(repr=False)
    score: float
    error: float
    cautions: list[str]


def find_parts(work: str | Path, run: str, suite: Sequence[str]) -> list[tuple[Path, str]]:
    """Work folder and run of each task of a suite: `work` first, then each of `suite`, a work folder, which has a run
    of the same name, or the path of a run. Raises FileNotFoundError and ValueError for one that is not there."""
    found = [(resolve(work), run)]
    for name in suite:
        place = resolve(name)
        part = (place, run) if is_work(place) else (place.parent, place.name)
        if not is_work(part[0]):
            raise FileNotFoundError(
                f"suite: {name} is neither a work folder nor a run in one: {place} has no task.json"
            )
        if not (part[0] / part[1]).is_dir():
            other = f"{name}/NAME" if is_work(place) else str(Path(name).parent / "NAME")
            raise FileNotFoundError(f"suite: {part[0]} has no run {part[1]!r}: name one of its runs, as {other}")
        found.append(part)
    for place, times in Counter(place for place, _ in found).items():
        if times > 1:
            raise ValueError(f"suite: {place} is named twice: a suite has one submission of each work folder")
    return found


def make_suite(work: str | Path, run: str, suite: Sequence[str]) -> list[SuitePart]:
    """The parts of a suite, from saved test predictions; each is checked as 5_submit does it.

    A file is named as the sample submission of its task, and has its form: CSV, JSON lines, or an array of objects;
    where two samples have the same name, all are named as the work folders.
    """
    found = find_parts(work, run, suite)
    tasks = [load_task(place) for place, _ in found]
    names = [_file_name(task, place) for task, (place, _) in zip(tasks, found, strict=True)]
    if len(set(names)) < len(names):
        names = [place.name + Path(name).suffix for name, (place, _) in zip(names, found, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError("suite: two work folders have the same name, and so have their files: rename one folder")
    return [_make_part(*part, task, name) for part, task, name in zip(found, tasks, names, strict=True)]


def _file_name(task: Task, place: Path) -> str:
    """The name of the sample submission without that of packing; a table of another form is a CSV here."""
    path = Path(Path(task.files.get("sample_submission", place.name)).name)
    path = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return path.name if path.suffix.lower() in JSON else path.with_suffix(".csv").name


def _make_part(place: Path, run: str, task: Task, name: str) -> SuitePart:
    train, test, sample = read_train(task), read_test(task), read_sample(task)
    folds = read_folds(place, train["id"])
    result = read_run(place, run, task, folds, test["id"])
    frame = make_submission(task, sample, test["id"], result.test_mean)
    check_submission(frame, sample, task)
    lacking = sorted({*folds["fold"]} - {*result.folds, -1})
    cautions = suspicious(task, encode_labels(task, train), result.test_mean, result.folds, lacking)
    scores = RunRecord(place / run).scores
    figures = (scores.get(what, math.nan) for what in ("score", "standard_error"))
    return SuitePart(place, run, task.metric, name, frame, _write(task, frame, name), *figures, cautions)


def _write(task: Task, frame: pd.DataFrame, name: str) -> bytes:
    """The file of a submission. In JSON, what is a number in the first object of the sample is one here."""
    if Path(name).suffix.lower() not in JSON:
        return frame.to_csv(index=False, **task.csv, lineterminator="\n").encode()
    path = Path(task.data) / task.files["sample_submission"]
    text = decode(path, unpack(path)[1], task.encoding).lstrip()
    array = text.startswith("[")
    first, _ = json.JSONDecoder().raw_decode(text[array:].lstrip())
    numbers = {key for key, value in first.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    rows = [
        json.dumps(
            {key: _number(value) if key in numbers else str(value) for key, value in row.items()}, ensure_ascii=False
        )
        for row in frame.to_dict("records")
    ]
    return ("[" + ",\n".join(rows) + "]\n" if array else "\n".join(rows) + "\n").encode()


def _number(value: str | float) -> int | float:
    return int(value) if isinstance(value, str) and value.removeprefix("-").isdecimal() else float(value)


def write_suite(parts: Sequence[SuitePart], path: str | Path) -> Path:
    """Write a zip with a file a task, whole or not at all; the same parts give the same bytes. Returns the path."""
    with replacing(path) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts:
            archive.writestr(zipfile.ZipInfo(part.name, (1980, 1, 1, 0, 0, 0)), part.data, zipfile.ZIP_DEFLATED)
    return Path(path)


def suite_table(parts: Sequence[SuitePart]) -> pd.DataFrame:
    """A row for each file of the zip."""
    rows = [(one.name, one.place.name, one.run, len(one.submission), one.metric, one.score, one.error) for one in parts]
    columns = ["file", "work folder", "run", "rows", "metric", "score", "standard_error"]
    return pd.DataFrame(rows, columns=columns).set_index("file")


def describe_suite(parts: Sequence[SuitePart]) -> str:
    """The mean of the out-of-fold scores with its standard error, as the tasks' rows are independent; or why there is
    none."""
    if lost := [one for one in parts if math.isnan(one.score)]:
        return f"no mean score: {lost[0].place.name}/{lost[0].run} has none, finish 3_train with it"
    higher = {one.metric: is_higher_better(one.metric) for one in parts}
    if len({*higher.values()}) > 1:
        up, down = (next(name for name, way in higher.items() if way == wanted) for wanted in (True, False))
        return f"no mean score: {up} is better when it is higher, {down} when it is lower"
    mean = sum(one.score for one in parts) / len(parts)
    error = math.sqrt(sum(one.error**2 for one in parts)) / len(parts)
    return f"{mean:.4f} ± {error:.4f} out of fold, the mean of {len(parts)} tasks"
