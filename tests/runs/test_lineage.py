"""What runs grew from, read from their records; and the caution where weights were chosen by the fold's own score."""

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import write_json
from kagglekit.runs.lineage import refuse_leak, score_warning, selection_warning, table_metadata
from kagglekit.runs.record import RunRecord, with_ancestors
from kagglekit.runs.starts import find_starts, make_backbone
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


def test_a_run_grows_from_all_that_its_records_name_and_from_what_these_name(made, tmp_path):
    for name in ("start", "other", "soup", "scorer", "teacher", "tutor", "base"):
        made(name, {"start": "last"} if name == "base" else {})
    made("blend", members=["soup", "teacher"])
    model = tmp_path / "work" / "base" / "fold0" / "model"
    model.mkdir(parents=True)
    recipe = {"start": "start + other", "soup_of": ["soup"], "scorer": "scorer", "backbone": str(model)}
    last = made("last", recipe | {"pseudo": {"teacher": "blend"}, "distill": {"teacher": "tutor"}})
    names = [run.name for run in with_ancestors([last])]  # base began from last: a circle ends
    assert names == ["last", "start", "other", "soup", "scorer", "blend", "tutor", "base", "teacher"]
    assert [run.name for run in with_ancestors([RunRecord(tmp_path / "work" / "gone")])] == []
    assert RunRecord.around(model).folder == tmp_path / "work" / "base" and RunRecord.around(tmp_path) is None


def test_weights_chosen_by_scores_on_the_fold_are_told_of_whatever_way_they_come(made, tmp_path):
    work = tmp_path / "work"
    made("plain", {"keep_best": False, "tricks": {"EMA": {}}})
    made("best", {"keep_best": True})
    made("soup", {"tricks": {"CheckpointSoup": {}}})
    made("blend", members=["plain", "best"])
    made("far", {"keep_best": True}, "elsewhere", "theirs")
    assert selection_warning(work, {"keep_best": True}).startswith(
        "The weights of the models were chosen by their scores on"
    )
    for recipe in (
        {"start": "best"},
        {"start": "plain+best"},
        {"pseudo": {"teacher": "blend"}},
        {"distill": {"teacher": "best"}, "tricks": {}},
        {"soup_of": ["plain", "best"]},
        {"scorer": "best"},
    ):
        assert selection_warning(work, recipe).startswith(
            "The run is made from 'best', whose weights were chosen by their scores on "
        )
    assert selection_warning(work, {"start": "soup+best"}).startswith("The run is made from 'soup', 'best', whose")
    for recipe in ({}, {"start": "plain", "pseudo": {"teacher": ""}}, {"start": str(tmp_path / "elsewhere" / "far")}):
        assert selection_warning(work, recipe) == ""


def test_a_run_that_crossed_folds_is_named_with_the_way(made):
    run = made("crossed", {"crosses": True})
    with pytest.raises(ValueError, match="start='x' leaks: it learned from out-of-fold predictions"):
        refuse_leak(run, "start", "x")
    with pytest.raises(ValueError, match="start='x' is made from 'crossed', which leaks"):
        refuse_leak(made("on", {"start": "crossed"}), "start", "x")
    far = made("far", {"crosses": True}, "elsewhere", "theirs")
    refuse_leak(made("apart", {"start": str(far.folder)}), "start", "x")  # its folds hold other rows


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


def test_a_blend_tells_of_members_whose_scores_are_too_good(made):
    made("plain"), made("best", {"keep_best": True}), made("crossed", {"crosses": True})
    assert score_warning(made("honest", members=["plain"])) == ""
    told = score_warning(made("blend", members=["plain", "best", "crossed"]))
    assert "'blend' is too good: crossed learned" in told and "weights of best were chosen" in told


def test_a_member_that_a_blend_took_as_other_folds_choose_is_no_caution(made):
    made("plain"), made("best", {"keep_best": True}), made("student", {"distill": {"teacher": "best"}})
    blend = made("blend", members=["best", "plain"])
    assert "weights of best were chosen" in score_warning(RunRecord(blend.folder))
    write_json(blend.folder / "weights.json", {"members": ["best", "plain"], "cross_fitted": ["best"]})
    assert score_warning(RunRecord(blend.folder)) == "" and table_metadata(RunRecord(blend.folder), 0)["chosen"] == []
    assert "weights of best were chosen" in score_warning(made("outer", members=["blend", "best"]))
    write_json(blend.folder / "weights.json", {"members": ["best", "student"], "cross_fitted": ["best"]})
    assert "weights of best were chosen" in score_warning(RunRecord(blend.folder))  # by way of the student


def test_of_keep_best_the_caution_names_the_honest_score():
    told = [selection_warning("", {"keep_best": True}), selection_warning("", {"tricks": {"CheckpointSoup": {}}})]
    assert "the score that is called cross_fitted" in told[0] and "cross_fitted" not in told[1]
