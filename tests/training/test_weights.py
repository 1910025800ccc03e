import pytest
import torch

from kagglekit.training.weights import distance, restored


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
