"""Overview of a work folder: all of its runs, with scores, folds, what differs, and time; and what is damaged.

Finished runs come first, by score. Runs of fewer folds were scored on other rows: they stand below, and are told.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kagglekit.files import read_json, resolve, shorten
from kagglekit.files.parquet import read_parquet
from kagglekit.files.paths import RESERVED
from kagglekit.progress import clock
from kagglekit.reports.run_settings import describe_settings
from kagglekit.running.notebook import LAB
from kagglekit.runs.folder import name_seeds, score_run
from kagglekit.runs.leaks import score_warning
from kagglekit.runs.record import RunRecord
from kagglekit.scoring.metrics import is_higher_better


@dataclass
class RunRow:
    """A run in the table. score, error: None where it has none. folds: those that are finished. members: the runs that
    a blend is made of. seconds: None where nothing has recorded them. notes: what a reader has to know of its score."""

    record: RunRecord
    metric: str = ""
    score: float | None = None
    error: float | None = None
    folds: list[int] = field(default_factory=list)
    partial: bool = False
    members: list[str] = field(default_factory=list)
    seconds: float | None = None
    place: str = ""
    settings: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def score_text(self) -> str:
        error = "" if self.error is None else f" ± {write_score(self.error)}"
        return "" if self.score is None else f"{write_score(self.score)}{error}"

    @property
    def time(self) -> str:
        return self.place if self.seconds is None else clock(self.seconds)


@dataclass
class Overview:
    """The runs of a work folder, in the order of the table, and what else is there.

    n_folds: of folds.parquet; 0 where there is none, as for runs that are imported from files. submission: what
    submission.json says. markers: notebook -> its marker. problems: files that are damaged, in words.
    """

    work: Path
    rows: list[RunRow] = field(default_factory=list)
    task: dict[str, Any] = field(default_factory=dict)
    n_rows: int = 0
    n_folds: int = 0
    submission: dict[str, Any] = field(default_factory=dict)
    markers: dict[str, dict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """What is damaged or lacking is named once, and the rest goes on."""
        try:
            yield
        except (ValueError, OSError) as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))

    @property
    def metric(self) -> str:
        return next((row.metric for row in self.rows if row.metric), self.task.get("metric", ""))

    def row(self, name: str) -> RunRow | None:
        """The row of a run; None where there is none of that name."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def chosen(self) -> RunRow | None:
        """The run that is submitted, or else the best."""
        named = self.row(self.submission.get("run", ""))
        return named or next((row for row in self.rows if row.score is not None), None)


def write_score(value: float) -> str:
    """A score with four digits after the point, a large one with six in all; "not defined" for NaN."""
    return "not defined" if math.isnan(value) else f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"


def read_overview(work: str | Path) -> Overview:
    """What a work folder holds. Raises FileNotFoundError for one that is not there, or in which nothing was done."""
    found = Overview(resolve(work))
    folders = sorted(
        {path.parent for name in ("params", "weights", "score") for path in found.work.glob(f"*/{name}.json")}
    )
    folders = [folder for folder in folders if folder.name not in RESERVED]
    for path in sorted((found.work / "notebooks").glob("*.done.json")):
        with found.catching():
            found.markers[path.name.removesuffix(".done.json")] = read_json(path)
    if not folders and not found.markers and not (found.work / "task.json").is_file():
        there = "has no runs, and no finished notebooks: begin with 1_eda" if found.work.is_dir() else "does not exist"
        raise FileNotFoundError(f"{shorten(found.work)} {there}")
    for name in ("task", "submission"):
        with found.catching():
            if (found.work / f"{name}.json").is_file():
                setattr(found, name, read_json(found.work / f"{name}.json"))
    with found.catching():
        if (found.work / "folds.parquet").is_file():
            fold = read_parquet(found.work / "folds.parquet")["fold"]
            found.n_rows, found.n_folds = int((fold >= 0).sum()), fold[fold >= 0].nunique()
    reads: dict = {}
    rows = [RunRow(RunRecord(folder, reads)) for folder in folders]
    for row in rows:
        _read_row(row, found)
    _describe_rows(rows, found)
    higher = True
    with found.catching():
        higher = is_higher_better(next((row.metric for row in rows if row.metric), "accuracy"))
    found.rows = sorted(rows, key=lambda row: (row.score is None, row.partial, _place(row, higher), row.name))
    return found


