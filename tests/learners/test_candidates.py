"""Candidates: classes that a group never has in training rows get no probability, in every learner, and none leaks."""

import numpy as np
import pandas as pd
import pytest
import torch

from kagglekit.data.features import Candidates, keep_allowed
from kagglekit.learners.candidates import KnownClasses, describe_candidates
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.heads import mask_classes
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe
from kagglekit.training.training_rows import ExtraRows, gather_rows

TRAIN, VALID = np.arange(40), np.arange(40, 60)


@pytest.fixture
def rows(task, texts):
    """A task of three classes, and train and test in which group a has bad and mixed, b mixed and good; c is of the
    last rows alone, and so is the only good row of a."""
    what, (words, _) = task("multiclass"), texts(66)
    groups = np.array(["a", "b"])[np.arange(60) % 2]
    label = np.where(groups == "a", np.array(["bad", "mixed"])[np.arange(60) // 2 % 2], "good")
    label[1::4] = "mixed"
    groups[54:], label[52] = "c", "good"
    train = pd.DataFrame({"id": np.arange(60).astype(str), "text": words[:60], "question": groups, "label": label})
    test = pd.DataFrame({"id": [f"t{n}" for n in range(6)], "text": words[60:], "question": [*"aabb", "c", " a"]})
    return what, train, test


def check(oof, test):
    """No probability where a group has no such class in the training rows; all sums are 1; c is as it was."""
    assert np.allclose(oof.sum(axis=1), 1, atol=1e-5) and np.allclose(test.sum(axis=1), 1, atol=1e-5)
    assert (oof[:14:2, 2] == 0).all() and (oof[1:14:2, 0] == 0).all() and (oof[14:] > 0).all()
    assert (test[[0, 1, 5], 2] == 0).all() and (test[[2, 3], 0] == 0).all() and (test[4] > 0).all()


@pytest.mark.parametrize("loss", [False, True])
def test_a_fine_tuned_model_keeps_what_it_has_learned_of_groups(rows, backbone, tmp_path, loss):
    what, train, test = rows
    knobs = {"max_length": 24, "epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
    bare, fine = (
        FineTuner(what, train, test, backbone, Recipe(**knobs, **more))
        for more in ({}, {"candidates": "question", "candidates_loss": loss})
    )
    bare.precision = fine.precision = "fp32"
    plain = bare.fit(TRAIN, VALID, tmp_path / "plain", 0)
    fitted = fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    check(fitted.oof, fitted.test)
    if not loss:  # prediction alone: the same model, and the same probabilities within the candidates
        allowed = Candidates.fit(train.iloc[TRAIN], "question", fine.labels[TRAIN], 3).allowed(train.iloc[VALID])
        assert np.allclose(fitted.oof, keep_allowed(plain.oof, allowed), atol=1e-5)
        assert np.array_equal(plain.oof[14:], fitted.oof[14:])
    else:
        assert not np.allclose(plain.oof[14:], fitted.oof[14:], atol=1e-4)
    saved = SavedModel(tmp_path / "fold0" / "model", fine.settings, precision="fp32")
    assert np.allclose(saved.predict(test), fitted.test, atol=1e-5)


def test_labels_of_a_teacher_without_candidates_are_learned_within_those_of_the_group(rows, backbone):
    what, train, test = rows
    recipe = Recipe(max_length=24, candidates="question", candidates_loss=True)
    fine = FineTuner(what, train, test, backbone, recipe)
    labels = np.array([[0.5, 0.3, 0.2], [0, 0, 1], [0, 0.25, 0.75], [0.2, 0.2, 0.6]], np.float32)  # of a, a, b, c
    extra = ExtraRows(test.iloc[[0, 1, 2, 4]], labels, np.ones(4, np.float32))
    teacher = np.tile(np.float32([0.2, 0.4, 0.4]), (60, 1))
    given = TRAIN, fine.rows, fine.all_labels, recipe, fine.tokenizer
    found = gather_rows(*given, extra=extra, teacher=teacher)
    soft, allowed, taught = (found.examples.arrays[name] for name in ("labels", "candidates", "teacher"))
    assert np.allclose(soft[-4:], [[0.625, 0.375, 0], [0, 0, 1], [0, 0.25, 0.75], [0.2, 0.2, 0.6]])
    assert allowed[-4:].tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 1, 1]]
    assert np.allclose(taught[:2], [[1 / 3, 2 / 3, 0], [0, 0.5, 0.5]]) and np.allclose(taught.sum(axis=1), 1)
    plain = gather_rows(*given).examples.arrays
    assert np.array_equal(plain["labels"], fine.labels[TRAIN]) and np.array_equal(plain["candidates"], allowed[:40])


def test_a_learner_of_tables_does_the_same(rows, tmp_path):
    what, train, test = rows
    plain = Baseline(what, train, test).fit(TRAIN, VALID, tmp_path, 0)
    fitted = KnownClasses(what, train, test, "question", Baseline(what, train, test)).fit(
        TRAIN, VALID, tmp_path, seed=0
    )
    check(fitted.oof, fitted.test)
    assert np.array_equal(fitted.oof[14:], plain.oof[14:].astype(fitted.oof.dtype))


def test_labels_of_held_out_rows_say_nothing(rows, tmp_path):
    what, train, test = rows
    other = train.assign(label=[*train["label"][:40], *["bad"] * 20])
    results = [
        KnownClasses(what, table, test, "question", Baseline(what, table, test)).fit(TRAIN, VALID, tmp_path, seed=0)
        for table in (train, other)
    ]
    assert np.array_equal(results[0].oof, results[1].oof) and np.array_equal(results[0].test, results[1].test)
    assert results[0].oof[12, 2] == 0  # row 52, whose own label its group never has in training


def test_probabilities_and_logits_are_masked_alike():
    random = np.random.default_rng(0)
    logits, allowed = random.normal(0, 3, (5, 4)).astype(np.float32), (random.random((5, 4)) < 0.6).astype(np.float32)
    allowed[:, 0], given = 1, torch.from_numpy(logits)
    probs = keep_allowed(given.softmax(dim=1).numpy(), allowed)
    masked = mask_classes(given, torch.from_numpy(allowed))
    assert np.allclose(masked.softmax(dim=1).numpy(), probs, atol=1e-6) and (probs[allowed == 0] == 0).all()
    more = torch.cat([given, given[:, :2]], dim=1)  # with an auxiliary target behind
    assert torch.equal(mask_classes(more, torch.from_numpy(allowed))[:, 4:], given[:, :2])
    assert torch.isfinite(mask_classes(given, torch.from_numpy(allowed), 20.0)).all()
    nothing = keep_allowed(np.array([[1.0, 0, 0]]), np.array([[0, 1, 1.0]]))
    assert nothing.tolist() == [[0, 0.5, 0.5]]


def test_a_row_without_a_group_can_have_every_class():
    table = pd.DataFrame({"q": ["a", "", " ", "a"]})
    known = Candidates.fit(table, "q", np.array([0, 1, 1, 2]), 3)
    assert known.allowed(table).tolist() == [[1, 0, 1], [1, 1, 1], [1, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    ("kind", "knobs", "words"),
    [
        ("regression", {}, "candidates are of one label with classes, learned by a softmax; the task is regression"),
        ("multilabel", {}, "the task is multilabel"),
        ("multiclass", {"swap": ["a", "b"]}, "candidates='q' has no effect with swap"),
    ],
)
def test_what_has_no_classes_of_groups_is_told(task, kind, knobs, words):
    with pytest.raises(ValueError, match=words):
        Recipe(candidates="q", **knobs).check_task(task(kind))
    with pytest.raises(ValueError, match="candidates='q' is the group of the folds"):
        Recipe(candidates="q").check_task(task("multiclass", group="q"))


def test_a_column_with_such_groups_is_told_and_one_of_chance_is_not():
    random = np.random.default_rng(0)
    question = random.integers(0, 10, 600)
    labels = (question * 2 + random.integers(0, 3, 600)) % 12
    columns = {"question": question.astype(str), "noise": random.integers(0, 10, 600).astype(str)}
    columns |= {"own": np.arange(600).astype(str), "pairs": (np.arange(600) // 4).astype(str)}
    said = describe_candidates(columns, labels, [str(n) for n in range(12)])
    assert said.startswith("Groups with few classes: question (3.0 of 12 classes in a group); candidates=question")
    assert describe_candidates(columns, labels % 2, ["0", "1"]) == ""
    turns = np.arange(600) % 4  # the rows of a file go round the questions
    labels = turns * 3 + random.integers(0, 3, 600)
    said = describe_candidates({"turn": turns.astype(str)}, labels, [str(n) for n in range(12)])
    assert "turn (3.0 of 12 classes in a group)" in said
