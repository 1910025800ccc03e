import pytest
import torch
from scipy.stats import binomtest

from kagglekit.pretraining.masking import DynamicMasking, mask_tokens

MASK, VOCABULARY = 4, 1000


@pytest.fixture
def ids():
    return torch.randint(5, VOCABULARY, (200, 500), generator=torch.Generator().manual_seed(0))


def likely(successes, trials, probability):
    return binomtest(int(successes), int(trials), probability).pvalue > 1e-4


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_of_the_chosen_eighty_percent_are_masked_ten_swapped_ten_kept(ids, probability):
    torch.manual_seed(0)
    hidden, chosen = mask_tokens(ids, torch.ones_like(ids, dtype=torch.bool), MASK, VOCABULARY, probability)
    n = chosen.sum()
    masked, kept = chosen & (hidden == MASK), chosen & (hidden == ids)
    swapped = chosen & ~masked & ~kept
    assert likely(n, ids.numel(), probability)
    assert likely(masked.sum(), n, 0.8 + 0.1 / VOCABULARY)  # a random token is sometimes the mask, or the same one
    assert likely(kept.sum(), n, 0.1 + 0.1 / VOCABULARY)
    assert likely(swapped.sum(), n, 0.1 - 0.2 / VOCABULARY)
    assert torch.equal(hidden[~chosen], ids[~chosen])


def test_swapped_tokens_come_from_the_whole_vocabulary(ids):
    torch.manual_seed(0)
    hidden, chosen = mask_tokens(ids, torch.ones_like(ids, dtype=torch.bool), MASK, VOCABULARY, 0.9)
    swapped = hidden[chosen & (hidden != MASK) & (hidden != ids)]
    assert swapped.min() == 0 and swapped.max() == VOCABULARY - 1
    assert likely((swapped < VOCABULARY // 2).sum(), len(swapped), 0.5)


@pytest.mark.parametrize("probability", [0.15, 1.0])
def test_only_where_allowed_can_a_token_be_chosen(ids, probability):
    maskable = ids % 3 == 0
    hidden, chosen = mask_tokens(ids, maskable, MASK, VOCABULARY, probability)
    assert not chosen[~maskable].any() and torch.equal(hidden[~maskable], ids[~maskable])
    assert probability < 1 or chosen[maskable].all()


def test_zero_probability_hides_nothing(ids):
    hidden, chosen = mask_tokens(ids, torch.ones_like(ids, dtype=torch.bool), MASK, VOCABULARY, 0.0)
    assert not chosen.any() and torch.equal(hidden, ids)


def test_each_call_hides_other_tokens_and_a_seed_the_same(ids):
    maskable = torch.ones_like(ids, dtype=torch.bool)
    torch.manual_seed(0)
    first, second = (mask_tokens(ids, maskable, MASK, VOCABULARY)[1] for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(mask_tokens(ids, maskable, MASK, VOCABULARY)[1], first)
    assert not torch.equal(first, second)


def test_the_trick_never_chooses_special_tokens_and_leaves_its_input_alone():
    ids = torch.tensor([[2, 9, 8, 7, 3, 0], [2, 1, 6, 3, 0, 0]])
    before = ids.clone()
    masking = DynamicMasking(MASK, 30, [0, 1, 2, 3, 4], probability=1.0)
    seen = masking.hide({"input_ids": ids, "attention_mask": (ids > 0).long()})
    assert torch.equal(ids, before)
    assert seen["chosen"].tolist() == [
        [False, True, True, True, False, False],
        [False, False, True, False, False, False],
    ]
    assert seen["labels"].tolist() == [9, 8, 7, 6]
    assert torch.equal(seen["attention_mask"], (ids > 0).long())
