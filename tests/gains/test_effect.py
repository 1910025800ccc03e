"""The gain of a recipe: its interval by simulation, the components of its variance, and where nothing can be told."""

from dataclasses import replace

import numpy as np
import pytest

from kagglekit.gains.effect import measure_gain
from kagglekit.gains.gain import CANNOT, HELPS, HURTS, SAME, Noise
from kagglekit.scoring.grouped import LabelsBy
from tests.benchmarks.gain_coverage import World

RNG = np.random.default_rng(0)
LABELS, FOLDS = RNG.integers(2, size=200), np.repeat([0, 1], 100)


def cells(shift: float, seeds=(0, 1, 2), noise: float = 0.5, seed: int = 1) -> dict:
    """Predictions of two classes, fold -> seed -> (100, 2); shift: how good they are. Rows are as hard as they are for
    all seeds of a side, and for each by `noise` more."""
    rng = np.random.default_rng(seed)
    found = {}
    for k in (0, 1):
        signal = shift * (2 * LABELS[k == FOLDS] - 1) + rng.normal(scale=0.4, size=100)
        chance = {s: 1 / (1 + np.exp(-signal - rng.normal(scale=noise, size=100))) for s in seeds}
        found[k] = {s: np.stack([1 - one, one], axis=1) for s, one in chance.items()}
    return found


def test_interval_holds_the_true_gain_and_a_null_recipe_seldom_helps():
    rng, world = np.random.default_rng(3), World(rows=200, folds=2, seeds=3)
    found = [world.measure(rng, draws=100)[0] for _ in range(300)]
    assert 0.92 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.985
    assert np.mean([one.verdict == HELPS for one in found]) <= 0.04


@pytest.mark.parametrize(("luck", "whim"), [(0.25, 0.05), (0.05, 0.8)])
def test_variance_is_that_of_many_experiments_with_the_interaction_counted_once(luck, whim):
    rng, world = np.random.default_rng(5), World(rows=200, folds=1, seeds=10, luck=luck, whim=whim)
    found = [world.measure(rng, draws=40)[0] for _ in range(150)]
    true = np.var([one.better_by for one in found])
    told = np.mean([one.common + one.by_seeds for one in found])
    assert 0.75 < told / true < 1.35
    rows = np.mean([one.by_rows for one in found])
    assert (rows < 0.4 * true) if luck > 0.1 else (np.mean([one.by_rows + one.by_seeds for one in found]) > 1.5 * true)


def test_of_a_mean_the_components_are_those_of_the_analysis_of_variance():
    """log loss is a mean over rows: a two-way layout, rows by seeds, whose expected mean squares are known."""
    fold, base, recipe = np.zeros(200, dtype=int), cells(0.5), cells(1.0, seed=2)
    base, recipe = ({0: {s: np.concatenate([side[k][s] for k in (0, 1)]) for s in range(3)}} for side in (base, recipe))
    found = measure_gain("log_loss", LABELS, fold, base, recipe, draws=6000)
    losses = [[-np.log(side[0][s][np.arange(200), LABELS]) for s in range(3)] for side in (base, recipe)]
    y = np.subtract(*losses)  # (seeds, rows), above 0: the recipe is better
    of_rows, of_seeds = y.mean(axis=0), y.mean(axis=1)
    residual = ((y - of_rows - of_seeds[:, None] + y.mean()) ** 2).sum() / (199 * 2)
    assert found.better_by == pytest.approx(y.mean(), rel=1e-6)
    assert found.by_seeds == pytest.approx(of_seeds.var(ddof=1) / 3, rel=1e-6)
    assert found.by_rows == pytest.approx(of_rows.var(ddof=1) / 200, rel=0.08)
    assert found.common == pytest.approx((of_rows.var(ddof=1) - residual / 3) / 200, rel=0.12)
    assert found.seeds_df == 2


