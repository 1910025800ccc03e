"""Runs side by side: the paired difference and its interval, folds, classes, and rows that they disagree on."""

import re
import shutil

import numpy as np
import pytest

from kagglekit.competition.task import encode_labels, load_task, read_train
from kagglekit.files import read_json
from kagglekit.reports.compare import main, tell_seeds
from kagglekit.reports.paired import Difference, pair, read_data
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import read_folds, read_run
from kagglekit.scoring.bootstrap import bootstrap_scores, interval
from kagglekit.scoring.metrics import is_higher_better, score
from kagglekit.show.texts import row_losses
from tests.reports.conftest import add_blend

KINDS = ("multiclass", "multilabel", "ordinal", "regression")


@pytest.mark.parametrize("kind", KINDS)
def test_the_difference_is_that_of_the_same_rows_with_the_interval_of_the_bootstrap(of_kind, kind):
    work = of_kind(kind)
    found, task = pair(["weak", "good"], work), load_task(work)
    train = read_train(task)
    labels, folds = encode_labels(task, train), read_folds(work, train["id"])
    runs = [read_run(work, name, task, folds, [str(k) for k in range(100, 120)]) for name in ("weak", "good")]
    sign = 1 if is_higher_better(task.metric) else -1
    scores = [score(task.metric, labels, run.oof_array) for run in runs]
    drawn = bootstrap_scores(task.metric, labels, [run.oof_array for run in runs], np.arange(60), 1000)
    low, high = interval(sign * (drawn[:, 1] - drawn[:, 0]), 60)
    (one,) = found.differences
    assert one.better_by == pytest.approx(sign * (scores[1] - scores[0])) and one.better_by > 0
    assert (one.low, one.high) == pytest.approx((low, high)) and one.verdict == "good is better"
    written = [read_json(work / name / "score.json") for name in ("weak", "good")]
    assert found.scores["score"].tolist() == pytest.approx([each["score"] for each in written])
    assert found.scores["standard_error"].tolist() == pytest.approx([each["standard_error"] for each in written])
    assert found.folds["good"].tolist() == pytest.approx(list(written[1]["folds"].values()))
    assert len(found.parts) == len(task.classes or task.labels)
    assert pair(["good", "weak"], work).differences[0].verdict == "good is better"


@pytest.mark.parametrize(
    ("by", "low", "high", "words"),
    [
        (0.1, 0.05, 0.15, "b is better"),
        (-0.1, -0.15, -0.05, "a is better"),
        (0.1, -0.01, 0.2, "cannot tell which is better"),
        (0.1, 0.0, 0.2, "cannot tell which is better"),
        (-0.1, -0.2, 0.0, "cannot tell which is better"),
    ],
)
def test_where_the_interval_holds_0_nobody_can_tell(by, low, high, words):
    assert Difference("b", "a", by, 0.05, low, high, 3, 2, "b alone is right").verdict == words


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ((1, 1), "^The intervals are"),
        ((3, 3), r"compared: a 3, b 3\. The intervals"),
        ((3, 1), "a 3, b 1. A mean of more"),
    ],
)
def test_of_runs_of_several_seeds_it_is_told_of_how_many(monkeypatch, tmp_path, seeds, words):
    monkeypatch.setattr(RunRecord, "seeds", property(lambda record: {0: seeds["ab".index(record.name)]}))
    assert re.search(words, tell_seeds([RunRecord(tmp_path / name) for name in "ab"]))


def test_a_run_against_its_copy_has_the_same_score(made):
    work = made("multiclass", {"one": 1.0})
    shutil.copytree(work / "one", work / "two")
    (one,) = pair(["one", "two"], work).differences
    assert one.verdict == "the same score on all samples" and (one.wins, one.losses) == (0, 0)