def _place(row: RunRow, higher: bool) -> float:
    return 0.0 if row.score is None else -row.score if higher else row.score


def _read_row(row: RunRow, found: Overview) -> None:
    record = row.record
    row.folds = list(record.folds)
    with found.catching():
        row.members = record.weights.get("members", [])
    with found.catching():
        scores = record.scores
        apart = scores.get("seeds", {}).get("folds", {})
        scored = {int(fold): len(apart.get(fold, [0])) for fold in scores.get("folds", {})}
        if row.folds and scored != record.seeds:
            scores = _score_again(record, found)  # cut off before it was scored, or folds or seeds came since
        row.folds = row.folds or sorted(int(fold) for fold in scores.get("folds", {}))
        if "score" in scores:
            row.metric, row.error = scores.get("metric", ""), scores.get("standard_error")
            row.score = scores.get("cross_fitted", scores["score"])
            if words := name_seeds(scores):
                row.notes.append(f"mean of {words.removeprefix(', ')}")
            if "cross_fitted" in scores and "members" not in scores:
                itself = f"{write_score(scores['score'])} by itself, which is too good"
                row.notes.append(f"each fold's best evaluation is chosen by the other folds ({itself})")
            with found.catching():
                if words := score_warning(record, "cross_fitted" in scores):
                    row.notes.append(words)
    row.partial = 0 < len(row.folds) < found.n_folds
    if row.partial:
        which = f"{row.folds[0]}-{row.folds[-1]}" if len(row.folds) > 1 else f"{row.folds[0]}"
        which = which if len(row.folds) == row.folds[-1] - row.folds[0] + 1 else ", ".join(map(str, row.folds))
        row.notes.insert(
            0, f"fold{'s' * (len(row.folds) > 1)} {which} of {found.n_folds}: not comparable with the others"
        )
    _find_time(row, found)


def _score_again(record: RunRecord, found: Overview) -> dict[str, Any]:
    from kagglekit.reports.paired import read_data  # it takes seconds, and is rarely needed

    with found.catching():
        data = read_data(found.work, [record.name])
        return score_run(data.runs[0], data.task, data.labels, data.features.groups)
    return {}


def _find_time(row: RunRow, found: Overview) -> None:
    """The time of a run: that of its notebook, with those of the workers that trained its folds in parallel."""
    copies = found.work / "notebooks"
    stems = [f"{notebook}.{row.name}" for notebook in ("2_pretrain", "3_train", "4_ensemble")]
    if done := [found.markers[stem] for stem in stems if stem in found.markers]:
        row.seconds = sum(marker.get("seconds", 0.0) for marker in done)
        for part in copies.glob(f"3_train.{row.name}.fold[0-9]*.ipynb"):
            if part.stem not in found.markers:  # else it is the copy of another run
                with found.catching():
                    row.seconds += read_json(part).get("metadata", {}).get("papermill", {}).get("duration") or 0.0
    elif any((copies / f"{stem}.failed.ipynb").is_file() for stem in stems):
        row.place = "cut off"
    else:
        row.place = "in lab" if (copies / LAB).is_dir() else "-"


def _describe_rows(rows: list[RunRow], found: Overview) -> None:
    """Say of each run how its settings differ from those of an earlier one."""

    def made(row: RunRow) -> float:
        ends = [mark.get("finished_at") for stem, mark in found.markers.items() if stem.partition(".")[2] == row.name]
        if ends and ends[0]:
            return datetime.fromisoformat(ends[0]).timestamp()
        files = [row.record.folder / name for name in ("params.json", "weights.json", "score.json")]
        return next(file for file in files if file.is_file()).stat().st_mtime

    earlier: list[RunRecord] = []
    for row in sorted(rows, key=lambda row: (made(row), row.name)):
        row.settings = "its settings cannot be read"
        with found.catching():
            row.settings = describe_settings(row.record, earlier)
            if "objective" in row.record.recipe:
                row.settings = f"2_pretrain, has no score; {row.settings}"
            elif not row.folds:
                row.settings = f"no fold is finished; {row.settings}"
            earlier.append(row.record)
