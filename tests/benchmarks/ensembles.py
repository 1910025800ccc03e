"""How long second-level models take: 35 members of 37,000 rows and three classes, by metric, against a budget.

`python -m tests.benchmarks.ensembles` from the root of the repository prints a table: the pools have 10 seconds and
hill climbing 60, on two cores. The exit code is 1 when one of them takes longer. Members are made up: each knows
something of the labels, and errs in part by itself and in part as all do. Gain: how much better the metric is than that
of the members' mean on these same rows, which says that something was found, and nothing about other rows.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from kagglekit.ensembling.ensembler import Ensembler, StackInput
from kagglekit.ensembling.pools import LinearPool, LogPool
from kagglekit.ensembling.weight_search import HillClimbing
from kagglekit.scoring.metrics import is_higher_better, score

KINDS = {"qwk": "ordinal", "rmse": "regression"}  # of other metrics: multiclass
METRICS = ("log_loss", "accuracy", "f1_macro", "roc_auc", "qwk", "rmse")
ENSEMBLERS = {  # name -> what makes it, the metrics it hangs on, its budget in seconds
    "LinearPool": (LinearPool, ("log_loss", "qwk", "rmse"), 10.0),
    "LogPool": (LogPool, ("log_loss",), 10.0),
    "HillClimbing": (HillClimbing, METRICS, 60.0),
}


def make_inputs(metric: str, members: int = 35, rows: int = 37_000, columns: int = 3, seed: int = 0):
    """A inputs of made-up members for a metric, and labels. Ordinal members have one column."""
    rng, kind = np.random.default_rng(seed), KINDS.get(metric, "multiclass")
    skill = rng.uniform(0.5, 2.0, members)[:, None, None]
    if kind == "multiclass":
        labels = rng.integers(0, columns, rows)
        shared = rng.normal(size=(rows, columns))
        own = rng.normal(size=(members, rows, columns))
        predictions = softmax(skill * np.eye(columns)[labels] + 0.7 * shared + own, axis=2)
    else:
        labels = rng.integers(0, columns, rows) if kind == "ordinal" else rng.normal(size=(rows, columns))
        truth = labels.reshape(rows, -1)
        predictions = truth + 0.3 * rng.normal(size=truth.shape) + rng.normal(size=(members, *truth.shape)) / skill
    return StackInput(predictions.astype(np.float32).astype(np.float64), kind, metric), labels


def measure(ensembler: Ensembler, inputs: StackInput, labels: np.ndarray) -> tuple[float, float]:
    """Seconds of a fit and a prediction, and by how much the score is better than that of the mean."""
    start = time.perf_counter()
    predictions = ensembler.fit(inputs, labels, np.arange(len(labels)) % 5).predict(inputs)
    seconds = time.perf_counter() - start
    won = score(inputs.metric, labels, predictions) - score(inputs.metric, labels, inputs.predictions.mean(axis=0))
    return seconds, won if is_higher_better(inputs.metric) else -won


def budget_table(times: Sequence[tuple[str, str, float, float, float]]) -> tuple[str, list[str]]:
    """A table of (name, metric, seconds, budget, gain), and what is over its budget."""
    lines = ["| ensemble | metric | seconds | budget | part of the budget | gain |", "|---|---|---|---|---|---|"]
    for name, metric, seconds, budget, won in times:
        part = seconds / budget
        lines.append(f"| {name} | {metric} | {seconds:.1f} | {budget:g} | {part:.2f} | {won:.4f} |")
    return "\n".join(lines), [f"{name}, {metric}" for name, metric, seconds, budget, _ in times if seconds > budget]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--members", type=int, default=35)
    parser.add_argument("--rows", type=int, default=37_000)
    parser.add_argument("--columns", type=int, default=3, help="classes or targets")
    parser.add_argument("--metrics", nargs="+", default=METRICS, choices=METRICS)
    options = parser.parse_args()
    times = []
    for metric in options.metrics:
        inputs, labels = make_inputs(metric, options.members, options.rows, options.columns)
        for name, (make, fitting, budget) in ENSEMBLERS.items():
            if metric in fitting:
                seconds, won = measure(make(), inputs, labels)
                times.append((name, metric, seconds, budget, won))
                print(f"{name}, {metric}: {seconds:.1f} s", file=sys.stderr)
    text, over = budget_table(times)
    print(text)
    if over:
        sys.exit(f"over the budget: {'; '.join(over)}")


if __name__ == "__main__":
    main()