def test_only_folds_that_all_runs_have_are_compared(made, capsys):
    work = made("multiclass", {"base": 2.0, "try": (3.0, [0, 1], {"epochs": 1.0})})
    found = pair(["base", "try"], work)
    assert (found.rows, found.folds.index.tolist(), found.left_out) == (40, [0, 1], ["2 of base"])
    whole = read_json(work / "base/score.json")["folds"]
    assert found.folds["base"].tolist() == [whole["0"], whole["1"]]
    assert main(["base", "try", "work=runs/bbc"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "40 rows of folds 0, 1; left out, as not all runs have them: folds 2 of base" in told


def test_rows_that_they_disagree_on_are_those_whose_losses_differ_most(of_kind):
    work = of_kind("multiclass")
    shown = pair(["weak", "good"], work, examples=3).disagreements
    data = read_data(work, ["weak", "good"])
    losses = [row_losses(data.task, data.labels, run.oof_array) for run in data.runs]
    expected = np.argsort(-np.abs(losses[0] - losses[1]), kind="stable")[:3]
    assert list(shown.columns) == ["id", "true", "weak", "good", "text"]
    assert shown["id"].tolist() == [str(k) for k in expected]
    assert shown["true"].tolist() == [data.task.classes[data.labels[k]] for k in expected]
    assert shown["text"].iloc[0].startswith(f"text {expected[0]} ")


def test_the_text_has_settings_scores_and_verdicts_in_80_columns(made, capsys):
    ema = {"tricks": {"EMA": {"decay": 0.99}}, "epochs": 5.0}
    work = made(
        "multiclass", {"base": 2.0, "ema": (2.2, range(3), ema), "tfidf": (1.0, range(3), {"backbone": "tfidf"})}
    )
    add_blend(work, "blend", ["base", "ema"])
    assert main(["base", "ema", "tfidf", "blend", "work=runs/bbc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [" ".join(line.split()) for line in lines]
    assert "tricks {} {EMA: {decay: {}" in rows or "tricks {} {EMA: {decay: 0.99}} {}" in rows
    assert "epochs 3 5 3" in rows and "backbone minilm minilm tfidf" in rows
    assert not any(row.startswith("seed") for row in rows)
    assert sum(row.startswith(f"{name} against base:") for row in rows for name in ("ema", "tfidf", "blend")) == 3


def test_runs_are_named_by_work_or_by_path_and_mistakes_are_told(made, capsys):
    work = made("multiclass", {"base": 1.0, "fgm": 2.0})
    made("binary", {"base": 1.0}, work="runs/other")
    assert main(["runs/bbc/base", "runs/bbc/fgm"]) == 0
    by_path = capsys.readouterr().out
    assert main(["base", "fgm", f"work={work}"]) == 0
    assert capsys.readouterr().out == by_path
    for arguments, words in (
        (["base", "fmg", "work=runs/bbc"], "the run 'fmg' does not exist: did you mean fgm?"),
        (["base", "fgm"], "in which work folder is 'base'? Say work=runs/NAME, or the path runs/NAME/base"),
        (["base", "work=runs/bbc"], "base: name two runs or more, each once"),
        (["base", "base", "work=runs/bbc"], "base, base: name two runs or more, each once"),
        (["base", "fgm", "wrok=runs/bbc"], "names of runs and one work="),
        (["runs/bbc/base", "runs/other/base"], "are runs of other data, which cannot be compared"),
        (["base", "zzz", "work=runs/bbc"], "the run 'zzz' does not exist: bbc has base, fgm"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err
    assert main(["base", "fgm", "work=runs/bbc", "--html", "mine.html"]) == 0
    assert capsys.readouterr().out == "written: mine.html\n"


def test_runs_without_a_fold_in_common_are_refused(made):
    work = made("multiclass", {"one": (1.0, [0], {}), "two": (1.0, [1, 2], {})})
    with pytest.raises(ValueError, match=r"no finished fold in common: one has \[0\]; two has \[1, 2\]"):
        pair(["one", "two"], work)
