"""A race's decisions, on simulated cells."""

import numpy as np
import pytest

from kagglekit.gains.standings import AHEAD, BASE, DROPPED, FAILED, PAUSED, Cell, Plan, TooShort
from tests.gains.simulated import SimulatedRace, nulls

TWO_ERRORS = 2 * np.sqrt(0.7 * 0.3 / 600)  # of one run


def test_recipes_that_do_nothing_are_not_said_to_help_and_one_that_helps_is_found():
    found = [SimulatedRace(seed, nulls(4), draws=40, seeds=2).run() for seed in range(6)]
    assert sum(bool(one.promise) and one.promise.verdict == "helps" for one in found) <= 1
    assert not [one for one in found for arm in one.standings.values() if arm.state == AHEAD]
    good = [SimulatedRace(seed, nulls(2) | {"good": 1.5 * TWO_ERRORS}, draws=40, seeds=2).run() for seed in range(4)]
    assert sum("good" in one.winner and one.promise.verdict == "helps" for one in good) >= 3


def test_the_promise_comes_from_folds_and_seeds_that_did_not_choose():
    race = SimulatedRace(0, nulls(2) | {"good": 0.1}, draws=60, seeds=2)
    outcome = race.run()
    assert "good" in outcome.winner and outcome.promise.folds == 3 and outcome.promise.level == 0.95
    chose, last = ([c for c in race.trained if (c.seed >= 2) == late] for late in (False, True))
    assert {cell.fold for cell in chose} == {0, 1} and {cell.fold for cell in last} == {2, 3, 4}
    assert {cell.arm for cell in last} == {BASE, outcome.winner}


def test_without_folds_to_spare_the_interval_holds_for_all_arms():
    outcome = SimulatedRace(0, nulls(2) | {"good": 0.1}, n_folds=2, choosing=2, draws=60, seeds=2).run()
    assert outcome.promise.level == 1 - 0.05 / len(outcome.standings)


def test_who_hurts_or_is_far_behind_stops_early_and_saves_its_cells():
    race = SimulatedRace(0, {"bad": -0.2, "poor": 0.0, "good": 0.2}, draws=60, rows=900, seeds=3)
    outcome = race.run()
    assert outcome.standings["bad"].state == DROPPED and outcome.standings["bad"].why == "it hurts"
    assert outcome.standings["poor"].state == DROPPED and "good" in outcome.standings["poor"].why
    assert outcome.standings["bad"].cells < 6
    assert max(cell.seed for cell in race.trained if cell.arm == "bad") < 2


def test_a_twin_of_the_base_is_dropped():
    race = SimulatedRace(0, {"twin": 0.0, "good": 0.05}, draws=60, seeds=2)
    plain = race.predict
    race.race.predict = lambda cell: plain(Cell(BASE if cell.arm == "twin" else cell.arm, cell.fold, cell.seed))
    outcome = race.run()
    assert outcome.standings["twin"].state == DROPPED and "same" in outcome.standings["twin"].why


@pytest.mark.parametrize("budget", [45, 80])
def test_a_race_ends_within_its_budget_and_leaves_the_worse_half_behind(budget):
    race = SimulatedRace(1, nulls(15) | {"good": 0.08}, draws=40, budget=budget)
    outcome = race.run()
    assert race.race.spent <= budget
    assert sum(one.state == PAUSED for one in outcome.standings.values()) >= 8
    assert outcome.promise is not None  # the last comparison has time of its own


def test_a_budget_that_is_too_small_is_told_after_one_cell():
    race = SimulatedRace(0, nulls(10), budget=20)
    with pytest.raises(TooShort) as error:
        race.run()
    assert len(race.trained) == 1 and 20 < error.value.needed < 60
    SimulatedRace(0, nulls(10), budget=error.value.needed, draws=20).run()


def test_an_arm_that_cannot_be_trained_is_left_out():
    race = SimulatedRace(0, nulls(2) | {"broken": 0.0}, draws=40, seeds=1)
    race.race.train = lambda cells: {"broken": "no"} if any(cell.arm == "broken" for cell in cells) else {}
    outcome = race.run()
    assert outcome.standings["broken"].state == FAILED and outcome.standings["broken"].gain is None


def test_all_folds_come_before_a_second_seed():
    assert Plan((0, 1), (2,), 2, 1.0).schedule == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert not Plan((0, 1), (), 2, 1.0).fresh_rows
