import pytest
import torch

from kagglekit.tricks.rdrop import RDrop
from kagglekit.tricks.token_masking import TokenMasking, hide_tokens

MASK = 4


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


def test_half_the_words_are_hidden_and_nothing_else(classifier):
    ids = torch.randint(0, 30, (200, 30), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[:, 20:] = 0  # whatever stands there
    seen = hidden_by(TokenMasking(0.5), classifier(), {"input_ids": ids, "attention_mask": mask})
    hidden = seen["input_ids"]
    words = (ids > 4) & (mask == 1)
    assert torch.equal(hidden[~words], ids[~words]) and seen["attention_mask"] is mask
    assert ((hidden == ids) | (hidden == MASK)).all()
    assert 0.45 < (hidden != ids)[words].float().mean() < 0.55


def test_the_receipt_has_the_share_of_words_hidden(trainer):
    receipt = trainer([TokenMasking(0.3)], epochs=10).fit()["TokenMasking"]
    assert receipt["steps"] == 60 and 0.25 < receipt["share of tokens masked"] < 0.35


def test_texts_in_chunks_are_masked_too(classifier):
    ids = torch.full((50, 3, 8), 9)
    ids[:, :, 0], ids[:, 2, 4:] = 2, 0
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    hidden = hidden_by(TokenMasking(0.5), classifier(), inputs)["input_ids"]
    assert hidden.shape == ids.shape and torch.equal(hidden != ids, hidden == MASK)
    assert ((hidden == MASK).sum(dim=0)[ids[0] == 9] > 0).all() and (hidden != MASK)[ids != 9].all()


def test_a_backbone_without_a_mask_token_is_an_error(classifier, batch):
    model = classifier()
    model.mask_id = None
    with pytest.raises(ValueError, match="needs a mask token, and this backbone has none: leave TokenMasking out"):
        hidden_by(TokenMasking(), model, batch)


@pytest.mark.parametrize("doubled", [False, True])
def test_both_passes_of_rdrop_see_the_same_words(classifier, batch, compute, doubled):
    model, rdrop = classifier(), RDrop(1.0, doubled)  # without dropout, its passes are equal if the words are

    def step(inputs):
        return rdrop.compute_loss(compute(model), model, inputs)[0].detach()

    TokenMasking(0.5).training_step(step, model, batch)
    assert rdrop.disagreement_ < 1e-9
