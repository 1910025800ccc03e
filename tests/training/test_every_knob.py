"""Every knob of a recipe from the tables to the predictions of a saved model."""

from dataclasses import fields
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from kagglekit.losses.catalogue import LOSSES
from kagglekit.model.classifier import Classifier
from kagglekit.model.heads import HEADS
from kagglekit.model.pooling import POOLINGS
from kagglekit.training.recipe import Recipe
from tests.training.conftest import AT_EMBEDDINGS, AUXILIARY, EVERYTHING, TRAIN, VALID, fit_and_load

PAIRS = [(kind, name) for name, kinds in LOSSES.items() for kind in kinds]


@pytest.fixture
def tuner(feature_tuner):
    """tuner(kind, **knobs): see `feature_tuner`."""
    return feature_tuner


FITTED: dict[str, Any] = {}  # knobs -> what they were fitted to; many knobs are compared with the same plain run


def fit_once(tuner, folder, knobs):
    if repr(knobs) not in FITTED:
        FITTED[repr(knobs)] = fit_and_load(tuner(**knobs), folder)
    return FITTED[repr(knobs)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("kind", "loss"), PAIRS)
def test_every_head_learns_every_loss_of_every_kind(tuner, tmp_path, kind, loss, head):
    fit_and_load(tuner(kind, head=head, loss={loss: {}}), tmp_path)


@pytest.mark.parametrize(("kind", "loss", "head"), [(*pair, head) for pair, head in zip(PAIRS, cycle(HEADS))])
def test_so_they_do_beside_other_targets_whose_weights_are_learned(tuner, tmp_path, kind, loss, head):
    fine = tuner(kind, head=head, loss={loss: {}}, auxiliary=AUXILIARY, learned_weights=True)
    weights = fit_and_load(fine, tmp_path).receipts["loss weights"]
    assert list(weights) == [*fine.task.labels, "colour", "price"]
    assert all(weight != 1 for weight in weights.values())


@pytest.mark.parametrize(("pooling", "head"), [*zip(sorted({*POOLINGS} - {"mask"}), cycle(HEADS))])
def test_every_pooling_reads_chunks(tuner, tmp_path, pooling, head):
    fine = tuner(head=head, pooling=pooling, max_length=8, chunks=3, chunk_pooling="attention", batch_size=3)
    assert fine.rows.tokens.counts.max() == 3
    fit_and_load(fine, tmp_path)


@pytest.mark.parametrize("beside", [EVERYTHING, AT_EMBEDDINGS])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_reads_what_stands_beside_the_text(tuner, tmp_path, head, beside):
    fit_and_load(tuner(head=head, features=beside, auxiliary=AUXILIARY), tmp_path)


def test_chunks_are_read_with_all_that_can_stand_beside_them(tuner, tmp_path):
    beside = {**EVERYTHING, "word_vectors_at": "embeddings"}
    fit_and_load(tuner(max_length=8, chunks=3, features=beside, auxiliary=AUXILIARY, head="queries"), tmp_path)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "soft_f1"])
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("auxiliary", [{}, AUXILIARY])
def test_soft_targets_are_learned_by_every_loss_of_classes(tuner, tmp_path, kind, loss, auxiliary):
    names = {"binary": ["no", "yes"], "multiclass": ["bad", "mixed", "good"]}[kind]
    soft = [f"votes {name}" for name in names]
    fit_and_load(tuner(kind, loss={loss: {}}, soft_targets=soft, auxiliary=auxiliary), tmp_path)


# Each knob


