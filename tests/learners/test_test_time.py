"""Models that learn from test before they predict it: the replay at home, what is learned, and when it ends."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.task import encode_labels, load_task, read_test, read_train
from kagglekit.files import hash_files, read_json, write_json
from kagglekit.learners.test_time import TestTimeLearner
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import read_folds, read_run
from kagglekit.selftraining.selftraining_knobs import REPLAY, LearningOptions
from kagglekit.time_budget import STARTED, OutOfTime, TimeBudget
from kagglekit.training.finetune import FineTuner

SUPPORT = {"positive": ["yes_1", "yes_2"], "negative": ["no_1"]}
FAST = {"max_length": 16, "learning_rate": 2e-2, "batch_size": 8}


def write_rules(folder, texts):
    """A competition in which a rule says whether many good words, or few, are a violation, and test has new rules."""
    random = np.random.default_rng(0)
    words, balance = texts(300)
    pools = [[text for text, more in zip(words, balance, strict=True) if (more > 0) == good] for good in (False, True)]

    def draw(bad, rule):
        return str(random.choice(pools[bad == (rule in "ace")]))

    def make_row(name, number, rule, bad):
        texts = {column: draw(wrong, rule) for column, wrong in (("yes_1", True), ("yes_2", True), ("no_1", False))}
        return {"id": f"{name}{number}", "text": draw(bad, rule), "rule": rule, **texts, "label": int(bad)}

    for name, rules in (("train", "abcd"), ("test", "ef")):
        drawn = [(rules[number % len(rules)], number // len(rules) % 2 == 0) for number in range(12 * len(rules))]
        table = pd.DataFrame([make_row(name, number, *one) for number, one in enumerate(drawn)])
        table.drop(columns=["label"] * (name == "test")).to_csv(folder / f"{name}.csv", index=False)
    table[["id"]].assign(label=0.5).to_csv(folder / "sample_submission.csv", index=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory, texts, backbone, run_here):
    """A work folder with a fine-tuned run of two seeds and two folds of rules, and one of TF-IDF."""
    place = tmp_path_factory.mktemp("rules")
    write_rules(place, texts)
    work, where = str(place / "work"), {"work": str(place / "work")}
    run_here("1_eda", data=str(place), **where, text="text", group="rule", n_folds=2, near_duplicates=0.0,
             support=SUPPORT, backbone=backbone)  # fmt: skip
    run_here("3_train", **where, run="base", backbone=backbone, epochs=1.0, seeds=2, **FAST)
    run_here("3_train", **where, run="tfidf", backbone="tfidf")
    return work


@pytest.fixture
def make(home, tmp_path):
    """make(run, **options): a learner over a copy of the work folder's runs."""
    work = shutil.copytree(home, tmp_path / "work")

    def learner(run="base", budget=TimeBudget(), **options):  # noqa: B008
        task = load_task(work)
        train = read_train(task)
        known = (task, read_folds(work, train["id"]), train, encode_labels(task, train))
        return TestTimeLearner(work, run, *known, LearningOptions(**options), budget)

    return learner


@pytest.fixture
def trainings(monkeypatch):
    """The texts and labels of each training."""
    seen, fit = [], FineTuner.fit

    def watched(tuner, *given, **how):
        seen.append(dict(zip(tuner.train["text"], tuner.train["label"], strict=True)))
        return fit(tuner, *given, **how)

    monkeypatch.setattr(FineTuner, "fit", watched)
    return seen


def stored(learner):
    task = learner.task
    return read_run(learner.work, learner.run, task, learner.folds, read_test(task)["id"])


def test_the_replay_learns_the_examples_of_held_out_rows_with_each_seed(make, trainings):
    learner = make(support=SUPPORT, epochs=2.0)
    models = [file for each in learner.record.models.values() for place in each for file in place.glob("*")]
    before = hash_files(models)
    found = learner.check()
    assert len(trainings) == 4 and trainings[0] == trainings[1] != trainings[2]
    train, folds = pd.read_csv(learner.task.data + "/train.csv"), learner.folds["fold"].to_numpy()
    held_out = train[folds == 0]
    assert set(trainings[0]) == {*held_out["yes_1"], *held_out["yes_2"], *held_out["no_1"]}
    assert set(trainings[0].values()) == {"0", "1"}
    scores = read_json(learner.record.folder / "score.json")
    assert found["without"] == pytest.approx(scores["score"]) and found["with"] != found["without"]
    assert found["interval"][0] <= found["gain"] <= found["interval"][1]
    assert hash_files(models) == before  # the run itself stays
    assert [LearningOptions(**one).passes for one in ({"support": SUPPORT}, {"pseudo": 0.9})] == [3.0, 1.0]
    assert make(support=SUPPORT, epochs=2.0, minutes=9.0).check() == found and len(trainings) == 4
    make(support=SUPPORT, epochs=1.0).check()
    assert len(trainings) == 8


def test_a_replay_that_was_cut_off_goes_on_with_the_next_fold(make, trainings, monkeypatch):
    learner, learn = make(support=SUPPORT), TestTimeLearner._learn

    def cut(self, fold, *given):
        if fold == 1:
            raise OutOfTime("over")
        return learn(self, fold, *given)

    monkeypatch.setattr(TestTimeLearner, "_learn", cut)
    with pytest.raises(OutOfTime):
        learner.check()
    assert len(trainings) == 2 and not (learner.record.folder / REPLAY).exists()
    monkeypatch.undo()
    found = make(support=SUPPORT).check()
    assert found == learner.replay() and not (learner.record.folder / "learned" / "fold0").exists()


