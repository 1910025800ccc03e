import copy
import inspect
import json
import math
import re

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from kagglekit.losses.catalogue import (
    DEFAULTS,
    LOSSES,
    RULES,
    Entry,
    check_loss,
    default_loss,
    fitting_losses,
    make_loss,
)
from kagglekit.losses.functions import squared_error
from kagglekit.model.heads import OUTPUT_LAYERS
from kagglekit.scoring import KINDS

PAIRS = [(name, kind) for name in LOSSES for kind in KINDS]
FITTING = [(name, kind) for name, kind in PAIRS if kind in LOSSES[name]]
NUMBERS = [-1, "2", True, None, math.nan, math.inf]
LISTS = ["even", [1, -1], [0, 0], [1, "2"], 3.0]
WRONG = {"weight": NUMBERS, "gamma": NUMBERS, "beta": NUMBERS, "label_smoothing": [*NUMBERS, 1.0]}  # of every option
WRONG |= {"class_weights": LISTS, "pos_weight": LISTS}
CLASSES = np.array([0, 2, 1, 1, 2, 1, 1, 2])


def labels_of(kind):
    """Labels of eight training rows, and how many columns they have."""
    random = np.random.default_rng(0)
    if kind == "multilabel":
        return np.eye(3, dtype=np.float32)[CLASSES], 3
    if kind == "regression":
        return random.normal(100, 20, (8, 2)).astype(np.float32), 2
    return (CLASSES % 2, 2) if kind == "binary" else (CLASSES, 3)


def prepared(recipe, kind):
    """The loss, targets and the link's name, center and scale, as training has them."""
    labels, columns = labels_of(kind)
    loss, link = make_loss(recipe, kind, labels, columns)
    targets, center, scale = OUTPUT_LAYERS[link].encode(labels, columns)
    return loss, torch.from_numpy(targets), link, torch.from_numpy(center), torch.from_numpy(scale)


def random_logits(outputs, seed=0):
    return torch.randn(8, outputs, generator=torch.Generator().manual_seed(seed))


# what the recipe says


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_recipe_is_the_default_of_the_kind(kind):
    loss, targets, link, center, _ = prepared({}, kind)
    logits = random_logits(len(center))
    plain = {"multilabel": F.binary_cross_entropy_with_logits, "regression": squared_error, "ordinal": squared_error}
    wanted = plain.get(kind, F.cross_entropy)(logits, targets)
    assert torch.equal(loss(logits, targets), wanted)
    assert torch.equal(default_loss(kind)(logits, targets), wanted)
    assert link == check_loss({}, kind) == check_loss({DEFAULTS[kind]: {}}, kind)


@pytest.mark.parametrize("name, kind", PAIRS)
def test_a_loss_fits_the_kind_or_the_error_says_which_do(name, kind):
    if kind in LOSSES[name]:
        assert check_loss({name: {}}, kind) == LOSSES[name][kind].output_layer
        assert name in fitting_losses(kind)
    else:
        with pytest.raises(ValueError, match=f"loss='{name}' does not fit kind='{kind}'.* has ") as error:
            check_loss({name: {}}, kind)
        assert str(error.value).endswith(", ".join(fitting_losses(kind)))
        with pytest.raises(ValueError, match="does not fit"):
            make_loss({name: {}}, kind, *labels_of(kind))


def test_every_link_is_needed_by_a_loss_and_exists():
    assert {entry.output_layer for kinds in LOSSES.values() for entry in kinds.values()} == set(OUTPUT_LAYERS)


def test_losses_add_up_with_their_weights():
    loss, targets, _, center, _ = prepared({"mse": {}, "pearson": {"weight": 0.5}}, "regression")
    logits = random_logits(len(center))
    mse, pearson = (prepared({name: {}}, "regression")[0](logits, targets) for name in ("mse", "pearson"))
    torch.testing.assert_close(loss(logits, targets), mse + 0.5 * pearson)


