import random

import numpy as np
import pytest
import torch

from kagglekit.device import random_state_kept


def draw():
    return random.random(), np.random.random(), torch.rand(1).item()


def seed():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


def test_random_numbers_go_on_as_if_the_block_had_not_been():
    seed()
    expected = draw()
    seed()
    with random_state_kept():
        draw()
    assert draw() == expected


def test_they_do_so_after_an_exception():
    seed()
    expected = draw()
    seed()
    with pytest.raises(ZeroDivisionError), random_state_kept():
        draw()
        1 / 0  # noqa: B018
    assert draw() == expected
