"""Every trick beside every other knob of a recipe, from texts to predictions."""

import itertools

import numpy as np
import pytest
import torch

from kagglekit.data.batches import Examples
from kagglekit.losses.catalogue import LOSSES
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.training.predict import predict
from kagglekit.tricks import TRICKS

OPTIONS = {  # of every trick: at work from the first step on, and not too slow
    **{name: {} for name in TRICKS},
    **{name: {"start": 0.0} for name in ("AWP", "SWA", "EMA", "CheckpointSoup")},
    **{name: {"steps": 2} for name in ("PGD", "FreeLB")},
    "EMA": {"decay": 0.5, "start": 0.0},
}
KNOBS = {
    "chunks": {"max_length": 10, "chunks": 3, "chunk_stride": 2, "chunk_pooling": "attention"},
    "all layers": {"pooling": "weighted_layers"},
    "two targets": {"auxiliary": {"colour": 0.5, "other number": 0.3}, "learned_weights": True, "head": "separate"},
    "soft targets": {"soft_targets": ["bad", "mixed", "good"]},
    "multi-sample dropout": {"head_dropout": 0.2, "dropout_samples": 3},
    "features": {"features": {"numbers": ["number"], "categories": ["shape"]}},
    "reinitialised, the rest frozen": {"reinit_layers": 1, "freeze_layers": 1},
}
FIT = [(kind, loss) for loss, kinds in LOSSES.items() for kind in kinds]


@pytest.fixture
def fit(tuner, tmp_path):
    """fit(kind, **knobs): a FineTuner and what it fitted: 18 rows in 3 steps, with an evaluation at the second too."""

    def make(kind="multiclass", folder="fold0", **knobs):
        fine = tuner(kind, **{"learning_rate": 1e-2, "dropout": 0.1, "evaluate_every": 2, **knobs})
        return fine, fine.fit(np.arange(6, 24), np.arange(6), tmp_path / folder, seed=0)

    return make


def check_finite(fitted):
    """Numbers, and every trick at work."""
    assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all()
    assert np.isfinite([row["loss"] for row in fitted.history]).all()
    figures = [receipt for name, receipt in fitted.receipts.items() if name != "precision"]
    assert all(np.isfinite(list(receipt.values())).all() for receipt in figures)
    assert all(fitted.receipts[name]["steps"] > 0 for name in fitted.receipts.keys() & {*OPTIONS, "KeepBest"})


@pytest.mark.parametrize(("knobs", "name"), [*itertools.product(KNOBS, OPTIONS)])
def test_every_trick_works_beside_every_other_knob(fit, knobs, name):
    if (knobs, name) == ("chunks", "Mixup"):
        with pytest.raises(ValueError, match="Mixup mixes token by token, and chunks are several texts: set chunks=0"):
            fit(tricks={name: OPTIONS[name]}, **KNOBS[knobs])
        return
    check_finite(fit(tricks={name: OPTIONS[name]}, **KNOBS[knobs])[1])


@pytest.mark.parametrize("name", OPTIONS)
def test_activations_computed_again_give_the_same_model(fit, name):
    fits = [fit(tricks={name: OPTIONS[name]}, folder=f"{again}", checkpointing=again)[1] for again in (False, True)]
    assert np.array_equal(fits[0].oof, fits[1].oof) and np.array_equal(fits[0].test, fits[1].test)
    assert fits[0].history == fits[1].history and fits[0].receipts == fits[1].receipts


@pytest.mark.parametrize("name", OPTIONS)
def test_frozen_embeddings_stay_what_they_were(fit, name, backbone, tmp_path):
    recipe = {"tricks": {name: OPTIONS[name]}, "freeze_embeddings": True}
    check_finite(fit(**recipe)[1])
    model = Classifier.load(tmp_path / "fold0" / "model")
    assert torch.equal(model.get_input_embeddings().weight, load_backbone(backbone).get_input_embeddings().weight)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "CheckpointSoup"])
def test_the_best_weights_are_those_that_are_saved(fit, name, tmp_path):
    fine, fitted = fit(tricks={name: OPTIONS[name]}, keep_best=True, patience=2, evaluate_every=1)
    check_finite(fitted)
    model = Classifier.load(tmp_path / "fold0" / "model")
    assert np.allclose(predict(model, Examples(fine.test_rows.tokens, 0), "fp32"), fitted.test, atol=1e-5)
    assert np.allclose(predict(model, Examples(fine.rows.tokens[np.arange(6)], 0), "fp32"), fitted.oof, atol=1e-5)


@pytest.mark.parametrize(("kind", "loss"), FIT)
def test_tricks_that_look_at_labels_and_logits_fit_every_loss(fit, kind, loss):
    """Alone on the task, and with other targets beside, which some rows lack."""
    values = LOSSES[loss][kind].output_layer in ("identity", "unit")
    if values:
        with pytest.raises(ValueError, match="SupCon needs classes or labels, and this task has values: leave SupCon"):
            fit(kind, tricks={"SupCon": {}}, loss={loss: {}})
    names = ["Mixup", "RDrop"] if values else ["Mixup", "RDrop", "SupCon"]
    for order, knobs in ((1, {}), (-1, {"auxiliary": {"colour": 1.0, "other number": 0.3}, "learned_weights": True})):
        made = {name: {} for name in names[::order]}
        check_finite(fit(kind, f"fold{order}", tricks=made, loss={loss: {}}, **knobs)[1])


def test_everything_at_once(fit):
    knobs = {**KNOBS["two targets"], **KNOBS["multi-sample dropout"], **KNOBS["features"]}
    knobs |= {"checkpointing": True, "pooling": "last4_concat", "reinit_layers": 1, "accumulation": 2}
    fitted = fit(tricks=OPTIONS, loss={"cross_entropy": {"label_smoothing": 0.1}, "focal": {}}, **knobs)[1]
    check_finite(fitted)
    assert list(fitted.receipts) == ["learning rates", "precision", *OPTIONS, "loss weights"]
