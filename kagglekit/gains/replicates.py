"""Recipes of a work folder: runs that differ in their seed alone are one, and what each predicts, by fold and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.competition.task import Task, encode_labels, load_task, read_test, read_train
from kagglekit.files import read_json, resolve, seed_folder
from kagglekit.options import did_you_mean
from kagglekit.reports.overview import read_overview
from kagglekit.runs.best_epoch import FILE, choose_evaluations, read_evaluations
from kagglekit.runs.identity import changes
from kagglekit.runs.leaks import score_warning
from kagglekit.runs.record import RunRecord
from kagglekit.runs.seeds import seed_tables
from kagglekit.runs.tables import list_runs, read_folds, read_run, trained_runs
from kagglekit.scoring.metrics import is_higher_better, score

SEEDS = ("seed", "seeds")  # settings by which the runs of one recipe may differ


@dataclass
class Replicates:
    """Runs of one recipe. cells: fold -> seed -> predictions of the fold's rows (rows, columns), in the order of train.
    seconds, memory: of a training, the means of what runs recorded, memory in bytes; None where none did. notes: what a
    reader has to know."""

    records: list[RunRecord]
    cells: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)
    seconds: float | None = None
    memory: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of its first run."""
        return self.records[0].name

    @property
    def names(self) -> list[str]:
        return [record.name for record in self.records]


@dataclass
class Comparable:
    """What a ledger compares. labels, folds, groups: of all rows of train, as `measure_gain` takes them; folds are -1
    where a row is never held out. base: with its own runs. left_out: runs that cannot be compared -> why."""

    task: Task
    labels: np.ndarray
    folds: np.ndarray
    groups: np.ndarray
    base: Replicates
    recipes: list[Replicates]
    left_out: dict[str, str]


def read_recipes(work: str | Path, base: str = "", runs: Sequence[str] = ()) -> Comparable:
    """The recipes of a work folder, and the base that they are compared with.

    base: a run; empty: the one called base, else the first that was made. runs: those that count beside the base; none:
    all. Raises FileNotFoundError for what is not there, and ValueError where the base cannot be compared.
    """
    work, reads = resolve(work), {}
    if not (work / "task.json").is_file():
        raise FileNotFoundError(f"{work} has no task.json: name a work folder in which 1_eda and 3_train ran")
    there, trained = list_runs(work), trained_runs(work)
    for name in [*filter(None, [base]), *runs]:
        if name not in there:
            meant = did_you_mean(name, there) or f": there are {', '.join(there) or 'none'}"
            raise FileNotFoundError(f"the run {name!r} does not exist in {work}, or has no finished fold{meant}")
    records = {name: RunRecord(work / name, reads) for name in there}
    order = sorted(trained, key=lambda name: (work / name / "params.json").stat().st_mtime)
    if not order:
        raise FileNotFoundError(f"{work} has no trained run: run 3_train first")
    base = base or ("base" if "base" in order else order[0])
    task = load_task(work)
    train = read_train(task)
    table, test_ids = read_folds(work, train["id"]), read_test(task)["id"]
    labels = encode_labels(task, train)
    left_out, found = {}, []
    chosen = [base, *(name for name in runs or [*order, *there] if name != base)]
    for name in dict.fromkeys(chosen):
        try:
            one = _read_one(records[name], task, table, test_ids, labels)
        except (ValueError, OSError) as error:
            if name == base:
                raise ValueError(f"base={base!r} cannot be the base: {error}") from error
            left_out[name] = str(error)
            continue
        _add(found, one, left_out)
    _add_costs(work, found)
    first, *others = found
    for one in [one for one in others if not set(one.cells) & set(first.cells)]:
        others.remove(one)
        folds = f"{', '.join(map(str, one.cells))} of {one.name} and {', '.join(map(str, first.cells))} of {first.name}"
        left_out |= dict.fromkeys(one.names, f"no finished fold in common: {folds}")
    folds, groups = table["fold"].to_numpy(), table["group"].to_numpy()
    return Comparable(task, labels, folds, groups, first, others, left_out)


