"""Fixes of labels: read as spreadsheets leave them, learned in training folds alone, scored beside the labels given."""

import json

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.files.parquet import read_parquet
from kagglekit.learners.choose import choose_learner
from kagglekit.learners.full_fit import predict_full
from kagglekit.options import find_idle, knobs_of
from kagglekit.runs.folder import open_run, save_fold, score_run
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.runs.tables import Run, read_folds, read_run, training_rows, write_folds
from kagglekit.training.fixes import Fixes, describe_fixed
from kagglekit.training.recipe import Recipe

ROWS = 24
FORMS = {  # labels of train, the column of the sample, and options of 1_eda
    "classes": ({"label": ["good", "bad"] * 12}, {"label": "bad"}, {}),
    "levels": ({"label": ["1", "2", "3"] * 8}, {"label": "1"}, {"kind": "ordinal"}),
    "drops": ({"label": ["drop", "Keep"] * 12}, {"label": "Keep"}, {}),
    "numbers": ({"label": [f"{n}.5" for n in range(ROWS)]}, {"label": "0"}, {"kind": "regression"}),
    "several": ({"x": ["0", "1"] * 12, "y": ["1"] * 9 + ["0"] * 15}, {"x": "0", "y": "0"}, {}),
}


class Home:
    """A work folder of 24 rows with the ids 007, 8, 9 ... in two folds."""

    def __init__(self, folder, texts, backbone, form="classes"):
        self.folder, self.work, self.backbone = folder, folder / "work", backbone
        labels, sample, options = FORMS[form]
        ids = ["007", *(str(n) for n in range(8, 7 + ROWS))]
        train, test = pd.DataFrame({"id": ids, "text": texts(ROWS)[0], **labels}), pd.DataFrame({"id": ["t1", "t2"]})
        train.to_csv(folder / "train.csv", index=False)
        test.assign(text=["one", "two"]).to_csv(folder / "test.csv", index=False)
        test.assign(**sample).to_csv(folder / "sample_submission.csv", index=False)
        self.task, _ = infer(folder, train="train.csv", **options)
        self.task.save(self.work)
        self.train, self.test = read_train(self.task), read_test(self.task)
        write_folds(self.work, self.train["id"], np.arange(ROWS) // 2 % 2)
        self.folds, self.labels = read_folds(self.work, self.train["id"]), encode_labels(self.task, self.train)

    def fix(self, content, name="fixes.csv"):
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(self.folder / name)

    def read(self, content):
        return Fixes.read(self.task, self.train, self.test["id"], self.fix(content))

    def choose(self, **given):
        given = {"work": str(self.work), "backbone": self.backbone} | given
        if given["backbone"] != "tfidf" and "learner" not in given:
            given = {"max_length": 16, "epochs": 1.0, "batch_size": 6, "learning_rate": 2e-2} | given
        parts = [kind(**{k: v for k, v in given.items() if k in knobs_of(kind)}) for kind in (TrainingRun, Recipe)]
        return choose_learner(*parts, self.task, self.train, self.test, self.folds, [0, 1])

    def fit(self, choice, fold, place):
        held_out = np.flatnonzero(self.folds["fold"] == fold)
        return choice.fit(training_rows(self.folds, fold), held_out, place / f"fold{fold}", fold)


@pytest.fixture
def home(tmp_path, texts, backbone):
    """home(form): a `Home`."""
    return lambda form="classes": Home(tmp_path, texts, backbone, form)


@pytest.mark.parametrize(
    ("form", "content", "labels", "dropped"),
    [
        ("classes", "id,text,label,fix\n8,a,bad,good\n9,b,good,\n10,c,bad,DROP\n", {"label": {1: "good"}}, [3]),
        ("classes", b"\xef\xbb\xbfid;label;note;fix\n7.0;good;x;Bad \n8.0;bad;y;bad\n", {"label": {0: "bad"}}, []),
        ("classes", "ID,new\n007,bad\n", {"label": {0: "bad"}}, []),
        ("classes", "id,fix\n8,good\n8,\n8,good\n", {"label": {1: "good"}}, []),
        ("levels", "id,fix\n8,3.0\n9,3\n", {"label": {1: "3"}}, []),
        ("drops", "id,fix\n8,drop\n9,<drop>\n", {"label": {1: "drop"}}, [2]),
        ("numbers", "id,fix\n8,1.50\n9,-7e1\n", {"label": {2: "-7e1"}}, []),
        ("several", "id,column,fix\n8,x,0\n8,y,1\n9,y,drop\n", {"x": {1: "0"}, "y": {}}, [2]),
    ],
)
def test_fixes_are_read_as_spreadsheets_leave_them(home, form, content, labels, dropped):
    at = home(form)
    fixes = at.read(content)
    assert fixes.labels == labels and fixes.dropped.tolist() == dropped
    fixed = fixes.apply(at.train)
    given = at.train.copy()
    for name, cells in labels.items():
        for row, to in cells.items():
            given.loc[row, name] = to
    assert fixed.equals(given) and encode_labels(at.task, fixed).shape == at.labels.shape
    assert fixes.kept(np.arange(4)).tolist() == [row for row in range(4) if row not in dropped]
    lines = [f"{id},{column},{fix}" for (id, column), fix in fixes.written(at.train).items()]
    again = at.read("\n".join(["id,column,fix", *lines, ""]))  # as a run writes them
    assert again.labels == labels and again.dropped.tolist() == dropped


@pytest.mark.parametrize(
    ("form", "content", "words"),
    [
        ("classes", "id,fix\n8,good\n80,bad\n", "fixes.csv, data row 2: '80' is no id of train: did you mean 8"),
        ("classes", "id,fix\n8,god\n", "data row 1: 'god' is no class: did you mean good? (bad, good)"),
        ("classes", "id,fix\nt1,good\n", "data row 1: 't1' is a row of test: only labels of train can be fixed"),
        (
            "classes",
            "id,fix\n8,good\n9,bad\n8,bad\n",
            "data row 3: the label of '8' is 'bad' here, and data row 1 says",
        ),
        ("classes", "id,fix\n8,good\n8.0,drop\n", "the id '8' comes twice: data row 2 leaves it out, and data row 1 "),
        ("classes", "id,fix\n8,\n9,  \n", "fixes nothing: write labels, or drop, into its column 'fix'"),
        ("classes", "id,text,label\n8,a,good\n", "has no column 'fix', the new labels; it has id, text, label"),
        ("classes", "row,fix\n8,good\n", "has no column 'id'; it has row, fix"),
        ("numbers", "id,fix\n8,high\n", "data row 1: 'high' is not a number, nor drop"),
        ("several", "id,column,fix\n8,x,2\n", "data row 1: '2' is not 0 or 1, nor drop"),
        ("several", "id,column,fix\n8,z,1\n", "data row 1: column 'z' is no label"),
        ("several", "id,fix\n8,1\n", "has no column 'column', which label is meant (x, y); it has id, fix"),
    ],
)
def test_a_mistake_is_named_with_its_row(home, form, content, words):
    with pytest.raises(ValueError, match="fixes") as error:
        home(form).read(content)
    assert words in str(error.value)


def test_ids_that_are_one_number_are_found_as_they_are_written_alone(home):
    at = home()
    at.train.loc[1, "id"] = "07"
    assert at.read("id,fix\n07,good\n").labels == {"label": {1: "good"}}
    with pytest.raises(ValueError, match="'7' is no id of train"):
        at.read("id,fix\n7,good\n")


LEARNERS = {
    "tfidf": {"backbone": "tfidf"},
    "frozen": {"learner": "frozen", "max_length": 16},
    "finetune": {},
}
FIXED = "id,fix\n007,bad\n8,good\n11,bad\n12,drop\n"  # rows 0 and 1 of fold 0; rows 4 and 5 of fold 0


@pytest.mark.parametrize("name", LEARNERS)
def test_a_fix_in_the_validation_fold_changes_nothing_and_one_in_training_does(home, tmp_path, name):
    at = home()
    assert at.folds["fold"].tolist()[:6] == [0, 0, 1, 1, 0, 0]
    plain, fixed = at.choose(**LEARNERS[name]), at.choose(**LEARNERS[name], fixes=at.fix(FIXED))
    for fold, same in ((0, True), (1, False)):
        ours, theirs = (at.fit(one, fold, tmp_path / str(k)) for k, one in enumerate((plain, fixed)))
        assert (np.array_equal(ours.oof, theirs.oof), np.array_equal(ours.test, theirs.test)) == (same, same)
        assert theirs.receipts["fixes"] == (
            {"corrected": 0, "left out": 0} if same else {"corrected": 3, "left out": 1}
        )
    if fixed.tuner:
        assert fixed.tuner.labels.tolist() == at.labels.tolist()  # what is validated on, and scored
        learned = fixed.tuner.all_labels.values
        assert np.flatnonzero(learned != at.labels).tolist() == [0, 1, 4]
    assert not at.train["label"].ne(read_train(at.task)["label"]).any()


def test_rows_that_are_left_out_are_learned_nowhere_nor_are_labels_of_extra_rows_changed(home, tmp_path):
    at = home()
    more = at.fix("text,label\nfrom elsewhere,bad\nand more of it,good\n", "more.csv")
    choice = at.choose(fixes=at.fix(FIXED), extra=more)
    rows = choice.learned(training_rows(at.folds, 1), np.flatnonzero(at.folds["fold"] == 1))
    assert 5 not in rows and rows.tolist()[-2:] == [24, 25] and len(rows) == 12 - 1 + 2
    assert choice.tuner.all_labels.values[[0, 1, 4, 5, 24, 25]].tolist() == [0, 1, 0, 0, 0, 1]
    seen = []
    choice.learner.fit = lambda rows, *_, **__: seen.append(rows) or type("", (), {"oof": np.empty(0)})
    with pytest.raises(TypeError):  # what is given back is no result
        predict_full(choice, tmp_path / "full")
    assert seen[0].tolist() == [*range(5), *range(6, 26)]


def test_the_score_is_told_against_the_labels_given_and_against_the_fixed_ones(home):
    at = home()
    fixes = at.read(FIXED)
    probs = np.eye(2)[at.labels] * 0.8 + 0.1
    probs[[0, 1]] = probs[[0, 1], ::-1]  # as fixed
    oof = pd.DataFrame({"id": at.train["id"], "fold": at.folds["fold"], "bad": probs[:, 0], "good": probs[:, 1]})
    run = Run("r", None, ["bad", "good"], oof, np.arange(ROWS), {0: None, 1: None}, [])
    scores = score_run(run, at.task, at.labels)
    scores["fixes"] = fixes.score(run, at.task, at.train)
    assert scores["score"] == pytest.approx(22 / 24) and scores["fixes"]["score"] == pytest.approx(22 / 23)
    assert (scores["fixes"]["corrected"], scores["fixes"]["left out"]) == (3, 1)
    assert "labels given: accuracy 0.9167 ± " in describe_fixed("accuracy", scores)
    assert "the fixed ones: 0.9565 ± " in describe_fixed("accuracy", scores)
    assert "3 corrected, 1 rows left out" in describe_fixed("accuracy", scores)
    half = Run("r", None, ["bad", "good"], oof[:2], np.arange(2), {0: None}, [])
    assert fixes.score(half, at.task, at.train)["corrected"] == 2


def test_the_file_is_part_of_what_a_run_was_made_from(home):
    at = home()
    file = at.fix(FIXED)
    choice = at.choose(backbone="tfidf", fixes=file)
    folder = open_run(at.work, "fixed", choice.settings)
    save_fold(folder, 0, at.fit(choice, 0, folder), at.folds["id"][at.folds["fold"] == 0], at.test["id"], at.task)
    assert RunRecord(folder).recipe["fixes"] == file and json.dumps(RunRecord(folder).params["inputs"]["fixes"])
    assert read_run(at.work, "fixed", at.task, at.folds, at.test["id"]).folds == [0]
    assert read_parquet(folder / "fold0" / "oof.parquet")["id"].tolist()[0] == "007"
    at.fix(FIXED + "13,good\n")
    with pytest.raises(ValueError, match="the fixes changed"):
        open_run(at.work, "fixed", choice.settings)
    with pytest.raises(ValueError, match="in the folder of this run, 'base'"):
        at.choose(fixes=str(at.work / "base" / "suspects.csv"))
    with pytest.raises(FileNotFoundError, match=r"fixes: .*no\.csv does not exist"):
        at.choose(fixes=str(at.folder / "no.csv"))


@pytest.mark.parametrize("given", [{"distill": {"teacher": "base"}}, {"soft_targets": ["a"]}, {"backbone": "soup"}])
def test_fixes_that_nothing_would_learn_are_refused(given):
    kinds = (TrainingRun, Recipe)
    values = {one.name: one.default for one in knobs_of(*kinds).values()} | {"fixes": "f.csv"} | given
    assert "fixes" in find_idle(kinds, values)
