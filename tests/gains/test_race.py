"""A race on a small competition, as on the command line: arms, cells, kills, what is told."""

import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from kagglekit.competition.task import load_task
from kagglekit.files import read_json, write_json
from kagglekit.gains import cells, shortlist
from kagglekit.gains import race as command
from kagglekit.gains.arms import Arm, choose_recipes, combine, defaults, make_arms, read_base, training_command
from kagglekit.gains.cells import Job, train_cell
from kagglekit.gains.gain import Gain
from kagglekit.gains.race_page import write_gain
from kagglekit.gains.race_run import read_time
from kagglekit.gains.recipes import SHIPPED
from kagglekit.gains.standings import Cell, Standing
from kagglekit.running.arguments import parse_arguments, read_arguments
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.runs.tables import list_runs, training_rows

PLAIN = ["recipes=tfidf,frozen", "seeds=1"]


def test_a_race_ends_with_a_verdict_a_page_a_table_and_the_command_of_the_winner(race, work, found):
    code, said = race(*PLAIN)
    assert code == 0 and "2 recipes against the defaults of 3_train" in said and "written: runs/small/race" in said
    tables, shown = found()
    assert set(shown["recipe"]) >= {"tfidf", "frozen"} and set(shown["cells"]) == {1}
    assert {Path(name).parts[2] for name in tables} == {"fold0", "fold1", "fold2"}
    page = (work / "race" / "report.html").read_text()
    assert "How it was decided" in page and (work / "race" / "race.png").is_file()
    assert list_runs(work) == [] and not list((work / "race").rglob("*.safetensors"))
    assert all(len(line) < 80 for line in said.splitlines() if not line.startswith("next: "))


def test_the_same_race_again_trains_nothing_and_more_recipes_join(race, found, state, work, monkeypatch):
    race(*PLAIN)
    assert state()["finished"] and state()["before"] == []
    before, trained = found(), []
    plain = cells.train_cell
    monkeypatch.setattr(cells, "train_cell", lambda job: trained.append(job.cell) or plain(job))
    race(*PLAIN)
    assert not trained  # and what is there costs the new race no time
    assert len(state()["before"]) == len(list((work / "race").glob("*/fold*/seed*/oof.parquet")))
    assert found()[1].equals(before[1])
    race("recipes=tfidf,frozen,cls", "seeds=1")
    assert {cell.arm for cell in trained} >= {"cls"} and "tfidf" not in {c.arm for c in trained if c.seed < 1}
    trained.clear()
    race(*PLAIN, settings=("epochs=0.5", "max_length=16"))
    assert "base" in {cell.arm for cell in trained} and "tfidf" not in {c.arm for c in trained if c.seed < 1}


@pytest.mark.parametrize("victim", [2, 5])
def test_killed_at_a_cell_and_begun_again_it_is_the_same_race(race, found, work, monkeypatch, tmp_path, victim):
    race(*PLAIN)
    whole = found()
    os.rename(work / "race", tmp_path / "whole")
    plain, count = cells.train_cell, [0]

    def killing(job):
        count[0] += 1
        if count[0] == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(job)

    if not (child := os.fork()):
        monkeypatch.setattr(cells, "train_cell", killing)
        race(*PLAIN)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list((work / "race").glob("*/fold*/seed*/oof.parquet"))) == victim - 1
    assert race(*PLAIN)[0] == 0
    again = found()
    assert whole[0].keys() == again[0].keys() and all(whole[0][name].equals(again[0][name]) for name in whole[0])
    assert whole[1].equals(again[1])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tricks": {"EMA": {"decay": 0.5}}},
        {"tricks": {"CheckpointSoup": {"keep": 2}}, "evaluate_every": 1},
        {"keep_best": True, "evaluate_every": 2},
        {"backbone": "tfidf"},
    ],
    ids=str,
)
def test_a_cell_predicts_what_a_run_of_this_seed_does(work, backbone, tmp_path, settings):
    values = defaults() | {"backbone": backbone, "epochs": 1.0, "max_length": 16} | settings
    choice, table, _ = cells.learner.__wrapped__(work, json.dumps(values), (0, 1))
    if choice.tuner:
        choice.tuner.keep = True
    held_out = table.index[table["fold"] == 1].to_numpy()
    expected = choice.fit(training_rows(table, 1), held_out, tmp_path / "fold1", 1, 2)
    job = Job(Cell("one", 1, 2), work, json.dumps(values), tmp_path / "cells", (0, 1))
    assert train_cell(job) == ""
    got = pd.read_parquet(job.file)
    assert got.iloc[:, 2:].to_numpy().tobytes() == expected.oof.astype("float32").tobytes()
    assert [path.name for path in job.file.parent.iterdir()] == ["oof.parquet"]


