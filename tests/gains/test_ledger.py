"""The ledger: which runs are one recipe, what each brings over the base, what it costs, and what cannot be compared."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.task import encode_labels, load_task, read_test, read_train
from kagglekit.files import write_json
from kagglekit.gains.ledger import main, make_ledger
from kagglekit.gains.replicates import read_recipes
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.tables import read_folds
from tests.reports.conftest import N, add_blend, make_made_up, make_work

FGM, EMA = {"tricks": {"FGM": {}}}, {"tricks": {"EMA": {}}}


def train(work, name, skill, seed=0, seeds=1, folds=(0, 1, 2), seconds=None, **recipe):
    """A run as 3_train leaves it, with predictions that are made up: the better, the higher `skill`."""
    task = load_task(work)
    rows, test = read_train(task), read_test(task)
    labels, table = encode_labels(task, rows), read_folds(work, rows["id"])
    known = {"backbone": "minilm", "seed": seed, "epochs": 3.0, "tricks": {}, **recipe}
    folder = open_run(work, name, known | ({"seeds": seeds} if seeds > 1 else {}))
    for k in folds:
        inside = (table["fold"] == k).to_numpy()
        for number in range(seeds):
            rng = np.random.default_rng([seed, number, k, int(10 * skill + 50)])
            oof = make_made_up(task, "multiclass", labels, rng, skill)
            fitted = Fitted(oof[inside], oof[: len(test)])
            save_fold(folder, k, fitted, rows["id"][inside], test["id"], task, number, seeds)
            place = folder / f"fold{k}" / f"seed{number}" if number else folder / f"fold{k}"
            if seconds:
                write_json(place / "cost.json", {"seconds": seconds, "memory": 2**30 * seconds, "resumed": k == 2})
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = make_work(tmp_path_factory.mktemp("ledger") / "runs" / "bbc", "multiclass", {})
    train(work, "base", 0.5, seeds=2, seconds=1.0)
    train(work, "good", 4.0, seeds=3, seconds=2.0, **FGM)
    train(work, "again", 4.0, seed=9, **FGM)
    train(work, "same", 0.5, seeds=2, seed=1, folds=[0])
    train(work, "poor", -1.0, seeds=2, **EMA)
    train(work, "single", 2.0, folds=[1], epochs=5.0)
    add_blend(work, "blend", ["base", "good"])
    return work


def test_runs_that_differ_in_their_seed_are_one_recipe_with_all_seeds(work):
    read = read_recipes(work)
    assert [one.names for one in [read.base, *read.recipes]] == [
        ["base", "same"],
        ["good", "again"],
        ["poor"],
        ["single"],
    ]
    assert {fold: sorted(each) for fold, each in read.base.cells.items()} == {
        0: [0, 1, 1000, 1001],
        1: [0, 1000],
        2: [0, 1000],
    }
    assert sorted(read.recipes[0].cells[0]) == [0, 9, 1000, 2000] and all(
        len(p) == N // 3 for p in read.base.cells[0].values()
    )
    assert list(read.left_out) == ["blend"] and "as of any blend" in read.left_out["blend"]


def test_gains_have_the_right_sign_and_verdict_and_costs_are_those_of_a_training(work):
    found = {entry.recipe.name: entry for entry in make_ledger(work).entries}
    assert found["good"].gain.verdict == "helps" and found["poor"].gain.verdict == "hurts"
    assert found["good"].gain.folds == 3 and found["good"].gain.seeds == 2 and found["single"].gain.folds == 1
    assert found["good"].settings == "tricks={FGM}" and found["single"].settings == "epochs=5"
    assert found["good"].recipe.seconds == 2.0 and found["good"].recipe.memory == 2**31
    assert found["poor"].recipe.seconds is None
    assert next(iter(found)) == "good"


def test_the_text_fits_a_terminal_and_names_the_commands_that_score_the_best_anew(work, capsys, monkeypatch):
    monkeypatch.chdir(work.parents[1])
    assert main(["work=runs/bbc", "--html"]) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert all(len(line) <= 80 for line in lines if "kagglekit" not in line) and "nan" not in told and "inf" not in told
    assert re.search(r"^good +\+0\.\d+ +\+0\.\d+ to \+0\.\d+ +3 x 2 +2.0x +2.0x +helps$", told, re.M)
    assert "looks better than it is" in told and "not compared\n  blend: its weights" in told
    commands = [shlex.split(line) for line in lines if line.startswith("  ") and "3_train" in line]
    assert [{"seed=500", "seeds=3"} <= set(words) for words in commands] == [True, True]
    assert "run=good-again" in commands[1] and 'tricks={"FGM": {}}' in commands[1]
    assert lines[-1] == "written: runs/bbc/ledger.html" and "<script" not in (work / "ledger.html").read_text()
    table = pd.read_csv(work / "ledger.csv", index_col="recipe")
    assert table["verdict"]["good"] == "helps" and table["runs"]["good"] == "good again"
    assert (table["low"] <= table["gain"]).all() and table["bytes"]["good"] == 2**31


def test_runs_and_margin_are_taken_as_they_are_named(work):
    found = make_ledger(work, "good", ["poor"], margin=5.0)
    (entry,) = found.entries
    assert found.read.base.names == ["good"] and entry.recipe.names == ["poor"]
    assert entry.gain.verdict == "makes no difference that matters" and entry.gain.margin == 5.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "in which work folder?"),
        (["work=runs/bbc", "base=bsae"], "the run 'bsae' does not exist in .*did you mean .*base"),
        (["work=runs/bbc", "base=blend"], "base='blend' cannot be the base: its weights"),
        (["work=runs/bbc", "runs=good,odd"], "the run 'odd' does not exist"),
        (["work=runs/bbc", "margin=-1"], "margin=.*-1.* a number from 0"),
        (["work=runs/bbc", "margin=small"], "margin=.*such as 0.002"),
        (["work=runs/bbc", "bse=base"], "bse"),
        (["work=runs/none"], "no task.json"),
    ],
)
def test_mistakes_are_one_sentence(work, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(work.parents[1])
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert re.search(words, told.err) and told.out == "" and "Traceback" not in told.err and told.err.count("\n") == 1


def test_runs_of_other_folds_and_folds_that_none_shares_are_left_out_with_the_reason(tmp_path):
    work = make_work(tmp_path / "runs" / "bbc", "multiclass", {})
    train(work, "base", 1.0, folds=[0])
    train(work, "other", 1.0, folds=[1], epochs=5.0)
    odd = train(work, "odd", 1.0, epochs=7.0)
    train(work, "oof", 1.0, folds=[0], crosses=["base"])
    table = pd.read_parquet(odd / "fold0" / "oof.parquet")
    table[::-1].to_parquet(odd / "fold0" / "oof.parquet")
    left_out = make_ledger(work).read.left_out
    assert "no finished fold in common: 1 of other and 0 of base" in left_out["other"]
    assert "was made with other folds" in left_out["odd"] and "too good" in left_out["oof"]


def test_commands_are_taken_by_a_shell_whatever_stands_in_values_and_in_the_path(tmp_path, capsys, monkeypatch):
    work = make_work(tmp_path / "my runs" / "bbc", "multiclass", {})
    train(work, "base", 0.5, seeds=2)
    train(work, "good", 4.0, seeds=2, pattern="{text} seed=1 or run=2? {mask}")
    train(work, "poor", -1.0, seeds=2, epochs=4.0)
    monkeypatch.chdir(tmp_path)
    assert main(["work=my runs/bbc"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith("  python")]
    assert [line.count("work=my runs/bbc") for line in lines] == [1, 1, 1]
    assert "pattern={text} seed=1 or run=2? {mask}" in lines[1] and lines[1][-3:] == [
        *("run=good-again", "seed=500", "seeds=3")
    ]
