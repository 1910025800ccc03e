from contextlib import nullcontext

import pytest
import torch

from kagglekit.model.row_gradients import Rows
from kagglekit.tricks.weights import distance, gradients_aside, gradients_averaged, restored


def test_weights_come_back_bit_for_bit(classifier, weights, same):
    model = classifier()
    before = weights(model)
    with restored(model.parameters()):
        for parameter in model.parameters():
            parameter.data.mul_(1.1).add_(0.1)
        assert not same(weights(model), before)
    assert same(weights(model), before)


def test_weights_come_back_after_an_exception(classifier, weights, same):
    model = classifier()
    before = weights(model)
    with pytest.raises(KeyError), restored(model.parameters()):
        torch.nn.init.zeros_(model.head.weight)
        raise KeyError
    assert same(weights(model), before)


def test_what_does_not_survive_a_sum_comes_back():
    weight = torch.tensor([1e-8, 1.0])
    with restored([weight]):
        weight.add_(1e8)  # subtracting it again would leave 0
    assert weight.tolist() == [torch.tensor(1e-8).item(), 1.0]


def test_restoring_touches_neither_gradients_nor_what_is_not_listed(classifier):
    model = classifier()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    with restored([model.head.weight]):
        model.head.bias.data.fill_(3.0)
        model.head.weight.grad.mul_(2)
    assert torch.equal(model.head.bias, torch.full_like(model.head.bias, 3.0))
    assert torch.equal(model.head.weight.grad, torch.full_like(model.head.weight, 2.0))


def test_distance_is_relative_to_the_norm_of_the_second():
    a, b = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])], [torch.tensor([0.0, 0.0]), torch.tensor([[8.0]])]
    assert distance(a, b).item() == pytest.approx(5 / 8)
    assert distance(b, b).item() == 0


def test_the_block_is_given_the_weights_of_before(classifier):
    weight = classifier().head.weight
    before = weight.detach().clone()
    with restored([weight]) as [saved]:
        weight.data.mul_(2)
        assert torch.equal(saved, before) and not saved.requires_grad


@pytest.mark.parametrize("error", [None, KeyError])
def test_gradients_set_aside_come_back_and_what_was_gathered_meanwhile_is_dropped(error):
    model = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    first, second = model
    first.grad = torch.full((3,), 2.0)
    before = first.grad
    with pytest.raises(error) if error else nullcontext(), gradients_aside(model):
        assert first.grad is None
        (5 * first + 7 * second).sum().backward()
        assert first.grad.tolist() == [5, 5, 5] and second.grad.tolist() == [7, 7, 7]
        if error:
            raise error
    assert first.grad is before and before.tolist() == [2, 2, 2] and second.grad is None


@pytest.mark.parametrize("error", [None, KeyError])
def test_only_the_gradient_that_is_wanted_is_computed_and_what_was_frozen_stays_so(error):
    model = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(3), requires_grad=n != 2) for n in range(3))
    wanted, other, frozen = model
    with pytest.raises(error) if error else nullcontext(), gradients_aside(model, wanted):
        (5 * wanted + 7 * other + frozen).sum().backward()
        assert wanted.grad.tolist() == [5, 5, 5] and other.grad is None
        if error:
            raise error
    assert wanted.grad is None and [p.requires_grad for p in model] == [True, True, False]


@pytest.mark.parametrize("error", [None, KeyError])
def test_rows_that_change_come_back_bit_for_bit(error):
    weight, rows = torch.nn.Parameter(torch.randn(6, 2)), Rows(torch.tensor([1, 4]))
    before = weight.detach().clone()
    with pytest.raises(error) if error else nullcontext(), restored([weight], [rows]) as [saved]:
        assert torch.equal(saved, before[[1, 4]])
        rows.add(weight.data, saved * 1e8)
        rows.put(weight.data, rows.take(weight.data) - 1)
        assert torch.equal(weight[[0, 2, 3, 5]], before[[0, 2, 3, 5]]) and (weight != before).any(dim=1).sum() == 2
        if error:
            raise error
    assert torch.equal(weight, before)


@pytest.mark.parametrize("passes", [1, 2, 3, 5])
def test_averaged_gradients_are_those_of_before_and_a_mean(passes):
    old, new, frozen = (torch.nn.Parameter(torch.ones(3), requires_grad=n != 2) for n in range(3))
    old.grad = torch.full((3,), 0.3)
    with gradients_averaged(torch.nn.ParameterList([old, new, frozen]), passes):
        for number in range(passes):
            ((number + 1) * (old + new)).sum().backward()
    mean = (passes + 1) / 2
    assert torch.allclose(old.grad, torch.tensor(0.3 + mean)) and torch.allclose(new.grad, torch.tensor(mean))
    assert frozen.grad is None


def test_gradients_of_before_keep_their_weight_also_after_an_exception():
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.full((3,), 0.25)
    with pytest.raises(KeyError), gradients_averaged(torch.nn.ParameterList([weight]), 3):
        raise KeyError
    assert weight.grad.tolist() == [0.25, 0.25, 0.25]


def test_averaging_where_nothing_has_a_gradient_is_nothing():
    frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    with gradients_averaged(torch.nn.ParameterList([frozen]), 3):
        pass
    assert frozen.grad is None and frozen.tolist() == [1.0, 1.0, 1.0]
