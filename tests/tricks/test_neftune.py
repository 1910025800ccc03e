import pytest
import torch

from kagglekit.tricks.neftune import NEFTune, add_noise, neftune_post_forward_hook
from kagglekit.tricks.rdrop import RDrop


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
def test_it_is_what_transformers_does(classifier, batch, compute, stepping, training):
    ours, theirs = classifier(dropout=0.1).train(training), classifier(dropout=0.1).train(training)
    step = stepping(ours)
    torch.manual_seed(1)
    NEFTune(5.0).training_step(step, ours, batch)
    embeddings = theirs.get_input_embeddings()
    embeddings.neftune_noise_alpha = 5.0
    embeddings.register_forward_hook(neftune_post_forward_hook)
    torch.manual_seed(1)
    compute(theirs)(batch)[0].backward()
    torch.manual_seed(1)
    assert torch.equal(step.logits[0], compute(theirs)(batch)[1]["logits"])
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


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


def test_chunks_that_are_encoded_twice_have_the_same_noise(classifier, batch, stepping, gradients, near, monkeypatch):
    chunks = {name: tensor.view(4, 2, -1) if tensor.dim() == 2 else tensor[::2] for name, tensor in batch.items()}
    found = []
    for again in (True, False):
        model = classifier(chunk_pooling="mean", chunk_tokens=16).train()  # in several slices
        if not again:
            monkeypatch.setattr(
                "kagglekit.model.pooling.over_chunks.checkpoint", lambda encode, *args, **_: encode(*args)
            )
        torch.manual_seed(0)
        NEFTune(20.0).training_step(stepping(model), model, chunks)
        found.append(gradients(model))
    assert near(*found, atol=1e-7)


@pytest.mark.parametrize("doubled", [False, True])
def test_the_two_passes_of_rdrop_have_noise_of_their_own(classifier, batch, compute, doubled):
    model, rdrop = classifier().train(), RDrop(1.0, doubled)

    def step(inputs):
        return rdrop.compute_loss(compute(model), model, inputs)[0].detach()

    NEFTune(5.0).training_step(step, model, batch)
    assert rdrop.disagreement_ > 1e-7


def test_frozen_embeddings_get_noise_too(classifier, batch, compute, stepping):
    model = classifier().train()
    step = stepping(model)
    model.get_input_embeddings().requires_grad_(False)
    NEFTune().training_step(step, model, batch)
    assert not torch.equal(step.logits[0], compute(model)(batch)[1]["logits"])
    assert model.get_input_embeddings().weight.grad is None
