import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kagglekit.model.heads import OUTPUT_LAYERS
from kagglekit.tricks.mixup import Mixup
from kagglekit.tricks.rdrop import RDrop
from kagglekit.tricks.supcon import Descriptions, SupCon, description_loss, find_classes, supervised_contrastive


@pytest.fixture
def vectors():
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def by_the_book(vectors, labels, temperature):
    """Equation 2 of Khosla et al., over the texts that have a positive."""
    unit, losses = vectors / vectors.norm(dim=1, keepdim=True), []
    for i in range(len(labels)):
        others = [k for k in range(len(labels)) if k != i]
        positives = [k for k in others if labels[k] == labels[i]]
        below = sum(math.exp(unit[i] @ unit[k] / temperature) for k in others)
        if positives:
            terms = [-math.log(math.exp(unit[i] @ unit[k] / temperature) / below) for k in positives]
            losses.append(sum(terms) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.3, 1.0])
def test_the_loss_is_that_of_the_paper(vectors, temperature):
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # 2 and 3 have no like
    ours = supervised_contrastive(vectors, labels, temperature)
    assert ours.item() == pytest.approx(by_the_book(vectors, labels, temperature), rel=1e-4)
    assert torch.allclose(supervised_contrastive(100 * vectors, labels, temperature), ours)  # directions count
    one_hot = F.one_hot(labels).float()
    assert torch.allclose(supervised_contrastive(vectors, one_hot, temperature), ours)


def test_pairs_count_by_the_labels_they_share(vectors):
    labels = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1]]).float()
    unit, losses = F.normalize(vectors, dim=1), []
    for i in range(7):
        others = [k for k in range(7) if k != i]
        shared = torch.stack([(labels[i] * labels[k]).sum() for k in others])
        log_chances = torch.stack([unit[i] @ unit[k] / 0.3 for k in others]).log_softmax(0)
        if shared.sum():
            losses.append(-(shared / shared.sum() * log_chances).sum())
    assert len(losses) == 6  # the text without a label has no like
    assert torch.allclose(supervised_contrastive(vectors, labels, 0.3), torch.stack(losses).mean())


def test_soft_labels_pass_smoothly_into_hard_ones(vectors):
    hard = F.one_hot(torch.tensor([0, 1, 2, 3, 4, 5, 5])).float()  # one pair
    almost = hard.lerp(torch.full_like(hard, 1 / 6), 1e-5)
    assert torch.allclose(*(supervised_contrastive(vectors, labels, 0.3) for labels in (hard, almost)), atol=1e-3)
    lonely = torch.eye(7).lerp(torch.full((7, 7), 1 / 7), 1e-5)
    assert supervised_contrastive(vectors, lonely, 0.3) < 1e-3


@pytest.mark.parametrize("labels", [torch.arange(7), torch.eye(7), torch.zeros(7, 3)], ids=["int", "one-hot", "none"])
def test_a_batch_without_any_pair_is_zero(vectors, labels):
    vectors = vectors.requires_grad_()
    loss = supervised_contrastive(vectors, labels, 0.1)
    loss.backward()
    assert loss == 0 and torch.equal(vectors.grad, torch.zeros(7, 5))


@pytest.mark.parametrize("labels", [torch.zeros(1, dtype=torch.int64), torch.ones(1, 3)], ids=["int", "float"])
def test_a_batch_of_one_is_zero(labels):
    vector = torch.randn(1, 5).requires_grad_()
    loss = supervised_contrastive(vector, labels, 0.1)
    loss.backward()
    assert loss == 0 and torch.equal(vector.grad, torch.zeros(1, 5))


def test_vectors_of_zero_and_low_temperatures_are_finite(vectors):
    vectors[0] = 0
    vectors.requires_grad_()
    loss = supervised_contrastive(vectors, torch.tensor([0, 0, 1, 1, 2, 2, 2]), 1e-3)
    loss.backward()
    assert loss.isfinite() and vectors.grad.isfinite().all()