def test_either_direction_of_a_metric_and_copies_of_rows_in_groups_change_nothing():
    base, recipe = cells(0.5), cells(1.0, seed=2)
    up, down = (measure_gain(m, LABELS, FOLDS, base, recipe) for m in ("accuracy", "log_loss"))
    assert up.better_by > 0 and down.better_by > 0 and up.verdict == down.verdict == HELPS
    assert measure_gain("log_loss", LABELS, FOLDS, recipe, base).verdict == HURTS
    four = {name: {k: {s: np.repeat(p, 4, axis=0) for s, p in each.items()} for k, each in side.items()}
            for name, side in (("base", base), ("recipe", recipe))}  # fmt: skip
    copies = measure_gain("log_loss", np.repeat(LABELS, 4), np.repeat(FOLDS, 4), groups=np.repeat(np.arange(200), 4),
                          **four)  # fmt: skip
    alone = measure_gain("log_loss", np.repeat(LABELS, 4), np.repeat(FOLDS, 4), **four)
    assert copies.half_width() == pytest.approx(down.half_width(), rel=1e-6) and copies.units == 200
    assert alone.by_rows < 0.4 * copies.by_rows


def test_sides_that_begin_alike_are_paired_by_seed_and_others_are_not():
    base = cells(0.5, noise=2.0)
    like = {
        k: {s: 0.95 * p + 0.05 * np.eye(2)[LABELS[k == FOLDS]] for s, p in each.items()} for k, each in base.items()
    }
    other = {k: {s + 10: p for s, p in each.items()} for k, each in like.items()}
    paired, apart = (measure_gain("log_loss", LABELS, FOLDS, base, one) for one in (like, other))
    assert paired.better_by == pytest.approx(apart.better_by)
    assert paired.verdict == HELPS and paired.half_width() < 0.5 * apart.half_width()
    assert paired.seeds_df == 4 and apart.seeds_df > 4
    few = {k: {s: like[k][s] for s in (0, 1)} for k in like}
    assert measure_gain("log_loss", LABELS, FOLDS, base, few).seeds == 2  # the base's third has no pair
    uneven = measure_gain("log_loss", LABELS, FOLDS, base, {0: like[0], 1: {0: like[1][0]}})
    assert uneven.seeds_df == 2 and uneven.half_width() < 0.7 * apart.half_width()
    one = measure_gain("log_loss", LABELS, FOLDS, base, {k: {0: like[k][0]} for k in like})
    assert one.seeds_df == 4 and one.by_seeds > 3 * apart.by_seeds / 2  # its noise is taken to be the base's


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "mcc", "roc_auc", "average_precision", "brier"])
def test_more_seeds_narrow_the_interval_as_predicted(metric):
    rng = np.random.default_rng(8)
    few, many = (
        [replace(World(metric, rows=200, folds=2, luck=0.15), seeds=s).measure(rng, draws=60)[0] for _ in range(12)]
        for s in (4, 12)
    )
    told = np.median([one.with_seeds(12).half_width() for one in few])
    assert told == pytest.approx(np.median([one.half_width() for one in many]), rel=0.2)


def test_one_seed_is_told_by_folds_or_by_the_noise_of_others_and_else_not_at_all():
    base, recipe = cells(0.5, seeds=[0]), cells(1.5, seeds=[0], seed=2)
    alone = measure_gain("log_loss", LABELS[:100], FOLDS[:100], {0: base[0]}, {0: recipe[0]})
    assert alone.low > 0 and alone.verdict == CANNOT and "a second one tells" in alone.advice and alone.p == 1
    known = measure_gain("log_loss", LABELS[:100], FOLDS[:100], {0: base[0]}, {0: recipe[0]}, noise=Noise(1e-4, 20.0))
    assert known.verdict == HELPS and known.half_width() > alone.half_width()
    loud = measure_gain("log_loss", LABELS[:100], FOLDS[:100], {0: base[0]}, {0: recipe[0]}, noise=Noise(1.0, 20.0))
    assert loud.verdict == CANNOT
    folds = measure_gain("log_loss", LABELS, FOLDS, base, recipe)
    assert folds.seeds_df == 1 and folds.noise is None