SOFT = [f"votes {name}" for name in ("bad", "mixed", "good")]
MASKED = {"pattern": "{text} it was {mask} .", "pooling": "mask"}
PAIR = {"pair": True, "max_length": 10}
DESCRIBED = {"bad": "a poor film", "good": "fun, a good plot"}
VERBALIZER = {"bad": ["bad"], "mixed": ["fine"], "good": ["good"]}
CHANGES = {  # knob -> knobs with another value of it, and those that it is compared with
    "clean": ({"clean": ["punctuation"]}, {}),
    "max_length": ({"max_length": 10}, {}),
    "truncation": ({"truncation": "tail", "max_length": 10}, {"max_length": 10}),
    "budget": ({**PAIR, "budget": {"text": 6}}, PAIR),
    "swap": ({**PAIR, "swap": ["text", "other"]}, PAIR),
    "chunks": ({"chunks": 2, "max_length": 10}, {"max_length": 10}),
    "chunk_stride": ({"chunks": 3, "max_length": 10, "chunk_stride": 5}, {"chunks": 3, "max_length": 10}),
    "chunk_pooling": ({"chunks": 3, "max_length": 10, "chunk_pooling": "max"}, {"chunks": 3, "max_length": 10}),
    "augment": ({"augment": {"AEDA": {}}}, {}),
    "augment_copies": ({"augment": {"AEDA": {}}, "augment_copies": 0}, {"augment": {"AEDA": {}}}),
    "augment_share": (
        {"augment": {"AEDA": {}}, "augment_copies": 0, "augment_share": 1.0},
        {"augment": {"AEDA": {}}, "augment_copies": 0},
    ),
    "pattern": ({"pattern": "{text} it was fine ."}, {}),
    "pooling": ({"pooling": "cls"}, {}),
    "head": ({"head": "separate"}, {}),
    "verbalizer": ({**MASKED, "verbalizer": VERBALIZER}, MASKED),
    "dropout": ({"dropout": 0.1}, {}),
    "attention_dropout": ({"attention_dropout": 0.1}, {}),
    "head_dropout": ({"head_dropout": 0.1}, {}),
    "dropout_samples": ({"head_dropout": 0.1, "dropout_samples": 2}, {"head_dropout": 0.1}),
    "reinit_layers": ({"reinit_layers": 1}, {}),
    "freeze_layers": ({"freeze_layers": 1}, {}),
    "freeze_embeddings": ({"freeze_embeddings": True}, {}),
    "features": ({"features": EVERYTHING}, {}),
    "loss": ({"loss": {"focal": {}}}, {}),
    "soft_targets": ({"soft_targets": SOFT}, {}),
    "auxiliary": ({"auxiliary": AUXILIARY}, {}),
    "auxiliary_descriptions": ({"auxiliary_descriptions": DESCRIBED}, {}),
    "descriptions_weight": (
        {"auxiliary_descriptions": DESCRIBED, "descriptions_weight": 0.5},
        {"auxiliary_descriptions": DESCRIBED},
    ),
    "descriptions_temperature": (
        {"auxiliary_descriptions": DESCRIBED, "descriptions_temperature": 0.5},
        {"auxiliary_descriptions": DESCRIBED},
    ),
    "learned_weights": ({"auxiliary": AUXILIARY, "learned_weights": True}, {"auxiliary": AUXILIARY}),
    "epochs": ({"epochs": 2}, {}),
    "batch_size": ({"batch_size": 9}, {}),
    "accumulation": ({"accumulation": 3}, {}),
    "learning_rate": ({"learning_rate": 1e-3}, {}),
    "head_learning_rate": ({"head_learning_rate": 1e-2}, {}),
    "layer_decay": ({"layer_decay": 0.5}, {}),
    "weight_decay": ({"weight_decay": 0.5}, {}),
    "schedule": ({"schedule": "constant"}, {}),
    "warmup": ({"warmup": 0.9}, {}),
    "cycles": ({"schedule": "cosine_with_restarts", "cycles": 2}, {"schedule": "cosine_with_restarts"}),
    "cycle_growth": (
        {"schedule": "cosine_warm_restarts", "cycles": 2, "cycle_growth": 3, "epochs": 3},
        {"schedule": "cosine_warm_restarts", "cycles": 2, "epochs": 3},
    ),
    "max_grad_norm": ({"max_grad_norm": 1e-9, "weight_decay": 0.0}, {"weight_decay": 0.0}),
    "keep_best": ({"keep_best": True, "evaluate_every": 1, "learning_rate": 0.2}, {"learning_rate": 0.2}),
    "tricks": ({"tricks": {"FGM": {}}}, {}),
}
ELSEWHERE = {"checkpointing", "precision", "evaluate_every", "patience"}  # they change no prediction of so short a run
ELSEWHERE |= {"chat", "system", "answers"}  # tests/decoders/test_answers.py, tests/decoders/test_packed_options.py
ELSEWHERE |= {"candidates", "candidates_loss"}  # tests/learners/test_candidates.py
ELSEWHERE |= {"tuning", "lora"}  # tests/decoders/test_lora_runs.py