@pytest.mark.parametrize("name, kind", FITTING)
def test_a_weight_of_zero_leaves_a_loss_out(name, kind):
    layers = {other: LOSSES[other][kind].output_layer for other in fitting_losses(kind)}
    other = next((n for n in layers if n != name and layers[n] == layers[name]), None)
    if other is None:
        with pytest.raises(ValueError, match="nothing to learn"):
            check_loss({name: {"weight": 0}}, kind)
        return
    both, targets, _, center, _ = prepared({other: {}, name: {"weight": 0.0}}, kind)
    logits = random_logits(len(center)).requires_grad_()
    plain = prepared({other: {}}, kind)[0]
    found, wanted = both(logits, targets), plain(logits, targets)
    assert torch.equal(found, wanted)
    assert torch.equal(*(torch.autograd.grad(value, logits)[0] for value in (found, wanted)))


def test_losses_that_read_the_logits_differently_do_not_add_up():
    with pytest.raises(ValueError, match="in the same way, and these are read corn by corn, mse by identity"):
        check_loss({"corn": {}, "mse": {}}, "ordinal")


@pytest.mark.parametrize(
    "recipe, kind, message",
    [
        ({"focall": {}}, "binary", "there is no loss 'focall': did you mean focal. There are cross_entropy, bce"),
        ({"focal": {"gama": 1}}, "binary", "focal takes the options weight, gamma, class_weights, pos_weight, not"),
        ({"focal": {"class_weights": "balanced"}}, "multilabel", "takes the options weight, gamma, pos_weight"),
        ({"focal": 2.0}, "binary", "takes the options"),
        ("focal", "binary", "must be names with options"),
        ({"mse": {"weight": 0}, "pearson": {"weight": 0}}, "regression", "nothing to learn"),
    ],
)
def test_a_recipe_that_is_wrong_is_an_error_that_says_why(recipe, kind, message):
    for check in (check_loss, lambda *args: make_loss(*args, *labels_of(kind))):
        with pytest.raises(ValueError, match=message):
            check(recipe, kind)


@pytest.mark.parametrize("name, kind", FITTING)
def test_an_option_of_any_loss_that_is_out_of_range_is_an_error_that_says_the_rule(name, kind):
    for option in LOSSES[name][kind].options:
        for value in WRONG[option]:
            message = f"loss: {name}: {option}={value!r} is out of range: it must be {RULES[option][1]}"
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                check_loss({name: {option: value}}, kind)


@pytest.mark.parametrize("name", ["supcon", "SupCon"])
def test_supervised_contrastive_is_pointed_to_the_tricks(name):
    with pytest.raises(ValueError, match=r'tricks=\{"SupCon": \{\}\}'):
        make_loss({name: {}}, "binary", *labels_of("binary"))


def test_an_option_without_a_rule_is_an_error_as_soon_as_its_loss_is_in_the_catalogue():
    with pytest.raises(ValueError, match="loss: margin has an option 'width' without a rule in RULES"):
        Entry("margin", "identity", ("width",), by_rows=True)


def test_the_options_of_a_loss_are_those_of_its_function():
    for entry in {entry for kinds in LOSSES.values() for entry in kinds.values()}:
        assert list(entry.own) == list(inspect.signature(entry.function).parameters)[2:]


def test_a_list_of_the_wrong_length_is_an_error():
    with pytest.raises(ValueError, match=r"class_weights=\[1, 2\] .* a list of 3 numbers"):
        make_loss({"cross_entropy": {"class_weights": [1, 2]}}, "multiclass", CLASSES, 3)


def test_the_recipe_stays_plain_data():
    recipe = {"cross_entropy": {"class_weights": "balanced", "label_smoothing": 0.1, "weight": 2}, "focal": {}}
    before = copy.deepcopy(recipe)
    loss, targets, _, center, _ = prepared(recipe, "multiclass")
    loss(random_logits(len(center)), targets)
    assert recipe == before == json.loads(json.dumps(recipe))


