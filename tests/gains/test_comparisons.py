"""Many gains over one base: false claims are few, claims are found, noise is shared, and data sets are averaged."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kagglekit.gains.comparisons import correct, mean_gain, share_noise
from kagglekit.gains.gain import CANNOT, HELPS, SAME, Gain, Noise

PLAIN = Gain("accuracy", 0.0, (0.8, 0.8), 2, 3, 600, 600, 1e-4, 1e-4, 5e-5, 200.0, 1e-4, 8.0, Noise(6e-4, 8.0), 1 / 6)


def gains(better_by) -> dict[str, Gain]:
    return {f"r{i}": replace(PLAIN, better_by=float(by)) for i, by in enumerate(better_by)}


def test_p_is_where_the_interval_ends_at_zero():
    for by in (0.005, 0.02, 0.03, -0.03, 0.2):
        one = replace(PLAIN, better_by=by)
        edge = replace(one, level=1 - one.p)
        assert min(abs(edge.low), abs(edge.high)) < 1e-5 and (one.p < 0.05) == (not one.low <= 0 <= one.high)
    assert PLAIN.p == 1


def test_claims_are_those_of_benjamini_and_hochberg_with_intervals_that_do_not_hold_zero():
    found = correct(gains([0.06, 0.05, 0.045, 0.028, 0.005, -0.002, 0.001, 0.0]))
    p = np.array([one.p for one in found.values()])
    assert [one.claimed for one in found.values()] == (stats.false_discovery_control(p) <= 0.05).tolist()
    assert [one.verdict == HELPS for one in found.values()] == [True] * 3 + [False] * 5
    assert found["r0"].level == pytest.approx(1 - 0.05 * 3 / 8) and found["r5"].level == 0.95
    assert all(one.low > 0 for one in found.values() if one.claimed)
    alone = correct(gains([0.028]))["r0"]
    assert alone.verdict == HELPS and found["r3"].verdict == CANNOT and "some are by chance" in found["r3"].advice


def test_what_tells_nothing_is_no_part_of_the_family():
    odd = {"one seed": replace(PLAIN, better_by=0.09, seeds_df=0.0), "none": replace(PLAIN, reason="constant")}
    found = correct(gains([0.028]) | odd)
    assert found["r0"].verdict == HELPS and found["one seed"] == odd["one seed"] and correct(odd) == odd


def test_twenty_null_recipes_are_seldom_said_to_help():
    rng, families = np.random.default_rng(0), 400
    sd = PLAIN.error
    false = 0
    for _ in range(families):
        base = rng.normal(scale=sd / 2**0.5)
        by = (rng.normal(scale=sd / 2**0.5, size=20) - base) * np.sqrt(1 / (rng.chisquare(30) / 30))
        false += any(one.verdict == HELPS for one in correct(gains(by)).values())
    assert false / families <= 0.05


def test_noise_that_recipes_share_makes_that_of_each_better_known():
    rng, true, df = np.random.default_rng(1), 4e-4, 4
    own = [replace(PLAIN, noise=Noise(true * rng.chisquare(df) / df, df)) for _ in range(24)]
    prior = share_noise(own)
    assert 0.6 * true < prior.variance < 1.6 * true and 6 <= prior.df <= 4 * df
    apart = [replace(one, noise=Noise(one.noise.variance * 10 ** rng.uniform(-2, 2), df)) for one in own]
    assert share_noise(apart).df < 3 and share_noise(own[:2]) is None
    assert share_noise([replace(PLAIN, noise=None)] * 5) is None


def test_the_mean_over_data_sets_is_surer_than_each_and_silent_where_one_is():
    one, other = replace(PLAIN, better_by=0.02), replace(PLAIN, better_by=0.03)
    mean = mean_gain([one, other] * 2)
    assert mean.better_by == pytest.approx(0.025) and mean.rows == 2400
    assert mean.error == pytest.approx(one.error / 2) and mean.seeds_df == pytest.approx(32)
    assert mean.verdict == HELPS and one.verdict == CANNOT
    assert mean_gain([one, replace(other, reason="constant")]).verdict == CANNOT
    assert mean_gain([one, replace(other, seeds_df=0.0)]).verdict == CANNOT
    same = replace(PLAIN, by_rows=0.0, common=0.0, by_seeds=0.0, noise=None)
    assert same.verdict == SAME and mean_gain([same, same]).verdict == SAME
