"""Fixtures of models: every architecture, logits without dropout, and weights that hide no mistake."""

import numpy as np
import pytest
import torch

from kagglekit.data.chunks import Chunks


@pytest.fixture(params=["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def architecture(request, backbones):
    """The name of a backbone, each in turn."""
    assert request.param in backbones and len(backbones) == 6
    return request.param


@pytest.fixture
def logits():
    """logits(model, inputs): without dropout; labels among the inputs are left out."""

    def run(model, inputs):
        with torch.no_grad():
            return model.eval()(**{name: values for name, values in inputs.items() if name != "labels"})["logits"]

    return run


@pytest.fixture
def gradients():
    """gradients(model, inputs): of all parameters in training mode, those of the learned weights left out."""

    def run(model, inputs):
        model.zero_grad()
        logits = model.train()(**{name: values for name, values in inputs.items() if name != "labels"})["logits"]
        (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        found = {name: parameter.grad for name, parameter in model.named_parameters() if name != "log_variances"}
        return {name: None if gradient is None else gradient.clone() for name, gradient in found.items()}

    return run


@pytest.fixture
def drawn():
    """drawn(model): the same model with all parameters drawn again, away from where they start."""

    def draw(model, seed=1):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return model

    return draw


@pytest.fixture
def chunked(examples):
    """Four texts of 3, 1, 2 and 2 chunks as a batch."""
    return Chunks(examples(rows=8).tokens, np.array([3, 1, 2, 2])).pad(0)
