import pytest
import torch

from kagglekit.tricks.fgm import FGM
from kagglekit.tricks.freelb import FreeLB
from kagglekit.tricks.rdrop import RDrop
from kagglekit.tricks.token_masking import TokenMasking, hide_tokens

MASK, SPECIAL = 4, (0, 1, 2, 3, 4)
PLAIN_OR_BF16 = pytest.mark.parametrize(
    "options", [{}, {"accumulation": 2, "precision": "bf16"}], ids=["plain", "bf16-accumulated"]
)


@pytest.fixture
def run_of(trainer):
    """run_of(tricks, folder, **options): a trainer whose model knows its mask token."""

    def make(*args, **options):
        run = trainer(*args, **options)
        run.model.mask_id, run.model.special_ids = MASK, SPECIAL
        return run

    return make


@pytest.fixture
def model(classifier):
    made = classifier()
    made.mask_id, made.special_ids = MASK, SPECIAL
    return made


def hidden_by(trick, model, inputs):
    """What the trick lets through."""
    seen = []
    trick.training_step(lambda inputs: seen.append(inputs) or torch.tensor(0.0), model, inputs)
    return seen[0]


@pytest.mark.parametrize("shape", [(7, 9), (3, 4, 5)])
def test_each_maskable_token_is_hidden_where_its_number_is_low(shape):
    ids = torch.arange(torch.Size(shape).numel()).view(shape)
    maskable = ids % 3 > 0
    torch.manual_seed(0)
    hidden, chosen = hide_tokens(ids, maskable, -1, 0.3)
    torch.manual_seed(0)
    expected = maskable & (torch.rand(shape) < 0.3)
    assert torch.equal(chosen, expected) and torch.equal(hidden, torch.where(expected, -1, ids))


def test_half_the_words_are_hidden_and_nothing_else(model):
    ids = torch.randint(0, 30, (200, 30), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[:, 20:] = 0  # whatever stands there
    hidden = hidden_by(TokenMasking(0.5), model, {"input_ids": ids, "attention_mask": mask})["input_ids"]
    words = (ids > 4) & (mask == 1)
    assert torch.equal(hidden[~words], ids[~words])
    assert ((hidden == ids) | (hidden == MASK)).all()
    assert 0.45 < (hidden != ids)[words].float().mean() < 0.55


def test_token_masking_with_zero_probability_is_plain_training(run_of, weights, same):
    ours = run_of([TokenMasking(0.0)], "masked", dropout=0.1)
    ours.fit()
    plain = run_of([], "plain", dropout=0.1)
    plain.fit()
    assert same(weights(ours.model), weights(plain.model))


def test_weights_inputs_and_mode_are_as_before_also_after_an_exception(model, batch, weights, same):
    inputs, before = {name: tensor.clone() for name, tensor in batch.items()}, weights(model)
    seen = hidden_by(TokenMasking(0.5), model.train(), batch)

    def broken(inputs):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        TokenMasking(0.5).training_step(broken, model, batch)
    assert same(batch, inputs) and same(weights(model), before) and model.training
    assert all(seen[name] is batch[name] for name in ("attention_mask", "labels"))


def test_less_of_the_text_is_a_higher_loss(run_of, compute, batch):
    run = run_of(epochs=12)
    run.train()
    losses = []
    with torch.no_grad():
        for probability in (0.0, 0.3, 0.9):
            torch.manual_seed(0)
            draws = [hidden_by(TokenMasking(probability), run.model, batch) for _ in range(20)]
            losses.append(sum(compute(run.model)(inputs)[0] for inputs in draws))
    assert losses[0] < losses[1] < losses[2]


def test_the_receipt_has_the_share_of_words_hidden(run_of):
    receipt = run_of([TokenMasking(0.3)], epochs=10).fit()["TokenMasking"]
    assert receipt["steps"] == 60 and 0.25 < receipt["share of tokens masked"] < 0.35


def test_texts_in_chunks_are_masked_too(model):
    ids = torch.full((50, 3, 8), 9)
    ids[:, :, 0], ids[:, 2, 4:] = 2, 0
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    hidden = hidden_by(TokenMasking(0.5), model, inputs)["input_ids"]
    assert hidden.shape == ids.shape and torch.equal(hidden != ids, hidden == MASK)
    assert ((hidden == MASK).sum(dim=0)[ids[0] == 9] > 0).all() and (hidden != MASK)[ids != 9].all()


def test_a_backbone_without_a_mask_token_is_an_error(model, batch):
    model.mask_id = None
    with pytest.raises(ValueError, match="needs a mask token, and this backbone has none: leave TokenMasking out"):
        hidden_by(TokenMasking(), model, batch)


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_a_probability_out_of_range_is_an_error(probability):
    with pytest.raises(ValueError, match=r"TokenMasking: probability=.* must be from 0 to below 1"):
        TokenMasking(probability).check()


@pytest.mark.parametrize("doubled", [False, True])
def test_both_passes_of_rdrop_see_the_same_words(model, batch, compute, doubled):
    rdrop = RDrop(1.0, doubled)  # without dropout, its passes are equal if the words are

    def step(inputs):
        return rdrop.compute_loss(compute(model), model, inputs)[0].detach()

    TokenMasking(0.5).training_step(step, model, batch)
    assert rdrop.disagreement_ < 1e-9


@PLAIN_OR_BF16
@pytest.mark.parametrize("other", [FGM, FreeLB, RDrop])
@pytest.mark.parametrize("first", ["TokenMasking", "other"])
def test_it_goes_with_others_in_either_order(run_of, logged, other, first, options):
    tricks = [TokenMasking(), other()] if first == "TokenMasking" else [other(), TokenMasking()]
    run = run_of(tricks, dropout=0.1, epochs=6, **options)
    assert all(receipt["steps"] > 0 for receipt in run.fit().values())
    losses = torch.tensor(logged(run, "loss"))
    assert losses.isfinite().all() and losses[-6:].mean() < losses[:6].mean()


@PLAIN_OR_BF16
def test_stopped_and_resumed_is_never_stopped(run_of, weights, same, options):
    straight = run_of([TokenMasking(0.3)], "straight", dropout=0.1, **options)
    receipts = straight.fit()
    run_of([TokenMasking(0.3)], dropout=0.1, stop=4, **options).train()
    resumed = run_of([TokenMasking(0.3)], dropout=0.1, **options)
    assert resumed.fit() == receipts and receipts["TokenMasking"]["steps"] == 12
    assert same(weights(straight.model), weights(resumed.model))
