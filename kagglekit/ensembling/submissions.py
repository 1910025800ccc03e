"""Choice of the final submissions: a safe run, others that are good where it is not, and the expected shake-up."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from kagglekit.options import check_range
from kagglekit.runs.tables import Run
from kagglekit.scoring.bootstrap import bootstrap_scores, spread
from kagglekit.scoring.metrics import is_higher_better, score


@dataclass(frozen=True)
class Submissions:
    """The runs to submit, and what may happen to them between the public and the private leaderboard.

    chosen: the names, the safe one first. table: per run its score and standard_error; `private` and `shake_up`, the
    standard deviations of its score on a private test of that size and of private minus public score; whether it was
    `chosen`; and for chosen ones the `expected_best` private score of it and those chosen before, and the share of
    draws in which it is the best of them, `wins`. flips (runs, runs): how often public and private order two runs
    differently.
    """

    metric: str
    chosen: list[str]
    table: pd.DataFrame = field(repr=False)
    flips: pd.DataFrame = field(repr=False)
    public_rows: int
    private_rows: int

    def __str__(self) -> str:
        first = self.table.loc[self.chosen[0]]
        lines = [
            f"safe: {self.chosen[0]}, {self.metric} {first['score']:.4f} ± {first['private']:.4f} on a private test of "
            f"{self.private_rows} rows",
            f"shake-up: its private and its public score ({self.public_rows} rows) differ by {first['shake_up']:.4f} "
            "(standard deviation): a smaller step on the public leaderboard means next to nothing",
        ]
        for name in self.chosen[1:]:
            row = self.table.loc[name]
            lines.append(
                f"different: {name}, {self.metric} {row['score']:.4f}, the best of those chosen in "
                f"{100 * row['wins']:.0f} of 100 draws; the best of them is expected at {row['expected_best']:.4f}; "
                f"public and private put it and {self.chosen[0]} in different orders in "
                f"{100 * self.flips.loc[name, self.chosen[0]]:.0f} of 100"
            )
        return "\n".join(lines)


def choose_submissions(
    runs: Sequence[Run],
    n: int,
    labels: np.ndarray,
    metric: str,
    test_rows: int | None = None,
    public_share: float = 0.3,
    groups: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Submissions:
    """Choose n runs: the one with the best score, then those that raise the expected best private score most.

    labels, groups: of all rows of train, groups are drawn whole. test_rows: of public and private test together; None:
    as many as test.csv has. public_share: of them in the public test, between 0 and 1.
    The scores of all runs on the same bootstrap samples of the out-of-fold rows give their covariance; a test of m rows
    varies by sqrt(rows / m) of that. The true scores vary too, once for both tests, as only the out-of-fold rows show
    them. A run that errs elsewhere than the safe one gains although its score is a little worse; a copy gains nothing.
    Assumes honest scores of blends (`blend_runs`), and a test like train (`adversarial_validation`). Raises ValueError
    for runs of different rows.
    """
    names, first = [run.name for run in runs], runs[0] if runs else None
    check_range("n", n, 1 <= n <= len(runs), f"between 1 and {len(runs)}, the number of runs")
    check_range("public_share", public_share, 0 < public_share < 1, "between 0 and 1")
    test_rows = len(first.test_ids) if test_rows is None else test_rows
    public_rows = round(public_share * test_rows)
    check_range("test_rows", test_rows, 1 <= public_rows < test_rows, "enough for a public and a private test")
    for run in runs:
        if not np.array_equal(run.rows, first.rows):
            raise ValueError(f"the runs {first.name!r} and {run.name!r} were validated on different rows")
    truth, rows = np.asanyarray(labels)[first.rows], len(first.rows)
    together = None if groups is None else np.asarray(groups)[first.rows]
    predictions, sign = [run.oof_array for run in runs], 1 if is_higher_better(metric) else -1
    scores = sign * np.array([score(metric, truth, each) for each in predictions])
    drawn = sign * bootstrap_scores(metric, truth, predictions, together, draws, seed)
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    apart, rng = drawn - drawn.mean(axis=0), np.random.default_rng(seed)
    worth, by_public, by_private = (rng.permutation(apart) for _ in range(3))  # a row stays a row: runs vary together
    public = scores + worth + np.sqrt(rows / public_rows) * by_public
    private = scores + worth + np.sqrt(rows / (test_rows - public_rows)) * by_private
    table = pd.DataFrame(
        {
            "score": sign * scores,
            "standard_error": [spread(column) for column in apart.T],
            "private": private.std(axis=0, ddof=1),
            "shake_up": (private - public).std(axis=0, ddof=1),
        },
        index=pd.Index(names, name="run"),
    )
    chosen, expected = _choose(scores, private, n)
    table["chosen"] = [k in chosen for k in range(len(runs))]
    table.loc[[names[k] for k in chosen], "expected_best"] = sign * np.array(expected)
    best = private[:, chosen] == private[:, chosen].max(axis=1, keepdims=True)
    wins = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)  # equal ones share a draw
    table.loc[[names[k] for k in chosen], "wins"] = wins
    order = [np.sign(some[:, :, None] - some[:, None, :]) for some in (public, private)]
    flips = pd.DataFrame((order[0] * order[1] < 0).mean(axis=0), index=names, columns=names)
    chosen = [names[k] for k in chosen]
    return Submissions(metric, chosen, table, flips, public_rows, test_rows - public_rows)


def _choose(scores: np.ndarray, private: np.ndarray, n: int) -> tuple[list[int], list[float]]:
    """The runs by number, and the expected best private score of the first, the first two, ...; higher is better."""
    chosen = [int(scores.argmax())]
    expected = [float(private[:, chosen[0]].mean())]
    while len(chosen) < n:
        best = private[:, chosen].max(axis=1)
        gains = np.maximum(best[:, None], private).mean(axis=0)
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        expected.append(float(gains.max()))
    return chosen, expected
