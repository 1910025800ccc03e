"""Ancestors of runs, read from their records; and the warnings where a score is too good."""

import re

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import read_json, write_json
from kagglekit.runs.initial_weights import find_starts, make_backbone
from kagglekit.runs.leaks import score_warning, selection_warning, table_metadata
from kagglekit.runs.record import RunRecord, with_ancestors
from kagglekit.runs.tables import write_folds
from kagglekit.scoring.metrics import score
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe


@pytest.fixture
def made(tmp_path):
    """made(name, recipe, work, members): the records of a run, or of a blend."""

    def make(name, recipe=None, work="work", fingerprint="ours", members=()):
        folder = tmp_path / work / name
        write_json(folder.parent / "task.json", {"fingerprint": fingerprint})
        if members:
            write_json(folder / "weights.json", {"members": list(members)})
        else:
            write_json(folder / "params.json", {"recipe": recipe or {}, "inputs": {"folds": "0"}})
        return RunRecord(folder)

    return make


def test_the_ancestors_of_a_run_are_all_that_its_records_name_and_what_these_name(made, tmp_path):
    for name in ("start", "other", "soup", "scorer", "teacher", "tutor", "base"):
        made(name, {"start": "last"} if name == "base" else {})
    made("blend", members=["soup", "teacher"])
    model = tmp_path / "work" / "base" / "fold0" / "model"
    model.mkdir(parents=True)
    recipe = {"start": "start + other", "soup_of": ["soup"], "scorer": "scorer", "backbone": str(model)}
    last = made("last", recipe | {"pseudo": {"teacher": "blend"}, "distill": {"teacher": "tutor"}})
    names = [run.name for run in with_ancestors([last])]  # base started from last: a circle ends
    assert names == ["last", "start", "other", "soup", "scorer", "blend", "tutor", "base", "teacher"]
    assert [run.name for run in with_ancestors([RunRecord(tmp_path / "work" / "gone")])] == []
    assert RunRecord.around(model).folder == tmp_path / "work" / "base" and RunRecord.around(tmp_path) is None


def test_each_record_is_read_once(made, monkeypatch):
    for name in ("a", "b", "c", "d"):
        made(name, {"keep_best": name == "a"})
    made("left", members=["a", "b"]), made("right", members=["a", "c", "d"])
    both, read = made("both", members=["left", "right", "a"]), []
    monkeypatch.setattr("kagglekit.runs.record.read_json", lambda path: read.append(path) or read_json(path))
    assert score_warning(both) and table_metadata(both, 0)["chosen"] == ["a"]
    assert len(read) == len(set(read)) == 8  # a, b, c, d, left, right, both and task.json


CHOSEN = "weights were chosen by their scores on the fold"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"keep_best": True}, "^The weights of the models were chosen by .*the score that is called cross_fitted$"),
        (
            {"tricks": {"CheckpointSoup": {}}},
            "^The weights of the models were .* without keep_best and CheckpointSoup$",
        ),
        ({"start": "best"}, f"^The run is made from 'best', whose {CHOSEN}"),
        ({"start": "plain+best"}, f"^The run is made from 'best', whose {CHOSEN}"),
        ({"pseudo": {"teacher": "blend"}}, f"^The run is made from 'best', whose {CHOSEN}"),
        ({"distill": {"teacher": "best"}, "tricks": {}}, f"^The run is made from 'best', whose {CHOSEN}"),
        ({"soup_of": ["plain", "best"]}, f"^The run is made from 'best', whose {CHOSEN}"),
        ({"scorer": "best"}, f"^The run is made from 'best', whose {CHOSEN}"),
        ({"start": "soup+best"}, "^The run is made from 'soup', 'best', whose"),
        ({}, "^$"),
        ({"start": "plain", "pseudo": {"teacher": ""}}, "^$"),
        ({"start": "FAR"}, "^$"),
    ],
)
def test_a_warning_where_weights_are_chosen_by_scores_on_the_fold_here_or_in_an_ancestor(made, recipe, words):
    made("plain", {"keep_best": False, "tricks": {"EMA": {}}}), made("best", {"keep_best": True})
    work, _ = made("soup", {"tricks": {"CheckpointSoup": {}}}).work, made("blend", members=["plain", "best"])
    far = made("far", {"keep_best": True}, "elsewhere", "theirs")
    recipe = recipe | ({"start": str(far.folder)} if recipe.get("start") == "FAR" else {})
    assert re.search(words, selection_warning(work, recipe))


