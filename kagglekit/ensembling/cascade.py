"""Cascades: each run reads only the rows that those before it are least sure of; what their shares cost and bring."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pandas as pd

from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.files import read_json
from kagglekit.options import check_range
from kagglekit.progress import time_unit
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import Run
from kagglekit.scoring.bootstrap import bootstrap_scores, spread
from kagglekit.scoring.metrics import CLASSES, is_higher_better, score

GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)  # shares of the last run that are replayed
COMBINE = ("last", "mean")


def least_sure(predictions: np.ndarray, kind: str, share: float, among: np.ndarray | None = None) -> np.ndarray:
    """The numbers of the rows that predictions (n, columns) of probabilities are least sure of, in the order of rows.

    Sure of a class: its highest probability; of labels: the probability of the least certain one, which is nearest to
    0.5. share: of all n rows, rounded up. among: the rows to choose from; None: all. Equal rows: the first ones.
    """
    sure = predictions.max(axis=1) if kind in CLASSES else np.abs(predictions - 0.5).min(axis=1)
    rows = np.arange(len(predictions)) if among is None else np.asarray(among)
    count = min(len(rows), int(np.ceil(round(share * len(predictions), 9))))
    return np.sort(rows[np.argsort(sure[rows], kind="stable")[:count]])


@dataclass(eq=False)
class Cascade(Ensembler):
    """Each run is asked about the rows alone that the runs before it are least sure of.

    shares: of all rows, one a run; the first is 1, none is above the one before. Empty: each run reads half as many as
    the one before. combine: what counts where several runs have predicted a row: the "last" of them, or their "mean".
    No label is looked at: its out-of-fold score is honest where the shares were not chosen by it.
    """

    shares: Sequence[float] = ()
    combine: str = "last"

    uses_labels = False

    def __post_init__(self):
        check_range("combine", self.combine, self.combine in COMBINE, f"one of {', '.join(COMBINE)}")
        if self.shares:
            check_shares(self.shares)

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        runs, shares = len(inputs.predictions), list(self.shares)
        check_range("shares", shares, not shares or len(shares) == runs, f"one for each of the {runs} runs")
        self.shares_ = shares or [0.5**k for k in range(runs)]
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        return self.run(inputs.kind, len(inputs), lambda k, rows: inputs.predictions[k][rows])

    def run(self, kind: str, count: int, ask) -> np.ndarray:
        """The predictions (count, columns). ask: number of a run, numbers of rows -> its predictions of these."""
        rows = np.arange(count)
        found = np.array(ask(0, rows), dtype=np.float64)
        total = found.copy()
        for k, share in enumerate(self.shares_[1:], start=1):
            rows = least_sure(found, kind, share, rows)
            if not len(rows):
                break
            asked = ask(k, rows)
            total[rows] += asked
            found[rows] = asked if self.combine == "last" else total[rows] / (k + 1)
        return found


def check_shares(shares: Sequence[float], name: str = "shares") -> None:
    """Raise ValueError unless the shares begin with 1, none is above the one before, and there are two or more."""
    fits = len(shares) > 1 and shares[0] == 1 and all(0 <= b <= a for a, b in pairwise(shares))
    check_range(name, list(shares), fits, "two or more from 0 to 1, the first 1, none above the one before")


def read_cascade(cascade: Sequence[Sequence[Any]]) -> tuple[list[str], list[float]]:
    """The runs and shares of [["small", 1.0], ["large", 0.3]]. Raises ValueError for any other form."""
    for number, pair in enumerate(cascade, start=1):
        fits = len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) in (int, float)
        check_range(
            f"cascade: pair {number}", list(pair), fits, 'a run and a share of the rows, such as ["large", 0.3]'
        )
    runs, shares = [pair[0] for pair in cascade], [float(pair[1]) for pair in cascade]
    check_range("cascade", runs, len({*runs}) == len(runs), "made of different runs")
    check_shares(shares, "cascade: shares")
    return runs, shares


def as_method(
    cascade: Sequence[Sequence[Any]], options: dict[str, dict[str, Any]]
) -> tuple[list[str], str, dict[str, dict[str, Any]]]:
    """runs=, method= and options= of 4_ensemble that a cascade= stands for, see `read_cascade`. Raises ValueError where
    the options have shares too."""
    runs, shares = read_cascade(cascade)
    if "shares" in options.get("cascade", {}):
        raise ValueError("options: cascade: the shares stand in cascade= already: leave them out")
    return runs, "cascade", {**options, "cascade": {"shares": shares, **options.get("cascade", {})}}


def prediction_cost(record: RunRecord) -> tuple[float, float] | None:
    """What it takes a run to predict test, by what its trainings noted: seconds, and seconds a row of test, all folds
    and seeds together. A learner without a saved model is fitted again: seconds alone. None where nothing was noted."""
    if record.members:
        each = [prediction_cost(member) for member in record.members]
        return None if None in each else tuple(map(sum, zip(*each, strict=True)))
    known = [read_json(file) for place in record.folds.values() for file in sorted(place.rglob("cost.json"))]
    if not known or any("predicting" not in cost for cost in known):
        return None
    if any(cost["predicting"] is None for cost in known):
        return sum(cost["seconds"] for cost in known), 0.0
    return 0.0, sum(cost["predicting"] / max(cost["test_rows"], 1) for cost in known)


def replay(
    cascade: Cascade, inputs: StackInput, labels: np.ndarray, costs: Sequence[tuple | None], test_rows: int
) -> pd.DataFrame:
    """The cascade on out-of-fold rows with other shares of its last run: a row a share, with `score`, `difference` to
    the last run on all rows that it may read (above 0: better), the `standard_error` of that (bootstrap over the same
    rows), and the time for so many rows of test by the `prediction_cost` of each run, in three digits: a column
    `seconds`, `minutes` or `hours`, by the longest; without it where a cost is not known, or test has no rows."""
    *first, own = cascade.shares_
    shares = sorted({*(share for share in GRID if share < first[-1]), own, first[-1]})
    ways = [[*first, share] for share in shares]
    found = [Cascade(way, cascade.combine).fit(inputs, labels, labels).predict(inputs) for way in ways]
    scores = np.array([score(inputs.metric, labels, one) for one in found])
    drawn = bootstrap_scores(inputs.metric, labels, found, inputs.groups, 200)
    sign = 1 if is_higher_better(inputs.metric) else -1
    table = pd.DataFrame({"share": shares, "score": scores, "difference": sign * (scores - scores[-1])})
    table["standard_error"] = [spread(drawn[:, k] - drawn[:, -1]) for k in range(len(found))]
    fixed, row = np.array([one or (np.nan, np.nan) for one in costs]).T
    times = [float(np.where(np.array(way) > 0, fixed + np.array(way) * row * test_rows, 0).sum()) for way in ways]
    if max(times) > 0 and not np.isnan(times).any():
        unit, long = time_unit(max(times))
        table[unit] = [float(f"{time / long:.3g}") for time in times]
    return table.set_index("share")


def replay_runs(
    runs: Sequence[Run], options: dict[str, Any], inputs: StackInput, labels: np.ndarray, test_rows: int
) -> tuple[pd.DataFrame, float]:
    """`replay` of the cascade with these options, of runs as 4_ensemble read them; and the share of its last run."""
    costs = [None if run.folder is None else prediction_cost(RunRecord(run.folder)) for run in runs]
    cascade = Cascade(**options).fit(inputs, labels, labels)
    return replay(cascade, inputs, labels, costs, test_rows), cascade.shares_[-1]
