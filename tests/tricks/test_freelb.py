import pytest
import torch

from kagglekit.tricks.freelb import FreeLB, embeddings_moved, noise
from kagglekit.tricks.pgd import climb

STILL = {"alpha": 0.0, "magnitude": 0.0}


def lengths(moves):
    return moves.flatten(1).norm(dim=1)


def test_noise_is_uniform_relative_to_the_size_of_each_text_and_none_on_padding():
    mask = torch.zeros(3, 500, dtype=torch.long)
    mask[0], mask[1, :100], mask[2, 250:] = 1, 1, 1
    moves = noise(mask, 8, 0.6)
    for move, real in zip(moves, mask.bool(), strict=True):
        bound = 0.6 / (real.sum() * 8) ** 0.5
        assert torch.equal(move[~real], torch.zeros_like(move[~real]))
        assert move.abs().max() <= bound and move.abs().max() > 0.98 * bound
        assert move.norm().item() == pytest.approx(0.6 / 3**0.5, rel=0.05) and abs(move.mean()) < 0.02 * bound


def test_noise_leaves_the_random_state_alone_and_is_that_of_its_generator():
    state, mask = torch.get_rng_state(), torch.ones(2, 3)
    one, other = (noise(mask, 4, 1.0, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, other) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("knobs", [{"epsilon": 0.0, "magnitude": 0.5}, {"steps": 3, **STILL}], ids=str)
def test_the_gradient_is_the_plain_one_where_nothing_moves(classifier, batch, stepping, gradients, near, knobs):
    model, plain = classifier(), classifier()
    FreeLB(**knobs).training_step(stepping(model), model, batch)
    stepping(plain)(batch)
    assert near(gradients(model), gradients(plain), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("steps", "epsilon"), [(1, 1.0), (2, 1.0), (3, 0.15), (4, 1.0)])
def test_the_gradient_is_the_mean_over_all_points(
    classifier, batch, compute, stepping, gradients, near, steps, epsilon
):
    model, by_hand = classifier(), classifier()
    returned = FreeLB(steps, 0.1, epsilon, 0.0).training_step(stepping(model), model, batch)
    embedded = by_hand.get_input_embeddings()(batch["input_ids"]).detach()
    delta, losses = torch.zeros_like(embedded, requires_grad=True), []
    for _ in range(steps):
        with by_hand.get_input_embeddings().register_forward_hook(lambda _, __, out, delta=delta: out + delta):
            loss = compute(by_hand)(batch)[0] / steps
        loss.backward()
        losses.append(loss.item())
        delta = torch.stack(
            [climb(move, gradient, 0.1, epsilon) for move, gradient in zip(delta.detach(), delta.grad, strict=True)]
        ).requires_grad_()
    assert near(gradients(model), gradients(by_hand), atol=1e-7)
    assert returned.item() == pytest.approx(sum(losses))


def test_gradients_gathered_before_count_in_full(classifier, batch, stepping, gradients, near):
    model, plain = classifier(), classifier()
    stepping(model)(batch)
    before = [gradient.clone() for gradient in gradients(model)]
    for one in (model, plain):
        FreeLB(magnitude=0.0).training_step(stepping(one), one, batch)
    sums = [first + mean for first, mean in zip(before, gradients(plain), strict=True)]
    assert near(gradients(model), sums, rtol=1e-5, atol=1e-7)


def test_nothing_is_left_behind_with_dropout(classifier, batch, weights, same, stepping):
    model, inputs = classifier(dropout=0.1).train(), {name: tensor.clone() for name, tensor in batch.items()}
    before, trick = weights(model), FreeLB(magnitude=0.0)
    torch.manual_seed(3)
    stepping(model)(batch)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    trick.training_step(stepping(model), model, batch)
    assert torch.equal(torch.get_rng_state(), state)  # what one pass leaves
    assert same(weights(model), before) and same(batch, inputs) and model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert set(trick.state_dict()) == {"steps_", "norm_"}


def test_each_text_moves_by_itself_padding_does_not_and_none_leaves_the_ball(classifier, batch, stepping):
    model = classifier()
    step = stepping(model)
    FreeLB(4, 0.1, 0.25, 0.2).training_step(step, model, batch)
    clean = model.get_input_embeddings()(batch["input_ids"]).detach()
    moves = [seen - clean for seen in step.embedded]
    real = batch["attention_mask"].bool()
    for move in moves:
        assert torch.equal(move[~real], torch.zeros_like(move[~real])) and (lengths(move) < 0.2501).all()
    assert (lengths(moves[0]) > 0.07).all() and (lengths(moves[0]) < 0.2).all()
    assert torch.allclose(lengths(moves[1] - moves[0]), torch.tensor(0.1), rtol=1e-3)
    assert torch.allclose(lengths(moves[3]), torch.tensor(0.25), rtol=1e-3)
    alone = {name: tensor[2:4] for name, tensor in batch.items()}
    two, steps = stepping(model), FreeLB(2, 0.1, 1.0, 0.0)
    for inputs in (batch, alone):
        steps.training_step(two, model, inputs)
    assert torch.allclose(two.embedded[1][2:4], two.embedded[3], atol=1e-6)  # whoever else is in the batch


@pytest.mark.parametrize("name", ["roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_every_backbone_is_moved_where_it_reads_words_and_not_where_it_reads_padding(
    classifier, batch, stepping, backbones, name
):
    model = classifier(folder=backbones[name])
    step = stepping(model)
    FreeLB(magnitude=0.0).training_step(step, model, batch)
    assert step.losses == sorted(set(step.losses)) and len(step.losses) == 3
    moved = (step.embedded[2] != step.embedded[0]).any(dim=-1)
    assert torch.equal(moved, batch["attention_mask"].bool())


def test_all_passes_see_the_same_dropout(classifier, batch, stepping):
    model = classifier(dropout=0.3).train()
    torch.manual_seed(0)
    still, other = stepping(model), stepping(model)
    FreeLB(3, 0.0, 1.0, 0.3).training_step(still, model, batch)  # the noise is there from the first pass on
    FreeLB(3, 0.0, 1.0, 0.3).training_step(other, model, batch)
    assert len(set(still.losses)) == len(set(other.losses)) == 1 and still.losses != other.losses


@pytest.mark.parametrize("magnitude", [0.0, 0.3])
def test_a_batch_that_is_doubled_inside_and_passes_within_a_pass_get_what_fits(classifier, batch, compute, magnitude):
    model, seen = classifier(), []
    doubled = {name: torch.cat([tensor, tensor]) for name, tensor in batch.items()}

    def step(inputs):
        note = model.get_input_embeddings().register_forward_hook(lambda _, __, output: seen.append(output.detach()))
        loss = compute(model)(doubled)[0] + compute(model)(doubled)[0]
        note.remove()
        loss.backward()
        return loss.detach()

    FreeLB(2, 0.1, 1.0, magnitude).training_step(step, model, batch)
    clean = model.get_input_embeddings()(doubled["input_ids"]).detach()
    moves = [embedded - clean for embedded in seen]
    assert torch.equal(moves[0], moves[1]) and torch.equal(moves[2], moves[3])  # both passes within one
    assert torch.allclose(lengths(moves[2] - moves[0]), torch.tensor(0.1), rtol=1e-3)
    assert not any(move[doubled["attention_mask"] == 0].any() for move in moves)


@pytest.mark.parametrize("passes", [1, 2])
def test_chunks_in_slices_that_are_computed_again_have_each_their_own(classifier, compute, gradients, near, passes):
    """Several calls of the embeddings in a pass, which the backward pass repeats in another order."""
    generator, results, calls = torch.Generator().manual_seed(0), [], []
    lengths = torch.tensor([[6, 6, 2], [6, 4, 0], [5, 0, 0], [6, 6, 6]])  # (texts, chunks)
    mask = (torch.arange(6) < lengths.unsqueeze(-1)).long()
    ids = torch.randint(5, 30, mask.shape, generator=generator) * mask
    chunked = {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2, 0])}
    for budget in (1000, 12):
        model = classifier(chunk_pooling="mean", chunk_tokens=budget)
        model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))

        def step(inputs, model=model):
            loss = sum(compute(model)(inputs)[0] for _ in range(passes))
            loss.backward()
            return loss.detach()

        calls.clear()
        trick = FreeLB(3, 0.3, 1.0, 0.0)
        results.append([trick.training_step(step, model, chunked), trick.norm_, *gradients(model)])
    assert len(calls) == 3 * passes * (5 + 4)  # five slices, of which four are computed again
    assert near(*results)