def test_a_damaged_table_is_named_with_what_to_do(race, work):
    race(*PLAIN)
    file = sorted((work / "race").glob("tfidf.*/fold0/seed0/oof.parquet"))[0]
    file.write_bytes(file.read_bytes()[:-40])
    code, said = race(*PLAIN)
    assert code == 2 and str(file) in said and f"delete {file.parents[1]} and start the race again" in said


@pytest.mark.parametrize(
    "words, told",
    [
        (["recipes=tfdf"], "did you mean tfidf"),
        (["recipes=nothing.json"], "there is no"),
        (['recipes={"a": {"epoch": 3}}'], "did you mean epochs"),
        (['recipes={"a": {}}'], "settings of 3_train are needed"),
        (['recipes={"base": {"epochs": 3}}'], "name it otherwise"),
        (['recipes={"a": {"folds": [1]}}'], "folds is the race's"),
        (['recipes={"a": {"loss": {"mse": {}}}}'], "nothing to race. Left out: a: loss='mse' does not fit"),
        (['recipes={"a": {"epochs": 0.25}}'], "nothing to race. Left out: a: the same as the base"),
        (["recipes=tfidf", "base=bas"], "is no run of runs/small, which has none yet: leave base= out"),
        (["recipes=tfidf", "folds=7"], "it has 0 to 2"),
        (["budget=soon"], "is no time: write 2h"),
        (["budgt=2h"], "did you mean budget"),
        (["seeds=0"], "from 1 to 20"),
        (["recipes=tfidf,frozen", "budget=0.001"], "too short: a cell takes"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_in_a_line(race, words, told):
    code, said = race(*words)
    assert code == 2 and told in said and "Traceback" not in said


def test_a_recipe_that_does_not_fit_is_left_out_and_the_others_race(race):
    code, said = race('recipes={"wrong": {"loss": {"mse": {}}}, "right": {"backbone": "tfidf"}}', "seeds=1")
    assert code == 0 and "left out: wrong: loss='mse' does not fit" in " ".join(said.split())
    assert "1 recipe against" in said


@pytest.mark.parametrize(("knob", "value"), [("keep_best", "true"), ("tricks", '{"CheckpointSoup": {}}')])
def test_what_chooses_weights_by_the_fold_does_not_race(race, knob, value):
    words = "The weights of the models were chosen by their scores on the fold"
    code, said = race(f'recipes={{"lucky": {{"{knob}": {value}}}}}', "seeds=1")
    assert code == 2 and f"Left out: lucky: {words}" in said
    code, said = race(*PLAIN, settings=(f"{knob}={value}",))
    assert code == 2 and said.startswith(words)


def test_a_recipe_that_cannot_be_trained_is_told(race, work, backbone, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(backbone, broken)
    (broken / "model.safetensors").write_text("garbage")
    code, said = race(f'recipes={{"bad": {{"backbone": "{broken}"}}, "right": {{"backbone": "tfidf"}}}}', "seeds=1")
    assert code == 0 and f"left out: bad: {broken}/model.safetensors is damaged" in " ".join(said.split())
    assert "./broken/model.safetensors is damaged" in (work / "race" / "report.html").read_text()


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_an_interval_is_shown_in_the_units_of_any_metric_and_not_where_it_says_nothing(unit):
    gain = Gain("rmse", 0.2 * unit, (unit, unit), 2, 2, 9, 9, 0.0, unit**2, 0.0, 8.0, 0.0, 0.0)
    shown = [write_gain(Standing("a", gain=gain, low=(0.2 - w) * unit, high=(0.2 + w) * unit))[1] for w in (2, 100)]
    assert shown == [f"{-1.8 * unit:+.4f} to {2.2 * unit:+.4f}", "not known yet"]
    assert write_gain(Standing("a"))[1] == "not known yet"


def test_two_races_of_one_folder_are_refused(race, work, monkeypatch):
    monkeypatch.setattr(command, "file_lock", lambda folder: _Held())
    code, said = race(*PLAIN)
    assert code == 2 and "another race of runs/small is under way" in said


class _Held:
    def acquire(self, timeout):
        raise command.Timeout("there")


@pytest.mark.parametrize(
    "text, seconds", [("2h", 7200), ("45m", 2700), ("1h30m", 5400), ("90", 90), ("0.5h", 1800), ("2 h", 7200)]
)
def test_a_time_is_read(text, seconds):
    assert read_time(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2x", "-3m", "0", "1h30q"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="budget="):
        read_time(text)


@pytest.mark.parametrize("error", [FloatingPointError("the loss of fold1 is nan"), ValueError("no such layer")])
def test_a_cell_that_cannot_be_trained_says_why_and_does_not_end_the_race(work, tmp_path, monkeypatch, error):
    class Failing:
        def fit(self, *given):
            raise error

    table = pd.DataFrame({"fold": [0, 1]})
    monkeypatch.setattr(cells, "learner", lambda *given: (Failing(), table, ["a", "b"]))
    monkeypatch.setattr(cells, "training_rows", lambda *given: [0])
    assert train_cell(Job(Cell("one", 1, 0), work, "{}", tmp_path / "cells", (0, 1))) == str(error)


def test_shipped_recipes_fit_the_task(work, backbone):
    from kagglekit.competition.task import load_task

    base = read_base(work, "base", {"backbone": backbone, "max_length": 16})
    found, left_out = shortlist.fit_recipes(work, load_task(work), base, choose_recipes([]), shipped=True)
    arms, more = make_arms(work, base, found)
    names = {arm.name for arm in arms}
    assert {"fgm", "tfidf", "frozen", "rate_x2"} <= names and not set(left_out) & names
    assert ("head_tail" in names) != ("head_tail" in left_out)
    rates = {arm.name: arm.settings["learning_rate"] for arm in arms}
    assert rates["rate_x2"] == 2 * shortlist.suggest_rate(backbone, "full") and rates["fgm"] is None
    adapted = read_base(work, "base", {"backbone": backbone, "max_length": 16, "tuning": "lora"})
    found, _ = shortlist.fit_recipes(work, load_task(work), adapted, choose_recipes(["rate_x2"]), shipped=False)
    assert found["rate_x2"].settings == {"learning_rate": pytest.approx(2e-3)}  # twice that of adapters
    assert len(names | set(left_out) | set(more)) >= len(SHIPPED) + 2


def test_the_base_is_that_of_a_run_and_blends_are_refused(work):
    (work / "blend").mkdir()
    (work / "blend" / "weights.json").write_text("{}")
    with pytest.raises(ValueError, match="is a blend"):
        read_base(work, "blend", {})


def test_tricks_of_two_arms_are_joined_and_contradictions_refused(work, backbone):
    base = read_base(work, "base", {"backbone": backbone, "max_length": 16})
    wanted = {"a": {"tricks": {"FGM": {}}}, "b": {"tricks": {"EMA": {"decay": 0.9}}, "epochs": 4},
              "c": {"tricks": {"FGM": {"epsilon": 2.0}}}, "d": {"epochs": 5.0}, "e": {"loss": {"focal": {}}},
              "f": {"loss": {"cross_entropy": {}}}, "tfidf": {"backbone": "tfidf"}}  # fmt: skip
    arms = {arm.name: arm for arm in make_arms(work, base, choose_recipes(wanted))[0]}
    both = combine(work, base, arms["a"], arms["b"])
    assert both.name == "a+b" and both.settings["tricks"] == {"FGM": {}, "EMA": {"decay": 0.9}}
    assert both.settings["epochs"] == 4.0
    for first, second in ("ac", "bd", "ef", ("a", "tfidf")):
        with pytest.raises(ValueError):
            combine(work, base, arms[first], arms[second])


def test_the_command_of_a_winner_is_read_back_as_its_settings(work, backbone):
    settings = defaults() | {"backbone": backbone, "tricks": {"FGM": {"epsilon": 0.5}}, "dropout": None, "clean": []}
    settings |= {"pattern": 'it\'s "{text}" & $x', "checkpointing": True, "learning_rate": 3e-5}
    words = shlex.split(training_command(work, "fgm", settings))
    assert words[:4] == ["python", "-m", "kagglekit.run", "3_train"]
    notebook = find_notebook("3_train")
    values = parse_arguments(notebook, read_parameters(notebook), read_arguments(words[4:]))
    assert values.pop("work") == "runs/small" and values.pop("run") == "fgm"
    assert defaults() | values == settings


def test_cells_of_other_defaults_are_not_taken_for_those_of_an_arm(work, backbone):
    store = cells.CellStore(work, load_task(work), None, (0, 1), 1)
    arm = Arm("fgm", defaults() | {"work": str(work), "backbone": backbone, "tricks": {"FGM": {}}})
    store.add(arm)
    first = store.places["fgm"]
    params = read_json(first / "params.json")
    assert params["defaults"]["tricks: FGM: epsilon"] == 1.0
    for before, same in (({"tricks: FGM: epsilon": 0.5}, False), (params["defaults"], True), ({}, True)):
        write_json(first / "params.json", params | {"defaults": before})
        store.add(arm)
        assert (store.places["fgm"] == first) == same
        assert read_json(store.places["fgm"] / "params.json")["defaults"] in (params["defaults"], {})
