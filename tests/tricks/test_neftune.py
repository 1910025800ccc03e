import pytest
import torch
from torch.utils.checkpoint import checkpoint

from kagglekit.tricks.freelb import FreeLB
from kagglekit.tricks.mixup import Mixup
from kagglekit.tricks.neftune import NEFTune, add_noise, neftune_post_forward_hook
from kagglekit.tricks.rdrop import RDrop

PLAIN_OR_BF16 = pytest.mark.parametrize(
    "options", [{}, {"accumulation": 2, "precision": "bf16"}], ids=["plain", "bf16-accumulated"]
)


def step_of(compute, seen):
    """Forward and backward, and a note of the logits."""

    def step(inputs):
        loss, outputs = compute(inputs)
        loss.backward()
        seen.append(outputs["logits"].detach())
        return loss.detach()

    return step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_is_uniform_within_alpha_by_the_root_of_tokens_times_width(dtype):
    embedded = torch.randn(4, 9, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.manual_seed(0)
    noisy = add_noise(embedded, 5.0)
    torch.manual_seed(0)
    bound = 5.0 / (9 * 16) ** 0.5
    assert torch.allclose(noisy, embedded + torch.empty_like(embedded).uniform_(-bound, bound), atol=1e-6)
    lengths = (noisy - embedded).float().norm(dim=(1, 2))
    assert torch.allclose(lengths, torch.tensor(5 / 3**0.5), rtol=0.15)
    assert add_noise(embedded, 5.0, training=False) is embedded


@pytest.mark.parametrize("training", [True, False])
def test_it_is_what_transformers_does(classifier, batch, compute, training):
    ours, theirs, seen = classifier(dropout=0.1).train(training), classifier(dropout=0.1).train(training), []
    torch.manual_seed(1)
    NEFTune(5.0).training_step(step_of(compute(ours), seen), ours, batch)
    embeddings = theirs.get_input_embeddings()
    embeddings.neftune_noise_alpha = 5.0
    embeddings.register_forward_hook(neftune_post_forward_hook)
    torch.manual_seed(1)
    compute(theirs)(batch)[0].backward()
    torch.manual_seed(1)
    assert torch.equal(seen[0], compute(theirs)(batch)[1]["logits"])
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_neftune_with_zero_alpha_is_plain_training(fitted, weights, same):
    ours, plain = fitted([NEFTune(0.0)], "neftune", dropout=0.1), fitted(folder="plain", dropout=0.1)
    assert same(weights(ours.model), weights(plain.model))


def test_weights_inputs_mode_and_hooks_are_as_before_also_after_an_exception(classifier, batch, compute, weights, same):
    model, inputs = classifier().train(), {name: tensor.clone() for name, tensor in batch.items()}
    before, embeddings = weights(model), model.get_input_embeddings()
    attributes = set(vars(embeddings))

    def broken(inputs):
        raise InterruptedError

    NEFTune().training_step(step_of(compute(model), []), model, batch)
    with pytest.raises(InterruptedError):
        NEFTune().training_step(broken, model, batch)
    assert same(weights(model), before) and same(batch, inputs) and model.training
    assert not embeddings._forward_hooks and set(vars(embeddings)) == attributes


def test_evaluation_between_the_steps_has_no_noise(trainer, batch, compute):
    equal = []

    def evaluation(model):
        model.train()  # even so
        with torch.no_grad():
            one, other = (compute(model)(batch)[1]["logits"] for _ in range(2))
        equal.append(torch.equal(one, other))
        return {"score": 0.0}

    trainer([NEFTune(50.0)], evaluation=evaluation, evaluate_every=4).fit()
    assert equal == [True] * 3


def test_more_noise_moves_the_logits_further(classifier, batch, compute):
    model, seen = classifier().train(), []
    plain = compute(model)(batch)[1]["logits"]
    for alpha in (0.1, 1.0, 10.0):
        torch.manual_seed(0)
        NEFTune(alpha).training_step(step_of(compute(model), seen), model, batch)
    near, middle, far = ((logits - plain).norm() for logits in seen)
    assert 0 < near < 0.5 * middle and middle < far


def test_the_receipt_has_the_mean_bound_of_the_noise(trainer):
    receipt = trainer([NEFTune(3.0)]).fit()["NEFTune"]
    assert receipt["steps"] == 12
    assert 3 / (12 * 16) ** 0.5 <= receipt["mean noise bound"] <= 3 / (3 * 16) ** 0.5  # texts of 3 to 12 tokens
    assert trainer([NEFTune(0.0)], "off").fit()["NEFTune"] == {"steps": 12, "mean noise bound": 0}


@pytest.mark.parametrize("alpha", [-1.0, float("inf"), float("nan")])
def test_an_alpha_out_of_range_is_an_error(alpha):
    with pytest.raises(ValueError, match=r"NEFTune: alpha=.* is out of range: it must be 0 or more"):
        NEFTune(alpha).check()


def test_what_is_computed_again_for_the_backward_pass_has_the_same_noise(classifier, batch, compute):
    found = []
    for again in (False, True):
        model = classifier(dropout=0.1).train()
        plain = compute(model)
        forward = (lambda inputs, plain=plain: checkpoint(plain, inputs, use_reentrant=False)) if again else plain
        torch.manual_seed(0)
        NEFTune(20.0).training_step(step_of(forward, []), model, batch)
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.allclose(*pair, rtol=1e-4, atol=1e-7) for pair in zip(*found, strict=True))