# weights from the labels


def test_balanced_class_weights_are_those_of_scikit_learn():
    wanted = torch.tensor(compute_class_weight("balanced", classes=np.arange(3), y=CLASSES), dtype=torch.float32)
    logits = random_logits(3)
    for name, kind in (("cross_entropy", "multiclass"), ("cross_entropy", "ordinal"), ("focal", "multiclass")):
        loss, targets, *_ = prepared({name: {"class_weights": "balanced"}}, kind)
        listed, *_ = prepared({name: {"class_weights": wanted.tolist()}}, kind)
        assert torch.equal(loss(logits, targets), listed(logits, targets))
    torch.testing.assert_close(
        prepared({"cross_entropy": {"class_weights": "balanced"}}, "multiclass")[0](logits, targets),
        F.cross_entropy(logits, targets, weight=wanted),
    )


def test_balanced_class_weights_are_finite_without_rows_of_a_class():
    loss, _ = make_loss({"cross_entropy": {"class_weights": "balanced"}}, "multiclass", np.array([0, 0, 2]), 3)
    assert loss.terms[0][2]["class_weights"].tolist() == [0.75, 1.0, 1.5]


def test_balanced_positive_weights_are_negatives_by_positives_and_finite():
    labels = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=np.float32)
    loss, _ = make_loss({"bce": {"pos_weight": "balanced"}}, "multilabel", labels, 3)
    assert loss.terms[0][2]["pos_weight"].tolist() == [3.0, 4.0, 0.25]
    logits = random_logits(3)[:4]
    wanted = F.binary_cross_entropy_with_logits(logits, torch.tensor(labels), pos_weight=torch.tensor([3.0, 4.0, 0.25]))
    assert torch.equal(loss(logits, torch.tensor(labels)), wanted)


def test_weights_of_none_are_no_weights():
    for name, option, kind in (("focal", "class_weights", "binary"), ("bce", "pos_weight", "multilabel")):
        loss, targets, _, center, _ = prepared({name: {option: None}}, kind)
        logits = random_logits(len(center))
        assert torch.equal(loss(logits, targets), prepared({name: {}}, kind)[0](logits, targets))


# what training makes of it


@pytest.mark.parametrize("name, kind", FITTING)
def test_steps_downhill_lower_the_loss_and_lead_towards_the_labels(name, kind):
    loss, targets, link, center, scale = prepared({name: {}}, kind)
    labels = torch.from_numpy(labels_of(kind)[0])
    if link in ("softmax", "sigmoid"):
        labels = F.one_hot(labels, len(center)).float() if labels.ndim == 1 else labels
    labels = labels.reshape(len(labels), -1).float()
    logits = random_logits(len(center), seed=1).requires_grad_()
    before = logits.detach().clone()
    optimizer = torch.optim.SGD([logits], lr=4.0)
    values = []
    for _ in range(100):
        values.append(loss(logits, targets))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    errors = [distance(name, OUTPUT_LAYERS[link].decode(x.detach(), center, scale), labels) for x in (before, logits)]
    assert values[-1] < values[0] and errors[1] < 0.6 * errors[0]


def distance(name, predictions, labels):
    """How far predictions are from labels; for losses of the order alone, how far the correlation is from 1."""
    if name not in ("pearson", "ranking"):
        return (predictions - labels).abs().mean()
    columns = zip(predictions.T, labels.T, strict=True)
    return 1 - torch.stack([torch.corrcoef(torch.stack(both))[0, 1] for both in columns]).mean()


@pytest.mark.parametrize("name, kind", FITTING)
def test_every_loss_takes_a_batch_of_one(name, kind):
    loss, targets, _, center, _ = prepared({name: {}}, kind)
    logits = random_logits(len(center))[:1].requires_grad_()
    loss(logits, targets[:1]).backward()
    assert torch.isfinite(logits.grad).all()
