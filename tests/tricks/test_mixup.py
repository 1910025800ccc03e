import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AlbertConfig, AlbertModel

from kagglekit.model.surgery import find_layers
from kagglekit.tricks.freelb import FreeLB
from kagglekit.tricks.mixup import Mixup, find_mixed, mix, mix_inputs, partners
from kagglekit.tricks.rdrop import RDrop
from kagglekit.tricks.token_masking import TokenMasking

LAYERS = pytest.mark.parametrize("layer", [0, 1, -1])


class Given(Mixup):
    """Mixup whose draws are given: 0.7 of each text and 0.3 of the one two places before it."""

    def training_step(self, step, model, inputs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kagglekit.tricks.mixup.Beta.sample", lambda self: torch.tensor(0.7))
            patch.setattr("torch.randint", lambda *args, **kwargs: torch.tensor(2))
            return super().training_step(step, model, inputs)


@pytest.fixture
def step_of(compute):
    """step_of(model, tricks, seen): forward and backward, with the first seam of tricks around; seen gets (inputs,
    loss, outputs)."""

    def make(model, tricks=(), seen=None, compute_loss=None):
        inner = compute_loss or compute(model)
        for trick in tricks:
            inner = lambda inputs, trick=trick, inner=inner: trick.compute_loss(inner, model, inputs)  # noqa: E731

        def step(inputs):
            loss, outputs = inner(inputs)
            loss.backward()
            if seen is not None:
                seen.append((inputs, loss.detach(), outputs))
            return loss.detach()

        return step

    return make


def gradients(model):
    return [parameter.grad.clone() for parameter in model.parameters()]


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


def test_words_are_mixed_as_embeddings(classifier, batch, step_of):
    model, by_hand, seen = classifier(), classifier(), []
    loss = Given(1.0).training_step(step_of(model, seen=seen), model, batch)
    embedded = by_hand.get_input_embeddings()(batch["input_ids"])
    mask = batch["attention_mask"] | batch["attention_mask"].roll(2, 0)
    logits = by_hand(mask, inputs_embeds=0.7 * embedded + 0.3 * embedded.roll(2, 0))["logits"]
    labels = F.one_hot(batch["labels"], 3).float()
    expected = F.cross_entropy(logits, 0.7 * labels + 0.3 * labels.roll(2, 0))
    expected.backward()
    assert torch.allclose(seen[0][2]["logits"], logits, atol=1e-6) and torch.allclose(loss, expected)
    for ours, theirs in zip(gradients(model), gradients(by_hand), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_states_of_the_last_layer_mix_logits(classifier, batch, step_of):
    full = {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}  # then mean pooling is linear
    model, seen = classifier(), []
    Given(1.0, layer=-1).training_step(step_of(model, seen=seen), model, full)
    plain = model(full["attention_mask"], input_ids=full["input_ids"])["logits"]
    assert torch.allclose(seen[0][2]["logits"], 0.7 * plain + 0.3 * plain.roll(2, 0), atol=1e-6)
    assert not torch.allclose(seen[0][2]["logits"], plain, atol=1e-5)


def test_layers_count_from_one_and_from_the_end(classifier):
    model = classifier()
    layers = find_layers(model.backbone)
    found = [find_mixed(model, layer) for layer in (0, 1, 2, -1, -2)]
    expected = [model.get_input_embeddings(), layers[0], layers[1], layers[1], layers[0]]
    assert all(ours is theirs for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("layer", [3, -3])
def test_a_layer_that_is_not_there_is_an_error(classifier, layer):
    with pytest.raises(ValueError, match=f"Mixup: layer={layer} is out of range: it must be from -2 to 2"):
        find_mixed(classifier(), layer)


def test_a_layer_that_runs_several_times_is_an_error():
    widths = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    model = torch.nn.Module()
    model.backbone = AlbertModel(AlbertConfig(vocab_size=30, num_hidden_layers=3, **widths))
    with pytest.raises(ValueError, match=r"layer=-1 cannot be told from the others: they share weights\. Use layer=0"):
        find_mixed(model, -1)


def test_a_pooling_that_reads_several_layers_wants_the_words_mixed(classifier, batch, step_of):
    model = classifier(pooling="last4_max")
    with pytest.raises(ValueError, match=r"layer=1 leaves the layers below unmixed, and the pooling reads them"):
        Mixup(layer=1).training_step(step_of(model), model, batch)
    Mixup(layer=0).training_step(step_of(model), model, batch)


@LAYERS
def test_mixup_with_zero_alpha_is_plain_training(fitted, weights, same, layer):
    ours, plain = fitted([Mixup(0.0, layer)], "mixup", dropout=0.1), fitted(folder="plain", dropout=0.1)
    assert same(weights(ours.model), weights(plain.model))


@LAYERS
def test_weights_inputs_mode_and_hooks_are_as_before_also_after_an_exception(
    classifier, batch, step_of, weights, same, layer
):
    model, inputs = classifier().train(), {name: tensor.clone() for name, tensor in batch.items()}
    before = weights(model)

    def broken(inputs):
        raise InterruptedError

    Mixup(1.0, layer).training_step(step_of(model), model, batch)
    with pytest.raises(InterruptedError):
        Mixup(1.0, layer).training_step(broken, model, batch)
    assert same(weights(model), before) and same(batch, inputs) and model.training
    assert not any(module._forward_hooks for module in (model.get_input_embeddings(), *find_layers(model.backbone)))


def test_every_text_meets_every_other_and_never_itself(classifier, batch, step_of):
    model, seen, trick = classifier(outputs=8), [], Mixup(100.0)
    torch.manual_seed(0)
    for _ in range(60):
        trick.training_step(step_of(model, seen=seen), model, {**batch, "labels": torch.arange(8)})
    labels = torch.stack([inputs["labels"] for inputs, *_ in seen])  # (60, 8, 8)
    shares = labels.diagonal(dim1=1, dim2=2)
    assert ((shares > 0.3) & (shares < 0.7)).all() and torch.allclose(labels.sum(-1), torch.ones(60, 8))
    assert (labels.sum(0) > 0).all() and ((labels > 0).sum(-1) == 2).all()


@LAYERS
def test_a_model_of_mixtures_is_less_sure(fitted, batch, compute, layer):
    sure = []
    for tricks in ([], [Mixup(1.0, layer)]):
        run = fitted(tricks, f"{tricks}", epochs=10)
        run.model.eval()
        sure.append(compute(run.model)(batch)[1]["logits"].softmax(-1).amax(-1).mean().item())
    assert sure[1] < sure[0] - 0.02


def test_the_receipt_has_the_mean_lambda(trainer):
    receipt = trainer([Mixup(1.0)]).fit()["Mixup"]
    assert receipt["steps"] == 12 and 0.25 < receipt["mean lambda"] < 0.75
    assert trainer([Mixup(0.0)], "off").fit()["Mixup"] == {"steps": 12, "mean lambda": 1}


@pytest.mark.parametrize("alpha", [-0.1, 0.001, float("inf"), float("nan")])
def test_an_alpha_that_cannot_be_drawn_from_is_an_error(alpha):
    with pytest.raises(ValueError, match=r"Mixup: alpha=.* is out of range: it must be 0, or 0.01 or more"):
        Mixup(alpha).check()
    Mixup(0.01).check()


def test_chunks_are_an_error(classifier, batch, step_of):
    chunks = {name: tensor.unsqueeze(1) if tensor.dim() == 2 else tensor for name, tensor in batch.items()}
    model = classifier()
    with pytest.raises(ValueError, match="Mixup needs texts that are not cut into chunks"):
        Mixup().training_step(step_of(model), model, chunks)


@LAYERS
def test_a_batch_of_one_is_mixed_with_itself(classifier, batch, step_of, layer):
    model, one, seen = classifier(), {name: tensor[:1] for name, tensor in batch.items()}, []
    loss = Mixup(1.0, layer).training_step(step_of(model, seen=seen), model, one)
    plain = model(one["attention_mask"], input_ids=one["input_ids"])["logits"]
    assert torch.allclose(loss, F.cross_entropy(plain, one["labels"]))


@LAYERS
@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_it_mixes_in_every_architecture(classifier, backbones, batch, step_of, layer, architecture):
    model, seen = classifier(folder=backbones[architecture]), []
    plain = model(batch["attention_mask"], input_ids=batch["input_ids"])["logits"]
    Given(1.0, layer).training_step(step_of(model, seen=seen), model, batch)
    assert (seen[0][2]["logits"] - plain).abs().amax() > 1e-6
    assert all(parameter.grad is not None for parameter in find_layers(model.backbone).parameters())


@LAYERS
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable")  # its new name is younger than 5.0
@pytest.mark.parametrize("whole", [False, True], ids=["layers", "model"])
def test_what_is_computed_again_for_the_backward_pass_is_mixed_again(classifier, batch, step_of, compute, layer, whole):
    found = []
    for again in (False, True):
        model = classifier().train()
        if again and not whole:
            model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        plain = compute(model)
        forward = (
            (lambda inputs, plain=plain: checkpoint(plain, inputs, use_reentrant=False)) if again and whole else plain
        )
        Given(1.0, layer).training_step(step_of(model, compute_loss=forward), model, batch)
        found.append(gradients(model))
    assert all(torch.allclose(*pair, rtol=1e-4, atol=1e-7) for pair in zip(*found, strict=True))


@LAYERS
@pytest.mark.parametrize("doubled", [False, True])
def test_both_passes_of_rdrop_see_the_same_mixture(classifier, batch, step_of, layer, doubled):
    alone, with_rdrop = classifier(), classifier()  # without dropout its passes are equal
    loss = Given(1.0, layer).training_step(step_of(alone), alone, batch)
    trick = RDrop(1.0, doubled)
    same_loss = Given(1.0, layer).training_step(step_of(with_rdrop, [trick]), with_rdrop, batch)
    assert torch.allclose(loss, same_loss) and trick.disagreement_ < 1e-9
    for ours, theirs in zip(gradients(alone), gradients(with_rdrop), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("first", ["Mixup", "other"])
@pytest.mark.parametrize("other", [FreeLB, RDrop, TokenMasking])
@pytest.mark.parametrize("options", [{}, {"accumulation": 2, "precision": "bf16"}], ids=["plain", "bf16-accumulated"])
def test_it_goes_with_others_in_either_order(trainer, logged, first, other, options):
    tricks = [Mixup(0.2), other()] if first == "Mixup" else [other(), Mixup(0.2)]
    run = trainer(tricks, dropout=0.1, epochs=8, **options)
    run.model.mask_id, run.model.special_ids = 4, (0, 1, 2, 3, 4)
    receipts = run.fit()
    assert all(receipt["steps"] > 0 for receipt in receipts.values())
    losses = torch.tensor(logged(run, "loss"))
    assert losses.isfinite().all() and losses[-6:].mean() < losses[:6].mean()


@pytest.mark.parametrize("doubled", [False, True])
def test_freelb_and_rdrop_and_mixup_go_together(trainer, logged, doubled):
    for name, tricks in (("a", [Mixup(1.0), FreeLB(), RDrop(1.0, doubled)]), ("b", [FreeLB(), RDrop(), Mixup(1.0, 1)])):
        run = trainer(tricks, name, dropout=0.1)
        run.fit()
        assert torch.tensor(logged(run, "loss")).isfinite().all()


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_other_kinds_train_with_it(trainer, kind, logged):
    run = trainer([Mixup(0.2)], kind=kind, epochs=6)
    run.fit()
    losses = logged(run, "loss")
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


@LAYERS
@pytest.mark.parametrize("options", [{}, {"accumulation": 2, "precision": "bf16"}], ids=["plain", "bf16-accumulated"])
def test_stopped_and_resumed_is_never_stopped(trainer, weights, same, layer, options):
    straight = trainer([Mixup(0.4, layer)], "straight", dropout=0.1, **options)
    receipts = straight.fit()
    trainer([Mixup(0.4, layer)], dropout=0.1, stop=4, **options).train()
    resumed = trainer([Mixup(0.4, layer)], dropout=0.1, **options)
    assert resumed.fit() == receipts and receipts["Mixup"]["steps"] == 12
    assert same(weights(straight.model), weights(resumed.model))
