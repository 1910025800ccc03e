"""Rounds of pseudo labels: what each student learned, by whom, and that no label finds a way around the folds."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kagglekit.files.arrays import SEAL
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import load_tokenizer
from kagglekit.runs.folder import Fitted, open_run, save_fold
from kagglekit.runs.tables import read_folds, read_parquet, write_folds
from kagglekit.scoring.metrics import score
from kagglekit.selftraining import selftrainer
from kagglekit.selftraining.distiller import Distiller
from kagglekit.selftraining.pseudo_labels import make_labels
from kagglekit.selftraining.selftrainer import SelfTrainer
from kagglekit.show.selftraining import read_added, show_added, show_rounds
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from kagglekit.training.training_rows import ExtraRows
from tests.selftraining.students import FOLDS, Counting, Echo, save_teacher

TRAIN, VALID = np.flatnonzero(FOLDS != 1), np.flatnonzero(FOLDS == 1)
KNOBS = {"max_length": 16, "epochs": 1, "batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture
def place(tmp_path, task, tables, backbone, monkeypatch):
    """place(kind, learner, **knobs): a work folder with folds, its task and tables, and a learner of them."""

    def make(kind="multiclass", learner=Echo, **knobs):
        what = task(kind, data=str(tmp_path), files={"train": "train.csv", "test": "test.csv"})
        train, test = tables(what, 24, 12)
        work = tmp_path / "work"
        what.save(work)
        write_folds(work, train["id"], FOLDS)
        if learner is Echo:
            monkeypatch.setattr(selftrainer, "SavedModel", lambda *args: SimpleNamespace(predict=None))
        return work, learner(what, train, test, backbone, Recipe(**{**KNOBS, **knobs}))

    return make


def trainer_of(work, tuner, **options):
    folds = read_folds(work, tuner.train["id"])
    return SelfTrainer(tuner, work, folds, options)


def run(work, tuner, name="student", fold=1, seed=3, **options):
    """What 3_train does with a fold."""
    trainer = trainer_of(work, tuner, **options)
    folder = open_run(work, name, {"backbone": tuner.backbone, "start": ""} | trainer.settings)
    ours, held_out = np.flatnonzero(fold != FOLDS), np.flatnonzero(fold == FOLDS)
    fitted = trainer.fit(ours, held_out, folder / f"fold{fold}", seed)
    save_fold(folder, fold, fitted, tuner.train["id"].iloc[held_out], tuner.test["id"], tuner.task)
    return fitted


def read_test_table(work, fold, name="base"):
    return read_parquet(work / name / f"fold{fold}" / "test.parquet").iloc[:, 1:].to_numpy()


def equal(one, other):
    return np.array_equal(one.oof, other.oof) and np.array_equal(one.test, other.test) and one.history == other.history


def test_a_pseudo_label_is_what_the_teachers_own_fold_says_and_no_other(place):
    work, tuner = place()
    save_teacher(work, tuner)
    for fold in (0, 1, 2):
        run(work, tuner, "student", fold, teacher="base", threshold=0.6, weight="confidence")
    added, ids = read_added(work / "student"), tuner.test["id"].tolist()
    differ = 0
    for fold, rows in added.groupby("fold"):
        says = {k: read_test_table(work, k) for k in (0, 1, 2)}
        chosen = np.flatnonzero(says[fold].max(axis=1) >= 0.6)
        assert rows["id"].tolist() == [ids[row] for row in chosen] and (rows["round"] == 1).all()
        assert rows["label"].tolist() == [tuner.task.classes[k] for k in says[fold][chosen].argmax(axis=1)]
        assert rows["confidence"].tolist() == rows["weight"].tolist() == says[fold][chosen].max(axis=1).tolist()
        differ += sum((says[fold].argmax(axis=1) != says[k].argmax(axis=1))[chosen].sum() for k in says)
    assert differ > 10  # the folds do say other things


@pytest.mark.parametrize("options", [{"weight": 0}, {"threshold": 1.0}, {"weight": 0.0, "order": "first"}])
def test_without_rows_that_count_it_is_plain_training(place, tmp_path, options):
    work, tuner = place(dropout=0.1)
    save_teacher(work, tuner)
    fitted = run(work, tuner, teacher="base", **options)
    assert equal(fitted, tuner.fit(TRAIN, VALID, tmp_path / "plain", 3))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression", "ordinal"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_the_student_learns_from_train_and_what_the_teacher_labelled(place, tmp_path, kind, labels):
    if (kind, labels) == ("ordinal", "soft"):
        return
    work, tuner = place(kind)
    save_teacher(work, tuner)
    threshold = {} if kind in ("regression", "ordinal") else {"threshold": 0.55}
    fitted = run(work, tuner, teacher="base", labels=labels, weight=0.5, **threshold)
    says = read_test_table(work, 1)
    sure = says.max(axis=1) if kind in ("binary", "multiclass") else np.maximum(says, 1 - says).min(axis=1)
    rows = np.flatnonzero(sure >= 0.55) if threshold else np.arange(12)
    made = make_labels(says[rows], kind, 3, labels == "soft")
    extra = ExtraRows(tuner.test.iloc[rows], made, np.full(len(rows), 0.5, np.float32))
    assert len(rows) > 0 and equal(fitted, tuner.fit(TRAIN, VALID, tmp_path / "plain", 3, extra=extra))


def test_first_the_pseudo_rows_and_then_train_alone(place, tmp_path):
    work, tuner = place()
    save_teacher(work, tuner)
    fitted = run(work, tuner, teacher="base", threshold=0.6, order="first")
    says = read_test_table(work, 1)
    rows = np.flatnonzero(says.max(axis=1) >= 0.6)
    extra = ExtraRows(tuner.test.iloc[rows], says[rows].argmax(axis=1), np.ones(len(rows), np.float32))
    tuner.fit(TRAIN[:0], VALID, tmp_path / "pseudo", 3, extra=extra)
    assert equal(fitted, tuner.fit(TRAIN, VALID, tmp_path / "clean", 3, str(tmp_path / "pseudo" / "model")))


@pytest.mark.parametrize("begin", ["start", "teacher"])
def test_the_student_of_a_round_labels_the_next_one(place, tmp_path, begin):
    work, tuner = place()
    fitted = run(work, tuner, rounds=2, threshold=0.0, labels="soft", begin=begin)
    last, start = tuner.fit(TRAIN, VALID, tmp_path / "0", 3), None
    for number in (1, 2):
        if begin == "teacher":
            start = str(tmp_path / str(number - 1) / "model")
        extra = ExtraRows(tuner.test, last.test, np.ones(12, np.float32))
        last = tuner.fit(TRAIN, VALID, tmp_path / str(number), 3, start, extra=extra)
        told = fitted.receipts["pseudo"]["rounds"][number - 1]
        assert told["score"] == score("accuracy", tuner.labels[VALID], last.oof) and told["added"] == 12
    assert equal(fitted, last) and told["score before"] == fitted.receipts["pseudo"]["rounds"][0]["score"]
    added = read_added(work / "student")
    assert added.groupby("round").size().tolist() == [12, 12]
    folder = work / "student" / "fold1"
    assert sorted(path.name for path in folder.iterdir()) == [
        *["history.jsonl", "model", "oof.parquet", "round1", "round2", "teacher", "test.parquet"]
    ]
    assert [path.name for path in sorted(folder.glob("round*/*"))] == ["done", "done"]  # models are not kept twice


@pytest.mark.parametrize(
    "options",
    [
        {"rounds": 2, "threshold": 0.0},
        {"teacher": "base", "threshold": 0.4, "top": 2, "order": "first"},
        {"labels": "ust", "top": 3, "dropout": 0.2, "passes": 3},
    ],
)
def test_labels_of_the_fold_to_predict_do_not_reach_the_student(place, options):
    """Nor does what another fold of the teacher says."""
    work, tuner = place(learner=Counting if options.get("labels") == "ust" else Echo)
    save_teacher(work, tuner)
    right = run(work, tuner, "right", **options)
    save_teacher(work, tuner, folds=(0, 2), seed=9)
    train = tuner.train.copy()
    train.loc[VALID, "label"] = "mixed"
    wrong = replace(tuner, train=train)
    assert (wrong.labels[VALID] != tuner.labels[VALID]).any()
    fitted = run(work, wrong, "wrong", **options)
    assert np.array_equal(right.oof, fitted.oof) and np.array_equal(right.test, fitted.test)
    pd.testing.assert_frame_equal(read_added(work / "right"), read_added(work / "wrong"))


def test_a_teacher_that_knows_every_row_by_heart_does_not_raise_the_score(tmp_path, task, backbone):
    """Each text is one word, of a class drawn at random, and test has the same texts: nothing can be known of a row
    whose label was not learned. A teacher's fold knows all rows but its own. Crossed over, the same run knows all."""
    words = ["a", "the", "good", "bad", "fine", "poor", "film", "plot", "sad", "fun", "no", "yes", "it", "was", "is"]
    words += ["very", "old", "new", "end", "!"]
    random, fold_of = np.random.default_rng(1), np.arange(20) % 2
    labels = np.array(["no", "yes"])[random.permutation(np.arange(20) // 2 % 2)]
    train = pd.DataFrame({"id": [f"r{n}" for n in range(20)], "text": words, "label": labels})
    test = train[["id", "text"]].assign(id=[f"t{n}" for n in range(20)])
    what, work = task("binary", metric="accuracy"), tmp_path / "work"
    what.save(work)
    write_folds(work, train["id"], fold_of)
    recipe = Recipe(max_length=8, epochs=20, batch_size=10, learning_rate=2e-2, layer_decay=1.0, evaluate_every=999)
    tuner, scores = FineTuner(what, train, test, backbone, recipe), {}
    for name in ("honest", "crossed"):
        folder, oof = open_run(work, name, {"backbone": "tfidf", "start": ""}), np.zeros((20, 2), np.float32)
        for fold in (0, 1):
            knows = fold_of == (1 - fold if name == "honest" else fold)
            says = np.where(knows[:, None], np.eye(2)[tuner.labels] * 0.98 + 0.01, 0.5)
            save_fold(folder, fold, Fitted(says[fold_of == fold], says), train["id"][fold_of == fold], test["id"], what)
        trainer = SelfTrainer(tuner, work, read_folds(work, train["id"]), {"teacher": name})
        for fold in (0, 1):
            ours, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            place = work / f"of {name}" / f"fold{fold}"
            oof[held_out] = trainer.fit(ours, held_out, place, seed=0).oof
            added = set(pd.read_parquet(place / "round1" / "done" / "added.parquet")["text"])
            assert added == set(train["text"].iloc[ours if name == "honest" else held_out])
        scores[name] = score("accuracy", tuner.labels, oof)
    assert scores["crossed"] >= 0.95 and scores["honest"] <= 0.7


def test_a_run_stopped_between_rounds_goes_on_as_if_it_had_never_been(place, tmp_path):
    work, tuner = place(learner=Counting, dropout=0.1)
    options = {"rounds": 2, "labels": "ust", "top": 4, "passes": 3, "order": "first", "begin": "teacher"}
    straight = run(work, tuner, "straight", **options)
    for left in (2, 2, 3, 1):  # a teacher alone; its round's pseudo rows; the rest of it and the next ones; the last
        tuner.fits, tuner.stop = [], left
        with pytest.raises(KeyboardInterrupt):
            run(work, tuner, "stopped", **options)
    tuner.stop = 0
    stopped = run(work, tuner, "stopped", **options)
    assert equal(straight, stopped) and straight.receipts == stopped.receipts
    pd.testing.assert_frame_equal(read_added(work / "straight"), read_added(work / "stopped"))
    tuner.fits, tuner.stop = [], 1  # after its end, nothing is trained again
    trainer = trainer_of(work, tuner, **options)
    again = trainer.fit(TRAIN, VALID, work / "stopped" / "fold1", 3)
    assert equal(straight, again) and straight.receipts == again.receipts


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression", "ordinal"])
def test_uncertainty_aware_students_of_every_kind(place, kind):
    work, tuner = place(kind, Counting, dropout=0.2)
    options = {"labels": "ust", "top": 2, "passes": 4, "sample": "hard", "size": 8, "weight": 2.0}
    fitted = run(work, tuner, **options)
    added = read_added(work / "student")
    (told,) = fitted.receipts["pseudo"]["rounds"]
    assert told["pool"] == 8 and 2 <= len(added) == told["added"] <= 8
    assert added["weight"].mean() == pytest.approx(2) and (added["weight"] >= 0).all() and added["weight"].std() > 0
    names = {"multilabel": ["x", "y", "(none)"], "multiclass": ["bad", "mixed", "good"]}.get(kind, ["all"])
    assert list(told["classes"]) == names and max(told["classes"].values()) >= 2
    assert ("estimated error" in told) == (kind == "regression")


def test_receipts_say_what_was_added_how_good_it_is_and_what_it_did(place):
    work, tuner = place()
    save_teacher(work, tuner)
    fitted = run(work, tuner, teacher="base", threshold=0.6)
    (told,) = fitted.receipts["pseudo"]["rounds"]
    says = read_test_table(work, 1)
    chosen = says[says.max(axis=1) >= 0.6]
    oof = read_parquet(work / "base" / "fold1" / "oof.parquet").iloc[:, 2:].to_numpy()
    sure, truth = oof.max(axis=1) >= 0.6, tuner.labels[VALID]
    assert told["pool"] == 12 and told["added"] == len(chosen) == sum(told["classes"].values())
    assert told["mean confidence"] == pytest.approx(chosen.max(axis=1).mean()) and told["mean weight"] == 1
    assert told["estimated precision"] == pytest.approx((oof.argmax(axis=1) == truth)[sure].mean())
    assert told["from rows"] == sure.sum() > 0
    assert told["agreement"] == pytest.approx((says.argmax(axis=1) == fitted.test.argmax(axis=1)).mean())
    assert told["score before"] == score("accuracy", truth, oof)
    assert told["score"] == score("accuracy", truth, fitted.oof)
    table = show_rounds(work / "student")
    assert table.index.tolist() == [(1, 1)] and table.loc[(1, 1), "added"] == len(chosen) and "added mixed" in table


def test_the_last_round_is_shown_by_its_surest_and_its_least_sure_rows(place):
    work, tuner = place()
    for fold in (0, 1):
        run(work, tuner, fold=fold, rounds=2, threshold=0.0)
    added, shown = read_added(work / "student"), show_added(work / "student", 2)
    assert added.groupby(["fold", "round"]).size().tolist() == [12] * 4 and (shown["round"] == 2).all()
    for fold, rows in shown.groupby("fold"):
        sure = added.loc[(added["fold"] == fold) & (added["round"] == 2), "confidence"].sort_values().tolist()
        assert rows["confidence"].tolist() == [*sure[:2], *sure[-2:]]
    assert show_rounds(work / "student").index.tolist() == [(0, 1), (0, 2), (1, 1), (1, 2)]
    save_teacher(work, tuner)
    assert show_rounds(work / "base").empty and show_added(work / "base").empty


def test_texts_of_other_files_are_labelled_by_the_model_of_the_fold(place, tmp_path):
    work, tuner = place(learner=Counting)
    new = ["good film", "bad  plot", "it was fun", "very old !"]
    known = [tuner.train["text"][1], tuner.train["text"][2].upper(), "bad plot", " "]
    for name, texts in (("one", new[:2] + known), ("two", new[1:])):
        pd.DataFrame({"text": texts}).to_csv(tmp_path / f"{name}.csv", index=False)
    files = [str(tmp_path / f"{name}.csv") for name in ("one", "two")]
    run(work, tuner, unlabelled=files, test=False, threshold=0.0, labels="soft")
    added = read_added(work / "student")
    assert added["text"].tolist() == new and added["source"].tolist() == ["one.csv"] * 2 + ["two.csv"] * 2
    plain = tuner.fit(TRAIN, VALID, tmp_path / "plain", 3)
    model = replace(tuner, test=added[["id", "text"]])
    says = model.fit(TRAIN, VALID, tmp_path / "again", 3)
    assert np.array_equal(plain.oof, says.oof)
    assert np.allclose(added[["label bad", "label mixed", "label good"]], says.test, atol=1e-5)
    (tmp_path / "one.csv").write_text("body\nx\n")
    with pytest.raises(ValueError, match=r"one.csv has no column 'text', the text: it has body"):
        trainer_of(work, tuner, unlabelled=files)
    pd.DataFrame({"text": [known[0], tuner.test["text"][0]]}).to_csv(tmp_path / "one.csv", index=False)
    assert len(trainer_of(work, tuner, unlabelled=files[:1]).labelling.pool) == len(tuner.test)
    pd.DataFrame({"text": known[:1]}).to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(ValueError, match=r"no text in .*one.csv is new"):
        trainer_of(work, tuner, unlabelled=files[:1], test=False)


def test_a_trained_run_labels_files_and_draws_by_its_own_models(place, tmp_path):
    work, tuner = place(learner=Counting, dropout=0.2)
    first = trainer_of(work, tuner, weight=0)
    run(work, tuner, "base", weight=0)  # a run of fold 1
    pd.DataFrame({"text": ["good film", "bad plot"]}).to_csv(tmp_path / "one.csv", index=False)
    more = {"teacher": "base", "unlabelled": [str(tmp_path / "one.csv")]}
    run(work, tuner, "student", threshold=0.0, begin="teacher", **more)
    assert len(read_added(work / "student")) == 14 and first.settings["pseudo"]["weight"] == 0
    run(work, tuner, "drawn", labels="ust", top=3, passes=3, **more)
    assert 3 <= len(read_added(work / "drawn")) <= 9
    with pytest.raises(ValueError, match="to predict rows of other folds than 1, which its teacher has seen"):
        trainer_of(work, tuner, **more).fit(TRAIN, TRAIN[:3], work / "wrong" / "fold1", 0)
    with pytest.raises(ValueError, match="teacher='base' has no fold 2, only 1: train that fold first"):
        trainer_of(work, tuner, **more).fit(TRAIN, FOLDS.nonzero()[0][1::2], work / "wrong" / "fold2", 0)


@pytest.mark.parametrize(
    ("knobs", "options", "words"),
    [
        ({}, {"labels": "ust", "top": 5}, "trained with dropout=0: set dropout=0.1, or pseudo="),
        ({"reinit_layers": 1}, {"order": "first"}, "reinit_layers=1 would throw away what the model before"),
        ({"reinit_layers": 1}, {"begin": "teacher"}, "reinit_layers=1 would throw away"),
        ({}, {"teacher": "base", "begin": "teacher"}, "teacher='base' has kept no model"),
        ({"dropout": 0.1}, {"teacher": "base", "labels": "ust", "top": 5}, "teacher='base' has kept no model"),
        ({}, {"teacher": "gone"}, "run='gone' does not exist"),
        ({}, {"teacher": "base", "unlabelled": ["gone.csv"]}, "gone.csv does not exist"),
    ],
)
def test_what_cannot_work_is_an_error_before_anything_is_trained(place, knobs, options, words):
    work, tuner = place(**knobs)
    save_teacher(work, tuner)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        trainer_of(work, tuner, **options)


def test_a_student_may_be_distilled_too(place):
    work, tuner = place(learner=Counting)
    tables = (work, read_folds(work, tuner.train["id"]))
    distiller = Distiller(tuner, *tables, {"by": "fold", "weight": 0.3})
    trainer = SelfTrainer(distiller, *tables, {"threshold": 0.0})
    fitted = trainer.fit(TRAIN, VALID, work / "student" / "fold1", 3)
    assert trainer.settings["distill"]["weight"] == 0.3 and trainer.settings["pseudo"]["threshold"] == 0
    assert fitted.receipts["Distillation"]["steps"] > 0 and fitted.receipts["pseudo"]["rounds"][0]["added"] == 12


def test_a_copy_of_a_row_of_train_is_known_as_the_model_reads_it(place, tmp_path):
    work, tuner = place(clean=["drop_urls"])
    copy = f"{tuner.train['text'][1]} https://a.b/c"
    pd.DataFrame({"text": [copy, "a new film https://a.b/c"]}).to_csv(tmp_path / "one.csv", index=False)
    trainer = trainer_of(work, tuner, unlabelled=[str(tmp_path / "one.csv")], test=False)
    assert trainer.labelling.pool["text"].tolist() == ["a new film https://a.b/c"]


def test_vectors_of_held_out_rows_are_those_of_train_where_test_has_the_same_ids(place, tmp_path):
    """Passes with dropout ask about both; without dropout in them they are the predictions of the fold."""
    work, tuner = place(learner=Counting, dropout=0.1)
    test = tuner.test.assign(id=tuner.train["id"][:12])
    for name, table, sign in (("train", tuner.train, 1.0), ("test", test, -1.0)):
        numbers = sign * np.random.default_rng(0).normal(size=(len(table), 3))
        columns = {f"v{k}": numbers[:, k] for k in range(3)}
        pd.DataFrame({"id": table["id"], **columns}).to_parquet(tmp_path / f"{name}.parquet", index=False)
    files = {"vectors": str(tmp_path / "train.parquet"), "test_vectors": str(tmp_path / "test.parquet")}
    recipe = replace(tuner.recipe, features=files)
    tuner = replace(tuner, test=test, recipe=recipe)
    fitted = run(work, tuner, labels="ust", top=2, passes=2, dropout=1e-9)
    (told,) = fitted.receipts["pseudo"]["rounds"]
    plain = tuner.fit(TRAIN, VALID, tmp_path / "plain", 3)
    assert told["score before"] == score("accuracy", tuner.labels[VALID], plain.oof)


@pytest.mark.parametrize("options", [{"begin": "teacher"}, {"order": "first"}])
def test_pairs_of_folds_do_not_begin_where_a_teacher_of_one_fold_ends(place, options):
    work, tuner = place()
    run(work, Counting(tuner.task, tuner.train, tuner.test, tuner.backbone, tuner.recipe), "base", weight=0)
    tables = (work, read_folds(work, tuner.train["id"]))
    nested = Distiller(replace(tuner), *tables, {"by": "nested"})
    with pytest.raises(ValueError, match="teacher='base' with begin='teacher' or order='first' gives students a start"):
        SelfTrainer(nested, *tables, {"teacher": "base", **options})
    place = open_run(work, "own", {"backbone": tuner.backbone, "start": ""}) / "fold1"
    fitted = SelfTrainer(nested, *tables, {"threshold": 0.0, **options}).fit(TRAIN, VALID, place, 3)
    assert fitted.receipts["pseudo"]["rounds"][0]["added"] == 12  # its first model has made the pairs


def test_a_teacher_of_other_tokens_is_no_beginning(place):
    work, tuner = place(learner=Counting)
    run(work, tuner, "base", weight=0)
    model = work / "base" / "fold1" / "model"
    more = load_tokenizer(str(model))
    more.add_tokens(["<new>"])
    more.save_pretrained(model)
    (model / SEAL).unlink()
    with pytest.raises(ValueError, match="the weights of 'base', which reads other tokens: set start='', as it had"):
        trainer_of(work, tuner, teacher="base", begin="teacher")


def test_pseudo_labels_need_a_backbone_to_learn_them(place):
    work, tuner = place()
    baseline = Baseline(tuner.task, tuner.train, tuner.test)
    with pytest.raises(ValueError, match="learned by a fine-tuned backbone, and Baseline is none"):
        SelfTrainer(baseline, work, read_folds(work, tuner.train["id"]), {})
