from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from kagglekit.training.training_rows import ExtraRows, gather_rows
from kagglekit.tricks.trick import Trick

KINDS = ["binary", "multiclass", "multilabel", "regression", "ordinal"]
TRAIN, VALID = np.arange(6, 24), np.arange(6)


def extra_of(tuner, rows, weights=None):
    """Rows of train as if they came from elsewhere, with the labels that they have."""
    table = tuner.train.iloc[rows][["id", "text"]]
    return ExtraRows(table, tuner.labels[rows], np.ones(len(rows), np.float32) if weights is None else weights)


def gather(tuner, rows, **options):
    """The training rows that `FineTuner.fit` gathers."""
    given = tuner.rows, tuner.all_labels, tuner.recipe, tuner.tokenizer
    return gather_rows(rows, *given, augmenter=tuner.augmenter, **options)


class Recorder(Trick):
    """Keeps what the batches hold."""

    def __init__(self):
        self.seen = []

    def compute_loss(self, compute, model, inputs):
        self.steps_ += 1
        self.seen.append(inputs.pop("teacher").clone())
        return compute(inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_from_elsewhere_is_learned_like_one_of_train(tuner, tmp_path, kind):
    fine = tuner(kind)
    whole = fine.fit(TRAIN, VALID, tmp_path / "whole", 0)
    parts = fine.fit(TRAIN[:12], VALID, tmp_path / "parts", 0, extra=extra_of(fine, TRAIN[12:]))
    assert np.allclose(whole.oof, parts.oof, atol=1e-5)


def test_the_extra_rows_alone_can_be_learned(tuner, tmp_path):
    fine = tuner()
    whole = fine.fit(TRAIN, VALID, tmp_path / "whole", 0)
    alone = fine.fit(TRAIN[:0], VALID, tmp_path / "alone", 0, extra=extra_of(fine, TRAIN))
    assert np.allclose(whole.oof, alone.oof, atol=1e-5)
    with pytest.raises(ValueError, match="no row to learn from"):
        fine.fit(TRAIN[:0], VALID, tmp_path / "none", 0)


@pytest.mark.parametrize("kind", ["binary", "multilabel", "regression"])
def test_a_row_of_weight_zero_teaches_nothing(tuner, tmp_path, kind):
    fine = tuner(kind)
    extra = extra_of(fine, TRAIN[12:], np.zeros(6, np.float32))
    wrong = ExtraRows(extra.table, (1 - extra.labels).astype(extra.labels.dtype), extra.weights)
    if kind == "regression":  # the scale of a target comes from all its rows
        wrong = ExtraRows(extra.table, extra.labels[::-1].copy(), extra.weights)
    results = [fine.fit(TRAIN[:12], VALID, tmp_path / str(k), 0, extra=e).oof for k, e in enumerate((extra, wrong))]
    assert np.array_equal(*results)


@pytest.mark.parametrize(
    "loss",
    [
        {"cross_entropy": {}},
        {"cross_entropy": {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 0.5]}},
        {"focal": {"class_weights": [1.0, 2.0, 0.5]}},
        {"cross_entropy": {}, "focal": {"weight": 0.5}},
    ],
)
def test_weights_of_one_are_no_weights(tuner, loss):
    fine = tuner(loss=loss)
    extra = extra_of(fine, TRAIN[12:], np.full(6, 0.5, np.float32))
    weighted = gather(fine, TRAIN[:12], extra=extra).targets
    plain = gather(fine, TRAIN[:12], extra=extra_of(fine, TRAIN[12:])).targets
    logits = torch.randn(18, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(weighted.labels)
    ones = torch.cat([labels[:, :-1], torch.ones(18, 1)], dim=1)
    assert torch.allclose(weighted.loss(logits, ones), plain.loss(logits, torch.from_numpy(plain.labels)), atol=1e-6)
    assert not torch.allclose(weighted.loss(logits, labels), weighted.loss(logits, ones))


def test_a_weight_multiplies_the_loss_of_its_row(tuner):
    fine = tuner()
    extra = extra_of(fine, TRAIN[12:], np.array([2, 2, 2, 0, 0, 0.5], np.float32))
    targets = gather(fine, TRAIN[:12], extra=extra).targets
    logits = torch.randn(18, 3, generator=torch.Generator().manual_seed(0))
    each = torch.nn.functional.cross_entropy(logits, torch.from_numpy(fine.labels[TRAIN]), reduction="none")
    expected = (each * torch.tensor([1.0] * 12 + [2, 2, 2, 0, 0, 0.5])).mean()
    assert torch.allclose(targets.loss(logits, torch.from_numpy(targets.labels)), expected)


@pytest.mark.parametrize(("kind", "loss"), [("binary", "soft_f1"), ("regression", "pearson"), ("ordinal", "corn")])
def test_a_loss_that_is_no_mean_over_rows_takes_no_weights(tuner, kind, loss):
    fine = tuner(kind, loss={loss: {}})
    targets = gather(fine, TRAIN[:12], extra=extra_of(fine, TRAIN[12:], np.full(6, 0.5, np.float32))).targets
    logits = torch.zeros(18, targets.outputs)
    with pytest.raises(ValueError, match="no mean over rows"):
        targets.loss(logits, torch.from_numpy(targets.labels))


def test_extra_rows_have_no_auxiliary_labels(tuner, tmp_path):
    fine = tuner(auxiliary={"colour": 0.5})
    present = fine.train["colour"][TRAIN] != ""
    extra = extra_of(fine, TRAIN[12:], np.full(6, 0.5, np.float32))
    targets = gather(fine, TRAIN[:12], extra=extra).targets
    assert np.array_equal(~np.isnan(targets.labels[:, 3:5]).any(axis=1), present & (np.arange(18) < 12))
    assert sum(present[:12]) > 0 and not np.isnan(targets.labels[:, :3]).any()
    logits = torch.randn(18, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets.loss(logits, torch.from_numpy(targets.labels)).backward()
    assert (logits.grad[12:, 3:] == 0).all() and (logits.grad[12:, :3] != 0).all() and (logits.grad[:12, 3:] != 0).any()


def test_each_row_comes_with_what_the_teacher_says_of_it(tuner, tmp_path):
    fine, recorder = tuner(epochs=1), Recorder()
    teacher = np.random.default_rng(0).dirichlet(np.ones(3), 24).astype(np.float32)
    extra = extra_of(fine, np.array([0, 1]))
    fine.fit(TRAIN, VALID, tmp_path / "fold0", 0, extra=extra, teacher=teacher, tricks=[recorder])
    seen = {tuple(row) for batch in recorder.seen for row in batch.tolist()}
    labels = np.eye(3, dtype=np.float32)[fine.labels[[0, 1]]]
    assert seen == {tuple(row) for row in np.concatenate([teacher[TRAIN], labels]).tolist()}


def test_changed_copies_have_the_labels_of_their_rows(tuner):
    fine = tuner(augment={"AEDA": {}}, augment_copies=2)
    gathered = gather(fine, TRAIN)
    assert len(gathered.inputs) == 3 * 18 and gathered.own == 18
    assert np.array_equal(gathered.targets.labels, np.tile(fine.labels[TRAIN], 3))
    ids = gathered.inputs.columns["id"].tolist()
    assert ids == fine.train["id"].iloc[TRAIN].tolist() * 3  # none from outside the training rows
    texts = gathered.inputs.columns["text"].tolist()
    assert texts[:18] == fine.train["text"].iloc[TRAIN].tolist()
    assert sum(a != b for a, b in zip(texts[:18], texts[18:36], strict=True)) > 9
    assert texts[18:36] != texts[36:]


def test_texts_are_cleaned_before_they_are_changed(tuner):
    """A mark that is set into a tag or an address would keep it from being found."""
    fine = tuner(clean=["html"], augment={"AEDA": {}}, augment_copies=3)
    fine.train["text"] = [f"<b>the {text}</b>" for text in fine.train["text"]]
    fine = replace(fine)
    texts = gather(fine, TRAIN).inputs.columns["text"]
    assert len(texts) == 4 * 18 and not texts.str.contains("[<>/]").any()


def test_on_the_fly_another_share_of_rows_is_changed_in_each_epoch(tuner):
    fine = tuner(augment={"AEDA": {}}, augment_copies=0, augment_share=0.5, rows=60)
    examples = gather(fine, np.arange(60)).examples

    def visit(epoch, rows):
        examples.epoch = epoch
        return [examples.__getitems__([row])["input_ids"][0].tolist() for row in rows]

    first, second = visit(0, range(60)), visit(1, range(60))
    plain = [ids.tolist() for ids in examples.tokens]
    changed = [[a != b for a, b in zip(plain, visited, strict=True)] for visited in (first, second)]
    assert 15 < sum(changed[0]) < 45 and changed[0] != changed[1]
    assert visit(0, range(60)) == first  # a run that goes on sees the same
    batch = examples.__getitems__(list(range(60)))["input_ids"]
    assert [[t for t in row if t] for row in batch.tolist()] == [[t for t in row if t] for row in first]


def test_augmentation_trains_and_stops_like_any_recipe(tuner, tmp_path):
    for copies in (0, 1):
        fine = tuner(augment={"EDA": {}}, augment_copies=copies, epochs=2)
        fitted = fine.fit(TRAIN, VALID, tmp_path / str(copies), 0)
        assert np.isfinite(fitted.oof).all() and len(fitted.history) == 6 * (1 + copies)
        again = fine.fit(TRAIN, VALID, tmp_path / f"again{copies}", 0)
        assert np.array_equal(fitted.oof, again.oof)
    assert load_file(tmp_path / "0" / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        (np.zeros(3, np.int64), np.ones(2), "labels=3 is out of range"),
        (np.zeros(2, np.int64), np.ones(3), "weights=3 is out of range"),
        (np.array([0.1, np.nan], np.float32), np.ones(2), "NaN or infinity"),
        (np.zeros(2, np.int64), np.array([1, -1]), "0 or more"),
    ],
)
def test_extra_rows_that_do_not_go_together_are_refused(labels, weights, message):
    with pytest.raises(ValueError, match=message):
        ExtraRows(pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"]}), labels, weights)
