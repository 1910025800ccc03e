import numpy as np
import pytest
import torch

from kagglekit.decoders.halving import Halving, halved, is_out_of_memory, split_batch
from kagglekit.training.predict import predict
from kagglekit.tricks.trick import Trick


class Full(Trick):
    """A device on which the backward pass of more than `room` rows ends without memory, after some gradients."""

    def __init__(self, room, error=torch.OutOfMemoryError):
        self.room, self.error, self.refused = room, error, 0

    def training_step(self, step, model, inputs):
        self.steps_ += 1
        loss = step(inputs)
        if len(inputs["attention_mask"]) > self.room:
            self.refused += 1
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss


def close(ours, theirs):
    return all(torch.allclose(ours[name], theirs[name], atol=2e-4) for name in theirs)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("room", [1, 2])
def test_a_batch_in_parts_takes_the_step_of_the_whole(accumulation, room, fitted, weights, logged, capsys, monkeypatch):
    monkeypatch.setattr(Halving, "said", 1)
    whole = fitted([], "whole", accumulation=accumulation)
    full = Full(room)
    parts = fitted([full], "parts", accumulation=accumulation)
    assert full.refused and parts.halving.parts > 1
    assert close(weights(parts.model), weights(whole.model))
    assert logged(parts, "loss") == pytest.approx(logged(whole, "loss"), abs=1e-3)
    assert logged(parts, "grad_norm") == pytest.approx(logged(whole, "grad_norm"), rel=1e-2, abs=1e-3)
    assert "the memory is too small" in (said := capsys.readouterr().out) and "texts or fewer" in said


def test_later_batches_begin_in_parts_also_after_a_stop(fitted, trainer, weights, same):
    never = Full(2)
    whole = fitted([never], "never", dropout=0.1)
    assert never.refused == 2  # of 12 batches: the first, and the first one that is longer
    fitted([Full(2)], "stopped", dropout=0.1, stop=5)
    again = Full(2)
    resumed = trainer([again], "stopped", dropout=0.1)
    resumed.fit()
    assert again.refused < never.refused and resumed.halving.parts == whole.halving.parts
    assert same(weights(resumed.model), weights(whole.model))


def test_one_row_that_does_not_fit_is_an_error_that_says_what_to_do(fitted):
    with pytest.raises(torch.OutOfMemoryError, match=r"too small for one text of \d+ tokens: shorter texts .*lora"):
        fitted([Full(0)])


def test_other_errors_stay(fitted):
    with pytest.raises(RuntimeError, match=r"^CUDA out of memory\. Tried"):  # not an error of that kind
        fitted([Full(2, RuntimeError)])


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("no"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: ..."), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (MemoryError(), False),
    ],
)
def test_which_errors_are_of_the_memory(error, is_one):
    assert is_out_of_memory(error) == is_one


@pytest.mark.parametrize(("parts", "sizes"), [(1, [5]), (2, [3, 2]), (4, [2, 1, 1, 1]), (8, [1] * 5)])
def test_a_batch_is_split_into_parts_with_their_shares(parts, sizes):
    batch = {"attention_mask": torch.ones(5, 3), "labels": torch.arange(5), "padded": True}
    found = list(split_batch(batch, parts))
    assert [len(part["labels"]) for part, _ in found] == sizes
    assert sum(share for _, share in found) == pytest.approx(1)
    assert torch.cat([part["labels"] for part, _ in found]).tolist() == list(range(5)) and found[0][0]["padded"]


def test_predictions_that_do_not_fit_are_those_of_parts(classifier, examples, monkeypatch):
    model, rows = classifier(), examples()
    whole, forward, sizes = predict(model, rows, "fp32"), model.forward, []

    def full(attention_mask, **inputs):
        sizes.append(len(attention_mask))
        if len(attention_mask) > 5:
            raise torch.OutOfMemoryError("no")
        return forward(attention_mask, **inputs)

    monkeypatch.setattr(model, "forward", full)
    assert np.allclose(predict(model, rows, "fp32"), whole, atol=1e-6) and sizes[:3] == [24, 12, 6]


def test_rows_that_do_not_fit_are_predicted_in_halves():
    def run(rows):
        if len(rows) > 3:
            raise torch.OutOfMemoryError("no")
        return [row * 10 for row in rows]

    assert halved(run, list(range(9))) == [row * 10 for row in range(9)]
    with pytest.raises(torch.OutOfMemoryError, match="too small for one text: shorter texts"):
        halved(lambda rows: run([0] * 4), [1, 2])