def test_chunks_that_are_encoded_twice_have_the_same_noise(classifier, batch, compute, monkeypatch):
    chunks = {name: tensor.view(4, 2, -1) if tensor.dim() == 2 else tensor[::2] for name, tensor in batch.items()}
    found = []
    for again in (True, False):
        model = classifier(chunk_pooling="mean", chunk_tokens=16).train()  # in several slices
        if not again:
            monkeypatch.setattr("kagglekit.model.classifier.checkpoint", lambda encode, *args, **_: encode(*args))
        torch.manual_seed(0)
        NEFTune(20.0).training_step(step_of(compute(model), []), model, chunks)
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.allclose(*pair, rtol=1e-4, atol=1e-7) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("doubled", [False, True])
def test_the_two_passes_of_rdrop_have_noise_of_their_own(classifier, batch, compute, doubled):
    model, rdrop = classifier().train(), RDrop(1.0, doubled)

    def step(inputs):
        return rdrop.compute_loss(compute(model), model, inputs)[0].detach()

    NEFTune(5.0).training_step(step, model, batch)
    assert rdrop.disagreement_ > 1e-7


def test_frozen_embeddings_get_noise_too(classifier, batch, compute):
    model, seen = classifier().train(), []
    model.get_input_embeddings().requires_grad_(False)
    NEFTune().training_step(step_of(compute(model), seen), model, batch)
    assert not torch.equal(seen[0], compute(model)(batch)[1]["logits"])
    assert model.get_input_embeddings().weight.grad is None


@PLAIN_OR_BF16
@pytest.mark.parametrize("other", [FreeLB, Mixup, RDrop])
@pytest.mark.parametrize("first", ["NEFTune", "other"])
def test_it_goes_with_others_in_either_order(trainer, logged, other, first, options):
    tricks = [NEFTune(), other()] if first == "NEFTune" else [other(), NEFTune()]
    run = trainer(tricks, dropout=0.1, epochs=8, **options)
    assert all(receipt["steps"] > 0 for receipt in run.fit().values())
    losses = torch.tensor(logged(run, "loss"))
    assert losses.isfinite().all() and losses[-6:].mean() < losses[:6].mean()


@PLAIN_OR_BF16
def test_stopped_and_resumed_is_never_stopped(trainer, weights, same, options):
    straight = trainer([NEFTune()], "straight", dropout=0.1, **options)
    receipts = straight.fit()
    trainer([NEFTune()], dropout=0.1, stop=4, **options).train()
    resumed = trainer([NEFTune()], dropout=0.1, **options)
    assert resumed.fit() == receipts and receipts["NEFTune"]["steps"] == 12
    assert same(weights(straight.model), weights(resumed.model))
