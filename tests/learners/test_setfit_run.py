import sys

import numpy as np
import pytest

from kagglekit.data.tokens import tokenize
from kagglekit.learners.setfit import SetFit
from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.model.shallow import embed, fit_shallow
from kagglekit.scoring.metrics import score

ROWS = np.arange(40), np.arange(40, 60)


@pytest.fixture
def setfit(task, tables, backbone):
    """setfit(kind, **options): the learner on 60 rows, of which the library trains a tiny encoder."""
    pytest.importorskip("setfit")

    def make(kind="binary", **options):
        what = task(kind)
        options = {"num_iterations": 4, "learning_rate": 3e-3, "max_length": 30, **options}
        return SetFit(what, *tables(what, 60), backbone, **options)

    return make


def test_pairs_bring_texts_of_a_class_together_and_the_encoder_is_kept(setfit, tmp_path, backbone, capfd):
    learner = setfit(num_iterations=6)
    found = learner.fit(*ROWS, tmp_path / "fold0", seed=0)
    assert found.oof.shape == (20, 2) and found.test.shape == (7, 2)
    assert score("roc_auc", learner.labels[40:], found.oof) > 0.75
    assert {k: found.receipts["setfit"][k] for k in ("pairs", "steps")} == {"pairs": 480, "steps": 30}
    assert [path.name for path in (tmp_path / "fold0").iterdir()] == ["model"]
    model = str(tmp_path / "fold0" / "model")
    tokens = tokenize(learner.train["text"].iloc[:40], load_tokenizer(model), 30)
    before, after = (gap(embed(load_backbone(path), tokens, 0), learner.labels[:40]) for path in (backbone, model))
    assert after > before + 0.3
    assert "loss" not in capfd.readouterr().out


def gap(vectors, labels):
    """How much larger the cosines of texts of one class are than those of others."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines, same = unit @ unit.T, labels[:, None] == labels
    return cosines[same].mean() - cosines[~same].mean()


def test_without_pairs_it_is_a_classifier_on_the_vectors_as_they_are(setfit, tmp_path):
    learner = setfit(num_iterations=0)
    found = learner.fit(*ROWS, tmp_path / "fold0", seed=0)
    vectors = embed(
        load_backbone(learner.backbone), tokenize(learner.train["text"], load_tokenizer(learner.backbone), 30), 0
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    (expected,) = fit_shallow("binary", 2, vectors[:40], learner.labels[:40], [vectors[40:]])
    assert np.allclose(found.oof, expected, atol=0.03)  # of vectors in bfloat16, where the CPU has it
    assert found.receipts == {"setfit": {"pairs": 0, "steps": 0}}


@pytest.mark.parametrize("kind", ["multilabel", "ordinal"])
def test_several_labels_and_ordered_classes_work_from_the_encoder_of_a_trained_model(
    kind, setfit, classifier, tokenizer, tmp_path
):
    classifier().save(tmp_path / "start", tokenizer)
    learner = setfit(kind, steps=2)
    before = learner.labels.copy()
    found = learner.fit(*ROWS, tmp_path / "fold0", seed=1, start=str(tmp_path / "start"))
    assert found.oof.shape == (20, len(learner.task.columns)) and np.isfinite(found.test).all()
    assert found.receipts["setfit"]["steps"] == 2
    learner.labels[40:] = 1 - before[40:]  # the held-out labels are not looked at
    again = learner.fit(*ROWS, tmp_path / "again", seed=1, start=str(tmp_path / "start"))
    assert np.array_equal(found.oof, again.oof)


def test_values_are_refused_and_so_are_knobs_out_of_range(task, tables, backbone):
    what = task("regression")
    with pytest.raises(ValueError, match="use learner='frozen'"):
        SetFit(what, *tables(what), backbone, max_length=30)
    what = task("binary")
    wrong = {"num_iterations": -1, "batch_size": 0, "epochs": 0, "classifier": "no", "learning_rate": 2}
    for options in ({name: value} for name, value in wrong.items()):
        with pytest.raises(ValueError, match=next(iter(options))):
            SetFit(what, *tables(what), backbone, **options)


def test_without_the_library_the_error_says_what_to_install(task, tables, backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "setfit", None)
    what = task("binary")
    with pytest.raises(ImportError, match="pip install setfit"):
        SetFit(what, *tables(what), backbone, max_length=30)