def _read_one(record: RunRecord, task: Task, table: pd.DataFrame, test_ids: Iterable, labels: np.ndarray) -> Replicates:
    """A run as a recipe of its own. Raises ValueError where its score tells nothing of a recipe."""
    if record.members:
        raise ValueError("its weights were found on these rows, as of any blend; `kagglekit compare` shows it")
    if not record.recipe:
        raise ValueError("it was made elsewhere: its settings are not known")
    run = read_run(record.work, record.name, task, table, list(test_ids))
    tables = seed_tables(record)
    wrong = {"id": "rows", "fold": "folds"}
    for fold, each in tables.items():
        first = run.oof.loc[run.oof["fold"] == fold]
        for number, one in each.items():
            for column, words in wrong.items():
                if one[column].tolist() != first[column].tolist():
                    raise ValueError(f"seed {number} of fold {fold} has other {words} than the fold")
    cells = {
        fold: {seed_of(record, number): one.iloc[:, 2:].to_numpy(dtype=np.float32) for number, one in each.items()}
        for fold, each in tables.items()
    }
    found, honest = Replicates([record], cells), _honest_cells(record, run, task, labels)
    if honest:
        found.cells = honest
        found.notes.append("each epoch is chosen by the other folds")
    if words := score_warning(record, bool(honest)):
        raise ValueError(words.partition(" is too good: ")[2].join(["its score is too good: ", ""]))
    return found


def seed_of(record: RunRecord, number: int) -> int:
    """The seed of fold 0 of a run's seed number `number`: two runs with the same began alike."""
    return int(record.recipe.get("seed", 0)) + 1000 * number


def _honest_cells(record: RunRecord, run, task: Task, labels: np.ndarray) -> dict[int, dict[int, np.ndarray]]:
    """Of a run with keep_best the predictions of each seed at the evaluation that the other folds choose, as
    `honest_run` has those of their mean; empty for another run."""
    numbers = range(min(record.seeds.values()))
    places = {number: {k: seed_folder(place, number) for k, place in record.folds.items()} for number in numbers}
    if len(record.folds) < 2 or not all((one / FILE).is_file() for each in places.values() for one in each.values()):
        return {}
    inside, higher = {k: (run.oof["fold"] == k).to_numpy() for k in record.folds}, is_higher_better(task.metric)
    truth, cells = labels[run.rows], {k: {} for k in record.folds}
    for number, each in places.items():
        found = {k: read_evaluations(place, run.oof["id"][inside[k]].tolist()) for k, place in each.items()}
        scores = {k: [score(task.metric, truth[inside[k]], one) for one in some] for k, some in found.items()}
        for k, chosen in choose_evaluations(scores, higher).items():
            cells[k][seed_of(record, number)] = found[k][chosen]
    return cells


def _add(found: list[Replicates], one: Replicates, left_out: dict[str, str]) -> None:
    """Put a run to the runs of its recipe, or make it a recipe of its own."""
    for known in found:
        if not changes(*(_without_seed(record.params) for record in (known.records[0], one.records[0]))):
            twice = [(k, s) for k, each in one.cells.items() for s in each if s in known.cells.get(k, {})]
            if len(twice) == sum(map(len, one.cells.values())):
                left_out[one.name] = f"the same settings and seeds as {known.name}: nothing that this one lacks"
                return
            for k, each in one.cells.items():
                known.cells[k] = each | known.cells.get(k, {})
            known.records += one.records
            known.notes += [note for note in one.notes if note not in known.notes]
            return
    found.append(one)


def _without_seed(params: Mapping) -> dict:
    recipe = {name: value for name, value in params["recipe"].items() if name not in SEEDS}
    return {**params, "recipe": recipe}


def _add_costs(work: Path, found: Iterable[Replicates]) -> None:
    """Time and memory of a training: as each recorded them, else the time of the notebook."""
    view = read_overview(work)
    for one in found:
        known = [read_json(file) for record in one.records for file in sorted(record.folder.glob("fold*/**/cost.json"))]
        whole = [cost["seconds"] for cost in known if not cost["resumed"]]
        one.seconds = float(np.mean(whole)) if whole else None
        one.memory = max((cost["memory"] for cost in known if cost["memory"]), default=None)
        rows = [row for name in one.names if (row := view.row(name)) and row.seconds]
        if not whole and rows:
            trainings = sum(sum(row.record.seeds.values()) for row in rows)
            one.seconds = sum(row.seconds for row in rows) / max(trainings, 1)