def test_under_autocast_it_is_as_exact(vectors):
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    for given in (labels, F.one_hot(labels) / 3.0):
        expected = supervised_contrastive(vectors, given, 0.1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(supervised_contrastive(vectors, given, 0.1), expected)


def test_its_gradient_moves_texts_of_one_class_together(vectors):
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    alike = (labels[:, None] == labels).float()
    moved = vectors.clone().requires_grad_()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(supervised_contrastive(moved, labels, 0.3), moved)
        moved = (moved - 0.3 * gradient).detach().requires_grad_()
    before, after = (F.cosine_similarity(v[:, None], v, dim=-1) for v in (vectors, moved))
    assert (after * alike).sum() > (before * alike).sum()
    assert (after * (1 - alike)).sum() < (before * (1 - alike)).sum()


@pytest.mark.parametrize("link", ["corn", "cumulative"])
def test_levels_of_ordered_classes_become_classes(link):
    labels = torch.tensor([0, 1, 3, 3])
    levels = (labels[:, None] > torch.arange(3)).float()
    assert torch.equal(find_classes(levels, link, 3), F.one_hot(labels).float())
    assert find_classes(levels.roll(1, 0) * 0.25 + levels * 0.75, link, 3)[0].tolist() == [0.75, 0, 0, 0.25]


def test_of_several_targets_the_first_counts():
    labels = torch.randn(4, 5)
    assert torch.equal(find_classes(labels, "softmax", 3), labels[:, :3])
    assert torch.equal(find_classes(labels, "sigmoid", 2), labels[:, :2])
    numbers = torch.arange(4)
    assert find_classes(numbers, "softmax", 3) is numbers and find_classes(numbers, "expectation", 3) is numbers


@pytest.mark.parametrize("link", ["identity", "unit"])
def test_values_are_an_error(classifier, batch, compute, link):
    model = classifier()
    model.blocks = [(link, 3)]
    with pytest.raises(ValueError, match="SupCon needs classes or labels, and this task has values: leave SupCon out"):
        SupCon().compute_loss(compute(model), model, batch)


def test_it_is_weighed_against_the_loss(classifier, batch, compute):
    model = classifier()
    plain, outputs = compute(model)(batch)
    contrast = supervised_contrastive(outputs["pooled"], batch["labels"], 0.5)
    loss, same_outputs = SupCon(0.3, 0.5).compute_loss(compute(model), model, batch)
    assert torch.allclose(loss, 0.7 * plain + 0.3 * contrast)
    assert torch.equal(same_outputs["logits"], outputs["logits"])


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_it_learns_from_mixed_labels_too(trainer, logged, kind, alpha):
    run = trainer([Mixup(alpha), SupCon()], kind=kind, epochs=8)
    run.fit()
    losses = torch.tensor(logged(run, "loss"))
    assert losses.isfinite().all() and losses[-6:].mean() < losses[:6].mean()


def test_inside_a_doubled_batch_the_other_pass_of_a_text_is_its_like(classifier, batch, compute):
    model, supcon = classifier(dropout=0.1).train(), SupCon(1.0)
    labels = {**batch, "labels": torch.arange(8) % 3}

    def inner(inputs):
        return supcon.compute_loss(compute(model), model, inputs)

    RDrop(0.0, doubled=True).compute_loss(inner, model, {**labels, "labels": torch.eye(8)[:, :3]})
    assert supcon.contrast_ > 0  # text 0, 1 and 2 each are the only one of their class


def test_the_loss_of_descriptions_is_a_cross_entropy_over_those_there_are(vectors):
    described, targets = vectors[:3] + 0.1, F.one_hot(torch.tensor([0, 1, 2, 2, 0, 1, 0]), 3).float()
    unit = [v / v.norm(dim=1, keepdim=True) for v in (vectors, described)]
    scores = unit[0] @ unit[1].T / 0.2
    found = description_loss(vectors, described, targets, 0.2)
    assert torch.allclose(found, F.cross_entropy(scores, targets.argmax(1)))
    some = targets.clone()
    some[4:] = 0  # of classes without a description: they do not count
    assert torch.allclose(description_loss(vectors, described, some, 0.2), F.cross_entropy(scores[:4], targets[:4]))
    two = torch.tensor([[1.0, 1.0, 0.0]])
    assert torch.allclose(description_loss(vectors[:1], described, two, 0.2), F.cross_entropy(scores[:1], two / 2))
    nothing = description_loss(vectors.requires_grad_(), described, torch.zeros(7, 3), 0.2)
    nothing.backward()
    assert nothing == 0 and vectors.grad.abs().sum() == 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(description_loss(vectors, described, targets, 0.2), found)


def _describing(weight, **knobs):
    trick = Descriptions(weight, **knobs)
    ids = torch.tensor([[2, 6, 7, 3], [2, 9, 3, 0]])
    trick.tokens, trick.numbers = {"input_ids": ids, "attention_mask": (ids > 0).long()}, [2, 0]
    return trick


def test_descriptions_are_read_with_gradients_and_weighed(classifier, batch, compute):
    model = classifier()
    plain, outputs = compute(model)(batch)
    trick = _describing(0.3, temperature=0.5)
    loss, _ = trick.compute_loss(compute(model), model, batch)
    described = model(**trick.tokens)["pooled"]
    targets = F.one_hot(batch["labels"], 3)[:, [2, 0]].float()
    assert torch.allclose(loss, plain + 0.3 * description_loss(outputs["pooled"], described, targets, 0.5))
    (loss - plain.detach()).backward()
    words = {*trick.tokens["input_ids"].flatten().tolist()} - {*batch["input_ids"].flatten().tolist()}
    assert words and all(model.get_input_embeddings().weight.grad[word].abs().sum() > 0 for word in words)
    assert torch.equal(_describing(0.0).compute_loss(compute(model), model, batch)[0], plain)


def test_texts_come_nearer_to_the_descriptions_of_their_classes(trainer):
    apart = [
        trainer([_describing(weight)], folder=f"weight{weight}", epochs=4).fit()["Descriptions"]
        for weight in (1.0, 0.0)
    ]
    assert (
        apart[0]["steps"] == 24 and apart[0]["mean loss of descriptions"] < 0.5 * apart[1]["mean loss of descriptions"]
    )


@pytest.mark.parametrize("link", ["identity", "unit", "corn", "cumulative", "expectation", "softmax"])
def test_the_class_of_a_text_is_found_in_the_labels_of_each_output_layer(classifier, link):
    model, classes = classifier(), np.array([0, 2, 1, 3])
    values, center, scale = OUTPUT_LAYERS[link].encode(classes, 4)
    model.blocks, model.center, model.scale = [(link, len(center))], torch.tensor(center), torch.tensor(scale)
    found = _describing(1.0)._targets(torch.as_tensor(values), model)  # the descriptions are of the classes 2 and 0
    assert found.tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]


def test_training_with_descriptions_resumes_bit_for_bit(trainer, weights, same):
    whole = trainer([_describing(0.5)], folder="whole", dropout=0.1)
    receipt = whole.fit()
    trainer([_describing(0.5)], folder="stopped", dropout=0.1, stop=4).train()
    again = trainer([_describing(0.5)], folder="stopped", dropout=0.1)
    assert again.fit() == receipt and same(weights(again.model), weights(whole.model))