def test_the_model_of_a_fold_knows_the_labels_of_the_others_and_so_it_is_refused_as_backbone(task, backbone, tmp_path):
    """Each text is one word, of a class drawn at random: nothing can be known of a row whose label was not learned."""
    words = ["a", "the", "good", "bad", "fine", "poor", "film", "plot", "sad", "fun", "no", "yes", "it", "was", "is"]
    words += ["very", "old", "new", "end", "!"]
    labels = np.array(["no", "yes"])[np.random.default_rng(1).permutation(np.arange(20) // 2 % 2)]
    train = pd.DataFrame({"id": [f"r{n}" for n in range(20)], "text": words, "label": labels})
    what, work, fold_of = task("binary", metric="accuracy"), tmp_path / "work", np.arange(20) % 2
    what.save(work)
    write_folds(work, train["id"], fold_of)
    folds, scores = [np.flatnonzero(fold_of == fold) for fold in (0, 1)], {}

    def fit(path, train_rows, valid_rows, folder, **knobs):
        recipe = Recipe(max_length=8, batch_size=10, evaluate_every=999, **knobs)
        tuner = FineTuner(what, train, train[["id", "text"]], path, recipe)
        return score("accuracy", tuner.labels[valid_rows], tuner.fit(train_rows, valid_rows, folder, 0).oof)

    base = work / "base"
    write_json(base / "params.json", {"recipe": {"backbone": backbone}, "inputs": {"folds": "0"}})
    fit(backbone, folds[1], folds[0], base / "fold0", epochs=20, learning_rate=2e-2, layer_decay=1.0)
    model = make_backbone({str(base / "fold0" / "model"): 1.0}, base / "fold0")
    for path in (backbone, model):
        scores[path] = fit(path, *folds, tmp_path / "next", epochs=6, learning_rate=3e-3, layer_decay=0.5)
    assert scores[model] >= 0.9 and scores[backbone] <= 0.7
    with pytest.raises(ValueError, match=r"was trained in .*base, a run of this data: it has seen labels of rows that"):
        find_starts(work, "", model, [0, 1])


def test_a_blend_is_warned_of_members_whose_scores_are_too_good(made):
    made("plain"), made("best", {"keep_best": True}), made("crossed", {"crosses": True})
    assert score_warning(made("honest", members=["plain"])) == ""
    warning = score_warning(made("blend", members=["plain", "best", "crossed"]))
    assert "'blend' is too good: crossed learned" in warning and "weights of best were chosen" in warning


def test_no_warning_of_a_member_whose_epochs_were_chosen_by_other_folds(made):
    def blend(members, honest=()):
        folder = made("blend", members=members).folder
        write_json(folder / "weights.json", {"members": members, "cross_fitted": honest})
        return RunRecord(folder)

    made("plain"), made("best", {"keep_best": True}), made("student", {"distill": {"teacher": "best"}})
    assert "weights of best were chosen" in score_warning(blend(["best", "plain"]))
    honest = blend(["best", "plain"], ["best"])
    assert score_warning(honest) == "" and table_metadata(honest, 0)["chosen"] == []
    assert "weights of best were chosen" in score_warning(made("outer", members=["blend", "best"]))
    assert "weights of best were chosen" in score_warning(blend(["best", "student"], ["best"]))  # through the student
