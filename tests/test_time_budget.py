import math
import os
import subprocess
import sys
import time

import pytest

from kagglekit.files import write_json
from kagglekit.running.done import changes
from kagglekit.time_budget import (
    STARTED,
    UNFINISHED,
    OutOfTime,
    TimeBudget,
    kernel_began,
    stopping_in_time,
    unfinished,
)


@pytest.fixture
def began(monkeypatch):
    """began(hours): let the kernel have begun so many hours ago."""

    def make(hours):
        monkeypatch.setenv(STARTED, str(time.time() - 3600 * hours))

    return make


def test_without_hours_there_is_no_limit(began):
    began(1000)
    budget = TimeBudget()
    assert budget.left() == math.inf and not budget.over() and budget.holds(1e12)
    budget.check("fold 0")


def test_a_reserve_is_kept_of_the_hours_since_the_kernel_began(began):
    began(2)
    assert TimeBudget(11.5).left() == pytest.approx((11.5 - 2) * 3600 - 600, abs=5)
    assert TimeBudget(2.1).reserved == pytest.approx(6.3) and TimeBudget(2.1).over()  # 6 minutes are left
    assert TimeBudget(2.1, reserve=0).left() == pytest.approx(360, abs=5)
    budget = TimeBudget(3.0, reserve=30)
    assert budget.holds(1700) and not budget.holds(1900) and not budget.over()


def test_nothing_is_begun_when_the_time_is_over(began):
    began(2)
    with pytest.raises(OutOfTime, match=r"of 1\.5 hours no time is left for fold 3: the same command goes on there"):
        TimeBudget(1.5).check("fold 3")


@pytest.mark.parametrize("text", ["yesterday", "nan", "-5", "0", "1e30"])
def test_a_beginning_that_is_no_time_is_an_error_that_names_the_variable(monkeypatch, text):
    monkeypatch.setenv(STARTED, text)
    with pytest.raises(ValueError, match=f"{STARTED}='{text}' is no time that has been"):
        TimeBudget(1.0)
    TimeBudget()  # asks for no clock


@pytest.mark.parametrize("knobs", [{"hours": -1.0}, {"hours": math.inf}, {"hours": 1.0, "reserve": 60}])
def test_hours_and_reserves_out_of_range_are_errors(knobs):
    with pytest.raises(ValueError, match="is out of range"):
        TimeBudget(**knobs)


def test_else_the_time_counts_from_the_start_of_the_process(monkeypatch):
    monkeypatch.delenv(STARTED, raising=False)
    code = "import time; now = time.time(); from kagglekit.time_budget import kernel_began as k; print(now - k())"
    environment = {name: value for name, value in os.environ.items() if name != STARTED}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert -0.1 < float(run.stdout) < 30
    assert kernel_began() < time.time()


def test_a_fold_that_ran_out_of_time_is_listed_until_it_comes_to_its_end(tmp_path, capsys):
    run = tmp_path / "base"
    for fold in (0, 1):
        with stopping_in_time(run / f"fold{fold}"):
            if fold:
                raise OutOfTime("stopped at step 3")
            (run / "fold0").mkdir(parents=True)
    assert capsys.readouterr().out == "stopped at step 3\n"
    assert unfinished(run) == {"fold1": "stopped at step 3"}
    with stopping_in_time(run):
        raise OutOfTime("no time")
    assert unfinished(run) == {"": "no time", "fold1": "stopped at step 3"}
    for place in (run, run / "fold1"):
        with stopping_in_time(place):
            pass
    assert unfinished(run) == {} and not list(run.rglob(UNFINISHED))
    with pytest.raises(ValueError, match="else"), stopping_in_time(run):
        raise ValueError("something else")
    assert unfinished(run) == {} and unfinished(tmp_path / "nowhere") == {}


def test_a_notebook_whose_run_was_cut_by_time_is_not_done(tmp_path):
    now = {"parameters": {}, "notebook": "a", "library": "b", "inputs": {}}
    write_json(tmp_path / "marker.json", {**now, "outputs": {str(tmp_path / "base"): "absent"}})
    assert changes(tmp_path / "marker.json", now) == ""
    with stopping_in_time(tmp_path / "base" / "fold2"):
        raise OutOfTime("stopped")
    assert "base, which ran out of time" in changes(tmp_path / "marker.json", now)
