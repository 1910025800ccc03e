import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.data.batches import EpochSampler, prediction_batches, training_batches

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=300).map(np.array)
BATCH = st.integers(1, 40)
POOL = st.sampled_from([1, 2, 16, 1000])


def tweets(n, seed=0):
    """Lengths as tweets have them: 5 to 60 tokens, most about 20."""
    return np.clip(np.random.default_rng(seed).gamma(5, 4.5, n).round() + 2, 5, 60).astype(int)


@given(LENGTHS, BATCH, st.integers(0, 9), st.integers(0, 3), POOL)
@settings(max_examples=200, deadline=None)
def test_every_row_is_in_exactly_one_of_a_constant_number_of_batches(lengths, batch_size, seed, epoch, pool):
    batches = training_batches(lengths, batch_size, seed, epoch, pool)
    assert len(batches) == -(-len(lengths) // batch_size)
    assert min(map(len, batches)) >= 1
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


@pytest.mark.parametrize("rows", [1, 3, 4, 5])
def test_fewer_rows_than_a_batch_are_one_batch(rows):
    batches = training_batches(np.arange(1, rows + 1), 5, seed=0)
    assert len(batches) == 1 and sorted(batches[0]) == list(range(rows))


@pytest.mark.parametrize("n", [160, 1000])
def test_equal_lengths_give_batches_of_equal_size(n):
    sizes = [len(batch) for batch in training_batches(np.full(n, 7), 16, seed=0)]
    assert max(sizes) - min(sizes) <= 1


def test_batches_have_nearly_equal_tokens():
    lengths = tweets(16 * 16 * 8)
    tokens = np.array([lengths[batch].sum() for batch in training_batches(lengths, 16, seed=0)])
    assert abs(tokens / tokens.mean() - 1).max() < 0.2
    assert tokens.std() / tokens.mean() < 0.1
    plain = np.array([lengths[batch].sum() for batch in training_batches(lengths, 16, seed=0, pool=1)])
    assert tokens.std() < 0.7 * plain.std()


def test_padding_of_tweets_wastes_less_than_six_percent():
    lengths = tweets(4000)
    waste = {}
    for pool in (1, 16):
        batches = training_batches(lengths, 16, seed=0, pool=pool)
        padded = sum(len(batch) * lengths[batch].max() for batch in batches)
        waste[pool] = 1 - lengths.sum() / padded
    assert waste[16] < 0.06 < 0.3 < waste[1]


def test_epochs_and_seeds_differ_and_the_same_ones_do_not():
    lengths = tweets(500)

    def together(seed, epoch):
        return {frozenset(batch.tolist()) for batch in training_batches(lengths, 16, seed, epoch)}

    assert together(0, 0) == together(0, 0)
    for other in (together(0, 1), together(1, 0)):
        assert len(together(0, 0) & other) < 2  # rows meet others, they are not only in another order


def test_long_and_short_batches_come_mixed():
    lengths = tweets(4000)
    longest = np.array([lengths[batch].max() for batch in training_batches(lengths, 16, seed=0)])
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.2
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.2


def test_the_sampler_asks_for_the_epoch_when_iteration_starts():
    lengths, epoch = tweets(50), 0
    sampler = EpochSampler(lengths, 8, seed=3, epoch=lambda: epoch)
    assert len(sampler) == 7
    for epoch in (0, 2, 1):
        expected = [batch.tolist() for batch in training_batches(lengths, 8, 3, epoch)]
        assert list(sampler) == expected


@given(LENGTHS, BATCH, st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_the_processes_share_the_rows_of_every_batch(lengths, batch_size, processes):
    """Each row in exactly one of them; where there are fewer rows than processes, each has one."""
    whole = training_batches(lengths, batch_size, seed=1, epoch=2)
    samplers = [EpochSampler(lengths, batch_size, 1, lambda: 2, process, processes) for process in range(processes)]
    assert all(len(sampler) == len(whole) for sampler in samplers)
    for batch, *shares in zip(whole, *samplers, strict=True):
        sizes = [len(share) for share in shares]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        assert set().union(*shares) == set(batch)
        assert sum(sizes) == max(len(batch), processes)


@given(LENGTHS, st.integers(1, 2000))
@settings(max_examples=100, deadline=None)
def test_prediction_batches_hold_every_row_within_the_budget(lengths, tokens):
    batches = prediction_batches(lengths, tokens)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= tokens for batch in batches)
    order = lengths[np.concatenate(batches)]
    assert (np.diff(order) <= 0).all()


def test_examples_hand_out_rows_with_their_labels(examples):
    rows = examples(rows=9)
    batch = rows.__getitems__([4, 1])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["labels"].tolist() == rows.arrays["labels"][[4, 1]].tolist()
    assert torch.equal(batch["attention_mask"].sum(dim=1), torch.from_numpy(rows.tokens.lengths[[4, 1]]))