def test_predictions_that_are_sure_are_learned_as_labels(make, trainings):
    learner = make(pseudo=0.6)
    found = learner._learn(
        0, read_test(learner.task), "test", frozen(learner), learner.record.folder / "x", TimeBudget()
    )
    assert found.shape == (24, 2) and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    rows = read_test(learner.task)
    named = dict(zip(rows["text"][[0, 2]], ["1", "0"], strict=True))
    assert trainings[0] == trainings[1] == named
    nothing = np.full((24, 2), 0.5, dtype=np.float32)
    assert make(pseudo=0.6)._learn(0, rows, "test", nothing, learner.record.folder / "x", TimeBudget()) is nothing


def frozen(learner):
    """Predictions of test, of which two are sure."""
    found = np.full((24, 2), 0.5, dtype=np.float32)
    found[[0, 2]] = [[0.1, 0.9], [0.7, 0.3]]
    return found


def test_fold_by_fold_predictions_of_models_that_have_learned_take_their_place(make):
    learner = make(support=SUPPORT)
    before, test = stored(learner), read_test(learner.task)
    results = list(learner.predict(before, test))
    assert len(results) == 2
    assert np.array_equal(results[0].tests[1], before.tests[1])
    assert not np.allclose(results[0].tests[0], before.tests[0], atol=1e-3)
    assert not np.allclose(results[1].tests[1], before.tests[1], atol=1e-3)
    assert not (learner.record.folder / "learned").exists() and RunRecord(learner.record.folder).seeds == {0: 2, 1: 2}


def test_when_the_minutes_are_over_the_other_folds_stay_as_they_were(make, monkeypatch, capsys):
    monkeypatch.setenv(STARTED, "1000")
    clock = [2000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    learner, learn = make(support=SUPPORT, minutes=10.0), TestTimeLearner._learn

    def slow(self, *given):
        clock[0] += 601
        return learn(self, *given[:-1], TimeBudget())

    monkeypatch.setattr(TestTimeLearner, "_learn", slow)
    assert len(list(learner.predict(stored(learner), read_test(learner.task)))) == 1
    assert "The minutes to learn are over: folds [1] stay as they were" in capsys.readouterr().out
    late = make(budget=TimeBudget(0.3), support=SUPPORT)  # the hours of the kernel are over
    assert list(late.predict(stored(late), read_test(late.task))) == []


def test_in_a_kernel_nothing_is_learned_that_was_not_checked_at_home(make, tmp_path, monkeypatch):
    learner = make(support=SUPPORT)
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(tmp_path))
    assert learner.check() == {} and not learner.options.pays({})
    assert make(support=SUPPORT, force=True).options.pays({}) and learner.options.pays({"verdict": "helps"})
    assert not learner.options.pays({"verdict": "cannot tell"})


def test_in_a_kernel_an_error_leaves_the_submission_that_is_written(make, tmp_path, monkeypatch, capsys):
    learner, learn = make(support=SUPPORT), TestTimeLearner._learn

    def fail(self, fold, *given):
        if fold == 1:
            raise ValueError("the hidden test is another")
        return learn(self, fold, *given)

    monkeypatch.setattr(TestTimeLearner, "_learn", fail)
    before, test = stored(learner), read_test(learner.task)
    with pytest.raises(ValueError, match="is another"):
        list(learner.predict(before, test))
    monkeypatch.setenv("KAGGLEKIT_INPUTS", str(tmp_path))
    [found] = learner.predict(before, test)
    assert found.tests[1] is before.tests[1] and found.tests[0] is not before.tests[0]
    told = "failed in fold 1, and the submission stays as it is: the hidden test is another"
    assert told in capsys.readouterr().out


def test_a_test_without_examples_teaches_nothing(make, capsys):
    learner = make(support=SUPPORT)
    file = Path(learner.task.data) / "test.csv"
    whole = file.read_bytes()
    pd.read_csv(file).assign(yes_1="", yes_2="", no_1=" ").to_csv(file, index=False)
    try:
        assert list(learner.predict(stored(learner), read_test(learner.task))) == []
    finally:
        file.write_bytes(whole)
    assert "fold 1: test has nothing to learn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [("tfidf", {"support": SUPPORT}, "no fine-tuned models"), ("base", {}, "nothing to learn")],
)
def test_what_cannot_learn_is_refused(make, run, options, words):
    with pytest.raises(ValueError, match=words):
        make(run, **options)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"candidates": "rule"}, "reads features or candidates.*leave learn out"),
        ({"features": {"categories": ["rule"]}}, "reads features or candidates"),
        ({"soft_targets": ["a", "b"]}, "further targets"),
    ],
)
def test_a_run_that_reads_what_examples_lack_is_refused(make, tmp_path, knobs, words):
    file = tmp_path / "work" / "base" / "params.json"
    params = read_json(file)
    write_json(file, params | {"recipe": params["recipe"] | knobs})
    with pytest.raises(ValueError, match=words):
        make(support=SUPPORT)


def test_the_notebook_writes_a_submission_before_and_after_it_learns(make, run_here, capsys):
    work = make(support=SUPPORT).work
    run_here("5_submit", work=str(work), run="base", predict=True)
    before = pd.read_csv(work / "submission.csv")
    run_here("5_submit", work=str(work), run="base", predict=True, learn={"support": SUPPORT, "force": True})
    after = pd.read_csv(work / "submission.csv")
    assert before["id"].equals(after["id"]) and not np.allclose(before["label"], after["label"])
    assert json.loads((work / "submission.json").read_text())["learned"] is True
    told, found = capsys.readouterr().out, read_json(work / "base" / REPLAY)["found"]
    assert "the submission is of models that have learned from test" in told
    assert str(round(found["with"], 4)) in told.split("low, 95 %")[1].split("learning from test")[0]
