"""The state of random numbers, left as it was."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """After the block the generators of Python, numpy and torch (CPU and all GPUs) are where they were before it, also
    after an exception."""
    ours, theirs = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(theirs)
