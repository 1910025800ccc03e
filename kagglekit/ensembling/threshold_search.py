"""The search of thresholds: each in turn is moved to its best place while the others stay.

Rows are sorted, change their decision one after the other, and the counts that the metric needs are updated along the
way, so n scores cost about as much as one. A metric without a form from counts, such as a function of the user, is
scored by its own formula at 25 places, then at 25 between the neighbours of the best one, and so on.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from kagglekit.ensembling.ensembler import Ensembler, StackInput, single_prediction
from kagglekit.options import check_range
from kagglekit.scoring.counts import Counts, apart
from kagglekit.scoring.metrics import METRICS, find_metric, is_higher_better, make_scorer

GRID = 25  # places that are tried for a metric without a form from counts


@dataclass(repr=False, eq=False)
class Thresholds(Ensembler):
    """Thresholds for one prediction: each is moved in turn to its best place, until a round changes nothing.

    bags: 0 takes the optimum of the rows as they are; more takes the mean of the optima, nearest to it, of that many
    bootstrap samples (of whole groups, where there are groups). That varies less between samples and takes about half
    as many times as long: for 37,000 rows and 3 classes 1 s in place of 0.2 s. In a simulation with 300 rows and macro
    F1, thresholds without bags seemed to gain 0.037 and gained nothing on fresh rows, with 10 bags 0.016 and 0.004.
    shrink: 0 uses the optimum; 0.5 half the way from the usual decision; 1 leaves the predictions as they are. rounds:
    at most this many. `thresholds_` is None where the usual decision does as well on the fitted rows: predictions then
    stay as they are. Raises ValueError for a metric that sees no decisions.
    """

    bags: int = 0
    shrink: float = 0.0
    rounds: int = 10
    seed: int = 0

    kinds: ClassVar[tuple[str, ...]]
    link: ClassVar = staticmethod(np.asarray)  # to the scale on which thresholds are averaged and shrunk
    unlink: ClassVar = staticmethod(np.asarray)

    def fit(self, inputs: StackInput, labels: np.ndarray, folds: np.ndarray) -> Self:
        check_range("bags", self.bags, self.bags >= 0, "0 or more")
        check_range("shrink", self.shrink, 0 <= self.shrink <= 1, "from 0 to 1")
        check_range("rounds", self.rounds, self.rounds >= 1, "1 or more")
        predictions = single_prediction(self, inputs, self.kinds)
        check_decides(inputs.metric)
        labels, self.thresholds_ = np.asanyarray(labels), None
        usual = self._usual(predictions, labels)
        if self.shrink == 1 or not len(usual):
            return self
        whole = self._search(predictions, labels, inputs.metric, self._starts(predictions, labels, usual))
        optima = [
            self._search(predictions[rows], labels[rows], inputs.metric, [whole])
            for rows in bootstrap_rows(inputs, self.bags, self.seed)
        ]
        start = self.link(usual)
        away = np.mean([self.link(at) for at in optima or [whole]], axis=0) - start
        found = self.unlink(start + (1 - self.shrink) * away)
        moved, plain = (_gain(inputs.metric, labels, each) for each in (self._map(predictions, found), predictions))
        if moved > plain:
            self.thresholds_ = found
        return self

    def predict(self, inputs: StackInput) -> np.ndarray:
        predictions = single_prediction(self, inputs)
        return predictions.copy() if self.thresholds_ is None else self._map(predictions, self.thresholds_)

    def _search(self, predictions: np.ndarray, labels: np.ndarray, metric: str, starts: list) -> np.ndarray:
        """The best thresholds that are reached from one of `starts`."""
        results = []
        for start in starts:
            at, reached = start.copy(), _gain(metric, labels, self._map(predictions, start))
            for _ in range(self.rounds):
                before = reached
                for k in range(len(at)):
                    places, values = self._scan(k, at, predictions, labels, metric)
                    best = np.flatnonzero(values >= values.max() - 1e-12)
                    if values[best[0]] > reached + 1e-12:
                        nearest = np.abs(self.link(places[best]) - self.link(at[k])).argmin()
                        at[k], reached = places[best[nearest]], values[best[nearest]]
                if reached <= before + 1e-12:
                    break
            results.append((reached, at))
        return max(results, key=lambda result: result[0])[1]

    def _scan(self, k: int, at: np.ndarray, predictions: np.ndarray, labels: np.ndarray, metric: str):
        """Where threshold k could be, the others staying, and the value of the metric there."""
        levels, count = self._line(k, at, predictions, labels)
        if not len(levels):
            return at[k : k + 1], np.array([-np.inf])
        rows, places = cut_places(levels)
        places, from_counts = self.unlink(places), find_metric(metric).from_counts
        if from_counts:
            return places, from_counts(count())[rows] * (1 if is_higher_better(metric) else -1)
        known: dict[int, float] = {}  # number of a place -> the score there
        low, high = 0, len(places) - 1
        while True:
            tried = np.unique(np.linspace(low, high, GRID).astype(int)).tolist()
            for n in tried:
                moved = np.where(np.arange(len(at)) == k, places[n], at)
                known[n] = known[n] if n in known else _gain(metric, labels, self._map(predictions, moved))
            best = int(np.argmax([known[n] for n in tried]))
            if high - low < GRID:
                return places[list(known)], np.array(list(known.values()))
            low, high = tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)]

    def _starts(self, predictions: np.ndarray, labels: np.ndarray, usual: np.ndarray) -> list[np.ndarray]:
        return [usual]

    @abstractmethod
    def _usual(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The thresholds of the usual decision."""

    @abstractmethod
    def _map(self, predictions: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Predictions whose usual decision is that of the thresholds."""

    @abstractmethod
    def _line(self, k: int, at: np.ndarray, predictions: np.ndarray, labels: np.ndarray):
        """The sorted levels of the rows that threshold k can pass, and a function that gives the counts on its way."""


def _gain(metric: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """The score, and its negative where lower is better."""
    return make_scorer(metric, labels, predictions.shape[1]).gain(predictions)


def check_decides(metric: str) -> None:
    """Raise ValueError for a metric of probabilities or values, which thresholds cannot raise."""
    if find_metric(metric).decides is False:
        fitting = ", ".join(name for name, measure in METRICS.items() if measure.decides)
        raise ValueError(
            f"metric={metric!r} sees probabilities or values, not decisions, so thresholds cannot raise it: leave them "
            f"out, or try a calibration. They are for {fitting} and functions 'package:function'"
        )


def bootstrap_rows(inputs: StackInput, bags: int, seed: int) -> list[np.ndarray]:
    """Row numbers of bootstrap samples of the groups, or of the rows where there are no groups."""
    rng, rows = np.random.default_rng(seed), np.arange(len(inputs))
    groups = rows if inputs.groups is None else np.unique(inputs.groups, return_inverse=True)[1]
    count = groups.max() + 1
    return [np.repeat(rows, np.bincount(rng.integers(count, size=count), minlength=count)[groups]) for _ in range(bags)]


def cut_places(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a sorted array (n,) can be split: the number of rows below, and the value halfway between its neighbours.

    Equal levels are never split. Below the first and above the last there is a place 0.5 away.
    """
    inside = np.flatnonzero(np.diff(levels) > 0) + 1
    values = [levels[:1] - 0.5, (levels[inside - 1] + levels[inside]) / 2, levels[-1:] + 0.5]
    return np.concatenate([[0], inside, [len(levels)]]), np.concatenate(values)


def class_scan(labels: np.ndarray, start: np.ndarray, order: np.ndarray, then: int) -> Counts:
    """The counts when the first t rows of `order` are decided to be class `then`, and all others as in `start`.

    labels, start: int (n,), classes. order: row numbers (m,), each once. Counts are (m + 1, ...), for t from 0 to m.
    Memory: 16 bytes for each row and class.
    """
    size, steps = int(max(labels.max(), start.max(), then)) + 1, np.arange(1, len(order) + 1)
    true, before = np.bincount(labels, minlength=size).astype(np.float64), start[order]
    given, hits = np.zeros((2, len(order) + 1, size))
    given[0] = np.bincount(start, minlength=size)
    hits[0] = np.bincount(labels[start == labels], minlength=size)
    given[steps, before] -= 1
    given[steps, then] += 1
    hits[steps, before] -= labels[order] == before
    hits[steps, then] += labels[order] == then
    changes = apart(labels[order], then) - apart(labels[order], before)
    distance = np.concatenate([apart(labels, start).sum(axis=0, keepdims=True), changes]).cumsum(axis=0)
    return Counts.of_classes(true, given.cumsum(axis=0), hits.cumsum(axis=0), distance)


def label_scan(labels: np.ndarray, given: np.ndarray, column: int, order: np.ndarray) -> Counts:
    """The counts when the first t rows of `order` lack the label in `column`, and the other rows have it.

    labels, given: 0 or 1, (n, labels); what is given in the other columns stays. order: all row numbers (n,). Counts
    are (n + 1, ...), for t from 0 to n. Memory: 16 bytes for each row and label.
    """
    true, given = labels == 1, given == 1
    truth, steps = true[order, column], len(order) + 1
    chosen, right = (np.tile(cells.sum(axis=0, dtype=np.float64), (steps, 1)) for cells in (given, true & given))
    chosen[:, column] = np.arange(len(order), -1, -1)
    right[:, column] = truth.sum() - np.append(0, truth.cumsum())
    rest = np.delete(true == given, column, axis=1).all(axis=1)[order]  # all other labels are right
    exact = (rest & truth).sum() + np.append(0, np.where(truth, -1, 1) * rest).cumsum()
    return Counts(true.sum(axis=0), chosen, right, exact, len(order), multilabel=True)