def test_of_equal_differences_nothing_is_told():
    right, wrong = np.eye(2)[LABELS], np.eye(2)[1 - LABELS]
    one, other = ({k: {s: some[k == FOLDS] for s in (0, 1)} for k in (0, 1)} for some in (wrong, right))
    for base, recipe in ((one, other), (other, one)):
        found = measure_gain("accuracy", LABELS, FOLDS, base, recipe)
        assert abs(found.better_by) == 1 and found.verdict == CANNOT and found.p == 1
        assert np.isinf(found.half_width()) and "nan" not in str(found) and "inf" not in str(found)
    assert measure_gain("accuracy", LABELS, FOLDS, one, one).verdict == SAME  # the same predictions


def test_a_few_rows_are_no_proof():
    """Four rows of 200 in favour and none against: a sign test gives 0.125."""
    base = {k: {s: np.eye(2)[LABELS[k == FOLDS]] for s in (0, 1)} for k in (0, 1)}
    for one in base[0].values():
        one[:4] = one[:4, ::-1]
    better = {k: {s: np.eye(2)[LABELS[k == FOLDS]] for s in (0, 1)} for k in (0, 1)}
    assert measure_gain("accuracy", LABELS, FOLDS, base, better).verdict == CANNOT
    one = {k: {s: p.copy() for s, p in each.items()} for k, each in better.items()}
    for some in one[0].values():
        some[0] = some[0, ::-1]
    found = measure_gain("accuracy", LABELS, FOLDS, one, better)
    assert found.verdict == CANNOT and found.advice == "one row alone, or none, tells the two apart"
    for one in base[1].values():
        one[:4] = one[:4, ::-1]
    assert measure_gain("accuracy", LABELS, FOLDS, base, better).verdict == HELPS  # eight: 0.008


def test_a_metric_that_most_samples_do_not_define_tells_nothing():
    labels = np.zeros(200, dtype=int)
    labels[0] = 1
    groups = np.where(np.arange(200) < 3, 0, np.arange(200) // 100 + 1)
    found = measure_gain("roc_auc", labels, FOLDS, cells(0.5), cells(1.0, seed=2), groups=groups, draws=50)
    undefined = measure_gain("roc_auc", labels, FOLDS, cells(0.5), cells(1.0, seed=2), groups=np.arange(200) % 7 % 2)
    for one in (found, undefined):
        assert one.verdict in (CANNOT, SAME) and "nan" not in str(one)


def test_metrics_by_group_and_margins_are_taken():
    labels = LabelsBy(LABELS, np.arange(200) % 4)
    found = measure_gain("roc_auc_by:colour", labels, FOLDS, cells(0.5), cells(1.0, seed=2), margin=0.5)
    assert found.better_by > 0 and found.verdict == SAME and found.margin == 0.5


def test_what_would_tell_is_seeds_or_rows():
    base, recipe = cells(0.5), cells(0.6, seed=2)
    found = measure_gain("log_loss", LABELS, FOLDS, base, recipe, margin=1e-6)
    if found.verdict == CANNOT:
        assert found.more_rows > 200
    rows = replace(found, better_by=0.01, by_rows=1e-4, common=1e-4, by_seeds=1e-8, margin=0.0)
    assert rows.more_seeds is None and "rows are the limit" in rows.advice and 700 < rows.more_rows < 900
    seeds = replace(found, better_by=0.01, by_rows=1e-6, common=1e-6, by_seeds=1e-4, margin=0.0)
    assert 3 < seeds.more_seeds < 30 and seeds.advice == f"{seeds.more_seeds} seeds would tell"
    assert seeds.with_seeds(seeds.more_seeds).verdict == HELPS


def test_predictions_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="no fold in common"):
        measure_gain("accuracy", LABELS, FOLDS, {0: cells(1)[0]}, {1: cells(1)[1]})
    with pytest.raises(ValueError, match="fold 0 has 100 rows, and 99 predictions"):
        measure_gain("accuracy", LABELS, FOLDS, cells(1), {0: {0: np.ones((99, 2))}})
