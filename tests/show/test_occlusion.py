"""Occlusion: which words moved a prediction, found by leaving them out, and shown without colour alone."""

import re
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import logit

from kagglekit.competition.infer import infer
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import read_folds, read_run, training_rows, write_folds
from kagglekit.show.occlusion import Explained, explain_errors, find_effects, render
from kagglekit.show.texts import row_losses
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe

WORDS = {"good": 0.3, "awful": -0.2, "不错": 0.25, "</b>": 0.0}


def predict(texts):
    return np.array([0.4 + sum(worth for word, worth in WORDS.items() if word in text) for text in texts])


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("A good film, awful end", {"good": 0.3, "awful": -0.2}),
        ("a " * 300 + "good film" + " b" * 80, {"good": 0.3}),
        (f"nothing{SEPARATOR}good & </b>", {"good": 0.3}),
        ("房间不错", {"不错": 0.25}),
        ("😀", {}),
        ("", {}),
    ],
)
def test_words_have_the_effect_that_leaving_them_out_shows(text, effects):
    words, pieces = find_effects(predict, text)
    assert str(words) == text and all(a.stop <= b.start for a, b in pairwise(pieces))
    found = {" ".join(words.words[one.start : one.stop]): one.effect for one in pieces if abs(one.effect) > 1e-9}
    for word, effect in effects.items():
        (known,) = [value for piece, value in found.items() if word in piece.split() or word == piece]
        assert known == pytest.approx(effect)
    assert len(found) == len(effects)


def test_only_words_that_the_model_reads_are_left_out():
    asked = []
    words, pieces = find_effects(
        lambda texts: asked.extend(texts) or predict(texts), "good " * 10 + "awful " * 200, read=10
    )
    assert max(one.stop for one in pieces) == 10 and len(asked) == 11 and len(words) == 210


def test_the_html_is_escaped_and_says_the_effect_in_signs_and_lines_too():
    words, pieces = find_effects(predict, "A <script>good</script> film & an awful end")
    page = render([Explained("7: <i> (0.9)", words, pieces)])
    assert "<script>" not in page and "&lt;i&gt;" in page and "&amp;" in page
    up, down = (re.search(rf"<span style='([^']*)'>{word}</span><sup>(.*?)</sup>", page) for word in ("good", "awful"))
    assert up[2] == "▲0.3" and down[2] == "▼0.2"
    assert "underline dotted" in down[1] and "dotted" not in up[1] and "color: #" not in page  # the page's own ink
    nothing = render([Explained("8", *find_effects(predict, "no words that count " * 20))])
    assert "leaving words out changes little" in nothing and nothing.count("count") == 15


@pytest.fixture
def work(tmp_path, task, tables, backbone):
    """A work folder with a run of two folds, each with its model."""
    folder = tmp_path / "data"
    folder.mkdir()
    train, test = tables(task("multiclass"))
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    test[["id"]].assign(label="bad").to_csv(folder / "sample_submission.csv", index=False)
    known, _ = infer(folder, kind="multiclass", text="text")
    known.save(tmp_path / "work")
    write_folds(tmp_path / "work", train["id"], np.arange(24) % 2)
    folds, recipe = read_folds(tmp_path / "work", train["id"]), Recipe(max_length=16, epochs=2, learning_rate=2e-2)
    tuner = FineTuner(known, train, test, backbone, recipe)
    place = open_run(tmp_path / "work", "base", {"backbone": backbone} | tuner.settings)
    for fold in (0, 1):
        held_out = np.flatnonzero(folds["fold"] == fold)
        made = tuner.fit(training_rows(folds, fold), held_out, place / f"fold{fold}", seed=fold)
        save_fold(place, fold, made, train["id"].iloc[held_out], test["id"], known)
    return known, train, tuner.labels, place, read_run(tmp_path / "work", "base", known, folds, test["id"])


def test_the_worst_rows_are_explained_by_the_model_that_never_saw_them(work):
    task, train, labels, place, run = work
    record = RunRecord(place)
    explained = explain_errors(record, task, train, labels, run, n=4, seconds=100)
    assert len(explained) == 4
    worst = np.argsort(-row_losses(task, labels, run.oof_array), kind="stable")[:4]
    assert [one.heading.split(":")[0] for one in explained] == train["id"].iloc[worst].tolist()
    for one in explained:
        row = train.index[train["id"] == one.heading.split(":")[0]][0]
        saved = SavedModel(record.saved_models[run.oof["fold"].iloc[row]][0], record.recipe)
        full = saved.predict(train.iloc[[row]])
        name = re.search(r": (\w+) \((.*?)\), in truth (\w+)", one.heading)
        assert float(name[2]) == pytest.approx(full.max(), abs=0.006) and name[3] == train["label"].iloc[row]
        piece = max(one.pieces, key=lambda piece: abs(piece.effect))
        words = one.words.words
        less = " ".join(words[: piece.start] + words[piece.stop :])
        without = saved.predict(train.iloc[[row]].assign(text=less))
        column = task.classes.index(name[1])
        if str(one.words) == " ".join(words):
            moved = logit(full[0, column]) - logit(without[0, column])
            assert piece.effect == pytest.approx(moved, abs=1e-4)
    assert explain_errors(record, task, train, labels, run, seconds=0) == explained[:1]
    for fold in (0, 1):
        (place / f"fold{fold}" / "model" / "classifier.json").unlink()
    assert explain_errors(RunRecord(place), task, train, labels, run) == []  # no models, nothing is said