def test_no_knob_is_forgotten():
    assert set(CHANGES) | ELSEWHERE == {knob.name for knob in fields(Recipe)}


@pytest.mark.parametrize("knob", CHANGES)
def test_every_knob_changes_what_is_trained(tuner, tmp_path, knob):
    changed, plain = (fit_once(tuner, tmp_path / str(n), knobs) for n, knobs in enumerate(CHANGES[knob]))
    assert np.abs(changed.test - plain.test).max() > 1e-6


@pytest.mark.parametrize("name", ["numbers", "categories", "vectors", "word_vectors"])
def test_each_thing_beside_the_text_changes_what_is_trained(tuner, tmp_path, name):
    knobs = [{}, {"features": {name: EVERYTHING[name]}}]
    if "vectors" in name:
        knobs.append({"features": {name: EVERYTHING[name], f"{name}_at": "embeddings"}})
    tests = [fit_once(tuner, tmp_path / str(n), options).test for n, options in enumerate(knobs)]
    assert all(np.abs(one - other).max() > 1e-6 for n, one in enumerate(tests) for other in tests[:n])


@pytest.mark.parametrize(
    "knobs",
    [
        {"max_grad_norm": 1e9},  # as 0, which leaves gradients alone
        {"auxiliary": {"colour": 0.0}},
        {"features": {"numbers": [], "vectors": ""}},
        {"checkpointing": True},
        {"evaluate_every": 1},
        {"cycles": 1, "cycle_growth": 1, "patience": 0, "accumulation": 1, "dropout_samples": 1},
        {"head_learning_rate": 5e-3},
        {"loss": {"cross_entropy": {}}},
        {"loss": {"focal": {"gamma": 0.0}}},
        {"truncation": "head_tail", "max_length": 24},  # no text is longer
        {"chunks": 1},
    ],
)
def test_a_knob_in_its_off_position_is_plain_training(tuner, tmp_path, knobs):
    off = {"max_grad_norm": 0} if "max_grad_norm" in knobs else {}
    plain, other = (fit_once(tuner, tmp_path / str(n), options) for n, options in enumerate((off, knobs)))
    assert np.allclose(plain.test, other.test, atol=1e-6) and np.allclose(plain.oof, other.oof, atol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "ordinal"])
def test_descriptions_of_some_classes_are_learned_with_other_targets(tuner, tmp_path, kind):
    what = tuner(kind).task
    names = [*(what.classes or what.labels)][:2]
    described = {name: f"it is {name}" for name in reversed(names)}
    fitted = fit_and_load(tuner(kind, auxiliary_descriptions=described, auxiliary=AUXILIARY), tmp_path)
    receipt = fitted.receipts["Descriptions"]
    assert receipt["steps"] == 3 and 0 < receipt["mean loss of descriptions"] < 10


@pytest.mark.parametrize(
    ("kind", "described", "words"),
    [
        ("multiclass", {"godo": "fun", "bad": "sad"}, "'godo' is no class: did you mean good[?]"),
        ("binary", {"sport": "matches", "no": "sad"}, "'sport' is no class: the task has no, yes"),
        ("multiclass", {"good": " ", "bad": "sad"}, "that of 'good' is empty: describe it, or leave it out"),
        ("multiclass", {"good": "fun"}, "with that of 'good' alone there is no other to be less like"),
        ("regression", {"x": "much", "y": "little"}, "are of classes or labels, and this task has values"),
    ],
)
def test_descriptions_that_fit_no_task_are_refused(task, kind, described, words):
    with pytest.raises(ValueError, match=words):
        Recipe(auxiliary_descriptions=described).check_task(task(kind))