def test_what_a_trick_looks_up_between_passes_is_not_moved(classifier, batch):
    model = classifier()
    with embeddings_moved(model, lambda ids, embedded: torch.ones_like(embedded)) as deltas:
        model(batch["attention_mask"], input_ids=batch["input_ids"])
        other = torch.tensor([[5, 6]])
        looked = model.get_input_embeddings()(other)
    assert torch.equal(looked, model.get_input_embeddings()(other)) and len(deltas) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_text_whose_gradient_is_not_finite_is_not_moved_and_the_others_are(classifier, batch, stepping, value):
    model, trick = classifier(), FreeLB()

    def spoil(gradient):
        gradient = gradient.clone()
        gradient[2, 1, 0] = value
        return gradient

    def spoiled(module, inputs, output):
        output.register_hook(spoil)

    plain = stepping(model)

    def step(inputs):
        hook = model.get_input_embeddings().register_forward_hook(spoiled)
        loss = plain(inputs)
        hook.remove()
        return loss

    trick.training_step(step, model, batch)
    first, _, last = plain.embedded
    still = torch.tensor([torch.equal(*rows) for rows in zip(first, last, strict=True)])
    assert still.nonzero().flatten().tolist() == [2] and last.isfinite().all() and torch.isfinite(trick.norm_)


@pytest.mark.parametrize("frozen", ["embeddings", "backbone"])
def test_frozen_weights_stay_without_gradient_and_the_loss_rises_all_the_same(classifier, batch, stepping, frozen):
    model = classifier()
    part = model.get_input_embeddings() if frozen == "embeddings" else model.backbone
    part.requires_grad_(False)
    step = stepping(model)
    FreeLB(magnitude=0.0).training_step(step, model, batch)
    assert step.losses == sorted(set(step.losses)) and len(step.losses) == 3
    assert all(parameter.grad is None for parameter in part.parameters())


def test_noise_does_not_wait_for_the_device():
    assert noise(torch.ones(2, 3, device="meta"), 4, 1.0).shape == (2, 3, 4)
