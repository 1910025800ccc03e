"""What to submit: a safe run, and one that is good where it is not."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.ensembling.submissions import choose_submissions
from kagglekit.runs.tables import Run

N = 1000


def make_run(name, right, test_rows=1000):
    """A run that is right, in a binary task whose labels are all 1, on these rows."""
    probs = np.where(right, 0.9, 0.1)
    oof = pd.DataFrame({"id": np.arange(len(right)).astype(str), "fold": 0, "no": 1 - probs, "yes": probs})
    ids = [f"t{row}" for row in range(test_rows)]
    return Run(name, None, ["no", "yes"], oof, np.arange(len(right)), {0: np.full((test_rows, 2), 0.5)}, ids)


def make_runs():
    """A good run, its twin that is right on a row less, and one that is a little worse and errs elsewhere."""
    rng = np.random.default_rng(0)
    good = rng.permutation(N) < 0.80 * N
    twin = good.copy()
    twin[np.flatnonzero(good)[0]] = False
    other = rng.permutation(N) < 0.79 * N
    return [make_run("twin", twin), make_run("other", other), make_run("good", good)], np.ones(N, dtype=np.int64)


def test_the_safe_one_has_the_best_score_and_the_other_errs_elsewhere():
    runs, labels = make_runs()
    found = choose_submissions(runs, 2, labels, "accuracy")
    assert found.chosen == ["good", "other"]
    assert found.table.loc["good", "score"] == pytest.approx(runs[2].oof["yes"].gt(0.5).mean())
    assert found.table.loc["other", "expected_best"] > found.table.loc["good", "expected_best"]
    assert (
        found.table["chosen"].tolist() == [False, True, True] and found.table.loc[["good", "other"], "wins"].sum() == 1
    )
    assert "safe: good" in str(found) and "different: other" in str(found)


def test_a_hopeless_run_is_not_chosen_for_being_different():
    runs, labels = make_runs()
    hopeless = make_run("hopeless", np.random.default_rng(1).random(N) < 0.3)
    assert choose_submissions([*runs, hopeless], 2, labels, "accuracy").chosen == ["good", "other"]


def test_the_shake_up_is_that_of_shares():
    """Public and private accuracies of 300 and 700 rows differ by what shares of so many rows differ."""
    runs, labels = make_runs()
    found = choose_submissions(runs, 1, labels, "accuracy", draws=8_000)
    assert (found.public_rows, found.private_rows) == (300, 700)
    share = found.table.loc["good", "score"]
    spread = np.sqrt(share * (1 - share))
    assert found.table.loc["good", "shake_up"] == pytest.approx(spread * np.sqrt(1 / 300 + 1 / 700), rel=0.05)
    assert found.table.loc["good", "standard_error"] == pytest.approx(spread / np.sqrt(N), rel=0.05)
    assert found.table.loc["good", "private"] == pytest.approx(spread * np.sqrt(1 / N + 1 / 700), rel=0.05)


def test_runs_that_are_alike_change_places_and_runs_that_are_far_apart_do_not():
    runs, labels = make_runs()
    bad = make_run("bad", np.random.default_rng(1).random(N) < 0.3)
    flips = choose_submissions([*runs, bad], 1, labels, "accuracy").flips
    assert flips.loc["good", "bad"] == 0 and 0.1 < flips.loc["good", "other"] < 0.5
    assert np.allclose(flips, flips.T) and (np.diag(flips) == 0).all()


def test_a_small_test_shakes_more_and_its_shares_count():
    runs, labels = make_runs()
    shake = [
        choose_submissions(runs, 1, labels, "accuracy", test_rows=rows).table.loc["good", "shake_up"]
        for rows in (100, 1000, 10**6)
    ]
    assert shake[0] > 2 * shake[1] > 20 * shake[2] > 0
    few = choose_submissions(runs, 1, labels, "accuracy", public_share=0.01)
    assert few.public_rows == 10 and few.table.loc["good", "shake_up"] > 2 * shake[1]


def test_lower_is_better_where_it_is():
    runs, labels = make_runs()
    found = choose_submissions(runs, 2, labels, "log_loss")
    assert found.chosen[0] == "good" and found.table["score"].idxmin() == "good"
    assert found.table.loc[found.chosen[1], "expected_best"] <= found.table.loc["good", "expected_best"]


def test_copies_in_groups_make_the_shake_up_larger():
    runs, labels = make_runs()
    rows = np.repeat(np.arange(50), 20)
    run = make_run("blocks", runs[2].oof["yes"].to_numpy()[rows] > 0.5)
    plain = choose_submissions([run], 1, labels, "accuracy").table["shake_up"].item()
    grouped = choose_submissions([run], 1, labels, "accuracy", groups=rows).table["shake_up"].item()
    assert grouped > 3 * plain


def test_the_same_seed_chooses_the_same():
    runs, labels = make_runs()
    one, two, other = (choose_submissions(runs, 3, labels, "accuracy", seed=seed) for seed in (0, 0, 1))
    assert one.table.equals(two.table) and not one.table.equals(other.table) and len(one.chosen) == 3


def test_what_cannot_be_chosen_is_refused():
    runs, labels = make_runs()
    with pytest.raises(ValueError, match="n=4 is out of range: it must be between 1 and 3"):
        choose_submissions(runs, 4, labels, "accuracy")
    for share in (0, 1):
        with pytest.raises(ValueError, match=f"public_share={share} is out of range"):
            choose_submissions(runs, 1, labels, "accuracy", public_share=share)
    with pytest.raises(ValueError, match="test_rows=1 is out of range"):
        choose_submissions(runs, 1, labels, "accuracy", test_rows=1)
    with pytest.raises(ValueError, match="'twin' and 'short' were validated on different rows"):
        choose_submissions([runs[0], make_run("short", np.ones(5, dtype=bool))], 1, labels, "accuracy")


def test_runs_that_say_the_same_share_the_draws():
    right = np.arange(N) % 5 > 0
    found = choose_submissions([make_run("a", right), make_run("b", right)], 2, np.ones(N, dtype=np.int64), "accuracy")
    assert found.table["wins"].tolist() == [0.5, 0.5]
