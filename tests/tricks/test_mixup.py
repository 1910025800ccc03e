from functools import partial

import pytest
import torch
from torch.nn import functional as F
from transformers import AlbertConfig, AlbertModel

from kagglekit.model.surgery import find_layers
from kagglekit.tricks.mixup import Mixup, find_mixed, mix, mix_inputs, partners
from kagglekit.tricks.rdrop import RDrop

LAYERS = pytest.mark.parametrize("layer", [0, 1, -1])


class Given(Mixup):
    """Mixup whose draws are given: 0.7 of each text and 0.3 of the one two places before it."""

    def training_step(self, step, model, inputs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kagglekit.tricks.mixup.Beta.sample", lambda self: torch.tensor(0.7))
            patch.setattr("torch.randint", lambda *args, **kwargs: torch.tensor(2))
            return super().training_step(step, model, inputs)


def test_mix_is_a_share_of_each_row_and_the_rest_of_the_row_shift_places_before():
    values = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    mixed = mix(values, 0.7, 2, rows=5)
    assert torch.allclose(mixed, torch.stack([0.7 * values[i] + 0.3 * values[i - 2] for i in range(5)]))
    assert torch.equal(mix(values, 1.0, 2, rows=5), values)
    assert mix(values.bfloat16(), 0.7, 2, rows=5).dtype == torch.bfloat16


def test_a_repeated_batch_is_mixed_copy_by_copy():
    values = torch.arange(4.0)
    assert partners(values, 1, rows=4).tolist() == [3, 0, 1, 2]
    assert partners(torch.arange(8.0), 1, rows=4).tolist() == [3, 0, 1, 2, 7, 4, 5, 6]


def test_labels_masks_and_features_are_mixed_and_whole_numbers_are_not():
    inputs = {
        "input_ids": torch.tensor([[2, 5, 3], [2, 3, 0], [2, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0]]),
        "labels": torch.tensor([0, 2, 2]),
        "features": torch.tensor([[1.0], [2.0], [4.0]]),
        "categories": torch.tensor([7, 8, 9]),
    }
    mixed = mix_inputs(inputs, 3, 0.75, 1)
    assert mixed["labels"].tolist() == [[0.75, 0, 0.25], [0.25, 0, 0.75], [0, 0, 1]]
    assert mixed["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]
    assert mixed["features"].tolist() == [[1.75], [1.75], [3.5]]
    for name in ("input_ids", "categories"):
        assert mixed[name] is inputs[name]
    values = {**inputs, "labels": torch.tensor([[1.0], [2.0], [4.0]])}
    assert torch.equal(mix_inputs(values, 1, 0.75, 1)["labels"], mixed["features"])


def test_words_are_mixed_as_embeddings(classifier, batch, stepping, gradients, near):
    model, by_hand = classifier(), classifier()
    step = stepping(model)
    loss = Given(1.0).training_step(step, model, batch)
    embedded = by_hand.get_input_embeddings()(batch["input_ids"])
    mask = batch["attention_mask"] | batch["attention_mask"].roll(2, 0)
    logits = by_hand(mask, inputs_embeds=0.7 * embedded + 0.3 * embedded.roll(2, 0))["logits"]
    labels = F.one_hot(batch["labels"], 3).float()
    expected = F.cross_entropy(logits, 0.7 * labels + 0.3 * labels.roll(2, 0))
    expected.backward()
    assert torch.allclose(step.logits[0], logits, atol=1e-6) and torch.allclose(loss, expected)
    assert near(gradients(model), gradients(by_hand))


def test_states_of_the_last_layer_mix_logits(classifier, batch, stepping):
    full = {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}  # then mean pooling is linear
    model = classifier()
    step = stepping(model)
    Given(1.0, layer=-1).training_step(step, model, full)
    plain = model(full["attention_mask"], input_ids=full["input_ids"])["logits"]
    assert torch.allclose(step.logits[0], 0.7 * plain + 0.3 * plain.roll(2, 0), atol=1e-6)
    assert not torch.allclose(step.logits[0], plain, atol=1e-5)


def test_layers_count_from_one_and_from_the_end(classifier):
    model = classifier()
    layers = find_layers(model.backbone)
    found = [find_mixed(model, layer) for layer in (0, 1, 2, -1, -2)]
    expected = [model.get_input_embeddings(), layers[0], layers[1], layers[1], layers[0]]
    assert all(ours is theirs for ours, theirs in zip(found, expected, strict=True))


def test_a_layer_that_runs_several_times_is_an_error():
    widths = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    model = torch.nn.Module()
    model.backbone = AlbertModel(AlbertConfig(vocab_size=30, num_hidden_layers=3, **widths))
    with pytest.raises(ValueError, match=r"layer=-1 cannot be told from the others: they share weights\. Use layer=0"):
        find_mixed(model, -1)


def test_a_pooling_that_reads_several_layers_wants_the_words_mixed(classifier, batch, stepping):
    model = classifier(pooling="last4_max")
    with pytest.raises(ValueError, match=r"layer=1 leaves the layers below unmixed, and the pooling reads them"):
        Mixup(layer=1).training_step(stepping(model), model, batch)
    Mixup(layer=0).training_step(stepping(model), model, batch)


def test_every_text_meets_every_other_and_never_itself(classifier, batch, stepping):
    model, trick = classifier(outputs=8), Mixup(100.0)
    step = stepping(model)
    torch.manual_seed(0)
    for _ in range(60):
        trick.training_step(step, model, {**batch, "labels": torch.arange(8)})
    labels = torch.stack([inputs["labels"] for inputs in step.inputs])  # (60, 8, 8)
    shares = labels.diagonal(dim1=1, dim2=2)
    assert ((shares > 0.3) & (shares < 0.7)).all() and torch.allclose(labels.sum(-1), torch.ones(60, 8))
    assert (labels.sum(0) > 0).all() and ((labels > 0).sum(-1) == 2).all()


def test_chunks_are_an_error(classifier, batch, stepping):
    chunks = {name: tensor.unsqueeze(1) if tensor.dim() == 2 else tensor for name, tensor in batch.items()}
    model = classifier()
    with pytest.raises(ValueError, match="Mixup needs texts that are not cut into chunks"):
        Mixup().training_step(stepping(model), model, chunks)


@LAYERS
def test_a_batch_of_one_is_mixed_with_itself(classifier, batch, stepping, layer):
    model, one = classifier(), {name: tensor[:1] for name, tensor in batch.items()}
    step = stepping(model)
    loss = Mixup(1.0, layer).training_step(step, model, one)
    plain = model(one["attention_mask"], input_ids=one["input_ids"])["logits"]
    assert torch.allclose(loss, F.cross_entropy(plain, one["labels"]))


@LAYERS
@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_it_mixes_in_every_architecture(classifier, backbones, batch, stepping, layer, architecture):
    model = classifier(folder=backbones[architecture])
    step = stepping(model)
    plain = model(batch["attention_mask"], input_ids=batch["input_ids"])["logits"]
    Given(1.0, layer).training_step(step, model, batch)
    assert (step.logits[0] - plain).abs().amax() > 1e-6
    assert all(parameter.grad is not None for parameter in find_layers(model.backbone).parameters())


@LAYERS
@pytest.mark.parametrize("doubled", [False, True])
def test_both_passes_of_rdrop_see_the_same_mixture(
    classifier, batch, compute, stepping, gradients, near, layer, doubled
):
    alone, with_rdrop = classifier(), classifier()  # without dropout its passes are equal
    loss = Given(1.0, layer).training_step(stepping(alone), alone, batch)
    trick = RDrop(1.0, doubled)
    step = stepping(with_rdrop, loss=partial(trick.compute_loss, compute(with_rdrop), with_rdrop))
    same_loss = Given(1.0, layer).training_step(step, with_rdrop, batch)
    assert torch.allclose(loss, same_loss) and trick.disagreement_ < 1e-9
    assert near(gradients(alone), gradients(with_rdrop))