def test_activations_of_chunks_computed_again_change_nothing(tuner, tmp_path):
    knobs = {"chunks": 3, "max_length": 8, "dropout": 0.1, "pooling": "weighted_layers", "batch_size": 3}
    fits = [fit_and_load(tuner(checkpointing=again, **knobs), tmp_path / str(again)) for again in (False, True)]
    assert np.allclose(fits[0].test, fits[1].test, atol=1e-6)


def test_evaluations_come_every_so_many_steps(tuner, tmp_path):
    history = fit_and_load(tuner(evaluate_every=2, epochs=2), tmp_path).history
    assert [row["step"] for row in history if "score" in row] == [2, 4, 6]


def test_patience_ends_training(tuner, tmp_path):
    fine = tuner(epochs=5, evaluate_every=1, keep_best=True, patience=2, learning_rate=1e-9)
    assert fit_and_load(fine, tmp_path).history[-1]["step"] == 3
    assert fine.fit(TRAIN, VALID, tmp_path / "again", 0).receipts["KeepBest"]["best step"] == 1


def test_chunks_are_encoded_in_the_memory_of_a_batch_of_texts(tuner, tmp_path, monkeypatch):
    seen = []

    def watch(self, given, attention_mask):
        if self.training:
            seen.append(attention_mask.numel())
        return encode(self, given, attention_mask)

    encode = Classifier._encode
    monkeypatch.setattr(Classifier, "_encode", watch)
    fine = tuner(max_length=8, chunks=4, batch_size=3)
    fit_and_load(fine, tmp_path)
    assert max(seen) <= 3 * 8 < fine.rows.tokens.lengths.max() * 3


# What reaches the model


def test_nothing_of_the_rows_to_predict_reaches_the_model(tuner, tmp_path):
    knobs = {"features": EVERYTHING, "auxiliary": AUXILIARY, "soft_targets": SOFT, "learned_weights": True}
    first, second = tuner(**knobs), tuner(**knobs)
    second.labels[VALID] = 2 - second.labels[VALID]
    second.all_labels.soft[VALID] = second.all_labels.soft[VALID, ::-1]
    for target in second.all_labels.auxiliary:
        target.labels[VALID] = 1 - target.labels[VALID]
    columns = second.rows.columns
    columns.loc[VALID, "stars"], columns.loc[VALID, "place"] = "1000", "elsewhere"
    second.rows.vectors[VALID] += 1000
    ours, theirs = (fine.fit(TRAIN, VALID, tmp_path / str(n), 0) for n, fine in enumerate((first, second)))
    assert np.array_equal(ours.test, theirs.test) and ours.receipts == theirs.receipts
    assert not np.array_equal(ours.oof, theirs.oof)  # these rows are read otherwise


def test_a_target_that_is_learned_at_once_counts_more_than_one_that_stays_hard(tuner, tmp_path):
    fine = tuner("regression", learned_weights=True, epochs=20, learning_rate=1e-4)
    fine.labels[:, 0] = 7.0
    weights = fine.fit(TRAIN, VALID, tmp_path / "fold0", 0).receipts["loss weights"]
    assert weights["x"] > 1.2 and 0.8 < weights["y"] < 1.2  # losses of about 0 and 1


def test_a_fold_that_was_cut_off_goes_on_as_if_it_had_never_been(tuner, tmp_path, monkeypatch):
    knobs = {"features": EVERYTHING, "auxiliary": AUXILIARY, "learned_weights": True, "dropout": 0.1, "head": "queries"}
    fine = tuner(epochs=2, **knobs)
    fine.save_seconds = 0.0
    straight = fine.fit(TRAIN, VALID, tmp_path / "straight", 0)
    monkeypatch.setattr("kagglekit.training.finetune.score", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)  # at the evaluation after step 3
    monkeypatch.undo()
    assert [folder.name for folder in (tmp_path / "fold0" / "checkpoints").glob("*")] == ["checkpoint-2"]
    again = fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    assert np.array_equal(again.test, straight.test) and np.array_equal(again.oof, straight.oof)
    assert again.history == straight.history and again.receipts == straight.receipts
