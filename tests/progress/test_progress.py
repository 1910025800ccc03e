"""Progress of a kernel: the words of its line, and the time left of all that is to be done."""

import os
import pty
import sys
from contextlib import suppress

import pytest

from kagglekit.files import read_json
from kagglekit.progress import (
    VARIABLE,
    Interrupted,
    Line,
    Progress,
    clock,
    columns,
    compose,
    conclude,
    parts,
    phases,
    say,
)


@pytest.fixture
def report(tmp_path, monkeypatch):
    """report(): what the kernel has written for its runner."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    monkeypatch.setattr(phases, "_board", phases._Board())
    return lambda: read_json(tmp_path / "progress.json")


def test_progress_reports_twice_a_second_and_asks_for_figures_only_then(now, report, capsys):
    asked = []
    with Progress("mlm", 225, start=25) as progress:
        for step in range(26, 126):
            now[0] += 0.125
            progress.update(step, loss=lambda: asked.append(1) or 0.41234, score=0.912345, epoch=1500)
        assert len(asked) == 25  # every 0.5 of 12.5 s
        assert compose(report(), "2_pretrain mlm", 99) == (
            "2_pretrain mlm  mlm  step 125/225  loss 0.412  score 0.912  epoch 1500  0:12 left"
        )
    assert report()["phase"] == ""
    assert capsys.readouterr().out == "mlm: 100 steps in 0:12\n"


def test_a_phase_left_by_an_exception_has_no_closing_line_and_an_interrupt_no_traceback(report, capsys):
    with pytest.raises(KeyError), Progress("fold 1", 3):
        raise KeyError
    with pytest.raises(Interrupted) as error, Progress("methods", 3):
        raise KeyboardInterrupt
    assert error.value._render_traceback_() == ["interrupted while it was at methods: run this cell again"]
    assert capsys.readouterr().out == "" and report()["phase"] == ""


class Run:
    """A training of folds on a clock of its own: each builds a model, trains with evaluations, and predicts test."""

    def __init__(self, now, report, folds=5, size=lambda fold: 1.0, pace=lambda fold, share: 1.0, once=0.0, later=0):
        self.now, self.seen = now, []  # (fold, share of the training, time, when it says all will be done)
        sizes = {fold: size(fold) for fold in range(folds)}
        for fold in parts([*range(folds)], "fold", sizes=sizes, later=later):
            if once and not fold:
                with Progress("embedding", 10, line=False, once=True) as progress:
                    for step in range(10):
                        now[0] += once / 10
                        progress.update(step + 1)
            now[0] += 3.0
            steps = round(100 * size(fold))
            rest = lambda done, n=steps: n - done + 10 * (n // 50 - max(done - 1, 0) // 50) + 20  # noqa: E731
            with Progress(f"fold {fold}", steps, rest=rest, line=False) as progress:
                for step in range(1, steps + 1):
                    now[0] += pace(fold, step / steps)
                    progress.update(step, loss=0.5)
                    self.seen.append((fold, step / steps, now[0], report()["ends"]))
                    if step % 50 == 0:
                        now[0] += 10 * pace(fold, 1.0)
            with Progress("predicting", 5, line=False) as progress:
                for step in range(5):
                    now[0] += 4 * pace(fold, 1.0)
                    progress.update(step + 1)
        self.ended = now[0]

    def errors(self, folds, least=0.0):
        """By how much each estimate of these folds is wrong, in shares of the time left (at least a minute)."""
        known = [(time, ends) for fold, share, time, ends in self.seen if fold in folds and share >= least]
        return [None if ends is None else (ends - self.ended) / max(self.ended - time, 60) for time, ends in known]


def test_the_time_left_is_that_of_the_whole_run_with_its_evaluations_and_predictions(now, report):
    run = Run(now, report)
    assert run.errors([0])[:3] == [None] * 3  # nothing is known yet
    assert max(map(abs, run.errors([0], 0.05))) < 0.05  # from the steps alone
    assert max(map(abs, run.errors([1, 2, 3, 4]))) < 0.02
    assert report()["ends"] is None


@pytest.mark.parametrize(
    ("options", "first", "others", "second_half"),
    [
        (
            dict(pace=lambda fold, share: 1.0 + (share > 0.5)),
            0.5,
            0.05,
            0.05,
        ),  # a trick that begins at half of the steps
        (dict(pace=lambda fold, share: 1.0 + 2.0 * (fold > 0)), 0.8, 0.75, 0.25),  # the machine is busy from fold 1 on
        (dict(size=lambda fold: 0.5 + fold / 2), 0.3, 0.4, 0.3),  # a time series: each fold learns from more rows
        (dict(once=300.0), 1.0, 0.03, 0.03),  # vectors that the first fold computes for all
        (dict(folds=1), 0.05, 0.0, 0.0),
    ],
    ids=["late trick", "busy", "growing folds", "once", "one fold"],
)
def test_estimates_are_honest_after_the_first_fold(now, report, options, first, others, second_half):
    run = Run(now, report, **options)
    assert max(map(abs, run.errors([0], 0.1))) < first
    assert max(map(abs, run.errors([1, 2, 3, 4])), default=0.0) <= others
    assert max(map(abs, run.errors([2, 3, 4], 0.5)), default=0.0) <= second_half


def test_trainings_that_follow_the_folds_count(now, report):
    run = Run(now, report, folds=3, later=2)
    _, _, time, ends = run.seen[-1]
    assert ends - time == pytest.approx(2 * 143 + 30, rel=0.02)


def test_rounds_within_a_fold_are_told_and_estimated(now, report):
    words, lefts = [], []
    for _ in parts([3, 4], "fold", done=1):
        for _ in parts(range(2), "round"):
            with Progress("fold 3", 100, line=False) as progress:
                for step in range(100):
                    now[0] += 1.0
                    progress.update(step + 1)
                words.append(report()["phase"])
                lefts.append(report()["ends"] - now[0])
    assert words[:2] == ["fold 3 (2 of 3), round 1 of 2", "fold 3 (2 of 3), round 2 of 2"]
    assert words[2] == "fold 4 (3 of 3), round 1 of 2, fold 3"
    assert lefts == pytest.approx([300, 200, 100, 0], abs=2)


def test_a_loop_that_was_left_by_an_error_is_forgotten_by_the_next_one(report):
    loop = parts([0, 1, 2], "fold")
    next(loop)
    assert [report()["phase"] for _ in parts([7], "fold")] == ["fold 7"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (79, "3_train base  fold 3 (4 of 5)  step 140/225  loss 0.412  score 0.912  3:20 left"),
        (78, "3_train base  fold 3 (4 of 5)  step 140/225  score 0.912  3:20 left"),
        (54, "3_train base  fold 3 (4 of 5)  step 140/225  3:20 left"),
        (39, "fold 3 (4 of 5)  score 0.912  3:20 left"),
        (26, "fold 3 (4 of 5)  3:20 left"),
        (12, "fold 3 (4 of"),
    ],
)
def test_the_line_keeps_what_matters_most_where_the_window_is_small(now, width, shown):
    words = {"phase": "fold 3 (4 of 5)", "at": "step 140/225", "figures": ["loss 0.412", "score 0.912"]}
    line = compose(words | {"ends": 1200.0}, "3_train base", width)
    assert line == shown and columns(line) <= width


def test_chinese_characters_take_two_columns():
    assert columns("runs/书评") == 9
    assert compose({"phase": "折叠折叠", "ends": None}, "", 5) == "折叠"


def test_clock():
    assert [clock(s) for s in (0, 72, 3672)] == ["0:00", "1:12", "1:01:12"]


def test_what_is_said_stays_and_its_figures_too(report, capsys):
    say("fold 0: accuracy 0.9123", score=0.9123)
    with Progress("fold 1", 3, line=False):
        assert report()["figures"] == ["score 0.912"]
    here = os.getcwd()
    conclude(f"5_submit base: {here}/runs/x.csv", "4_ensemble", work=f"{here}/my runs", other=f"{here}/x y")
    assert report()["said"] == ["fold 0: accuracy 0.9123"]
    assert report()["result"] == [
        "5_submit base: runs/x.csv",
        f"next: python -m kagglekit.run 4_ensemble 'work=my runs' 'other={here}/x y'",
    ]
    assert capsys.readouterr().out.splitlines() == [*report()["said"], *report()["result"]]


def test_without_a_runner_a_terminal_shows_the_same_line_and_a_file_nothing(monkeypatch, capsys):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(phases, "_line", Line())
    monkeypatch.setattr(phases, "_board", phases._Board())  # without phases that another test was stopped in
    with Progress("fold 1", 3, line=False) as progress:
        progress.update(3, loss=0.5)
    assert capsys.readouterr() == ("", "")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress("fold 1", 3, line=False):
            pass
        say("done")
    sent = b""
    with suppress(OSError):  # its end, as the other side is closed
        while part := os.read(ours, 4096):
            sent += part
    assert sent.decode() == "\rfold 1  step 0/3\x1b[K\r\x1b[K"
    os.close(ours)
