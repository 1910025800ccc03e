import copy

import pytest
import torch

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import tokenize
from kagglekit.decoders.memory import choose_gpus
from kagglekit.decoders.prediction_memory import place, spread
from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.surgery import find_layers
from kagglekit.training.predict import predict
from tests.decoders.families import FAMILIES

TEXTS = ["the good film", "no", "it was a very old plot, and 1234 poor ends: yes?", ""]


@pytest.fixture
def make(tiny_decoder):
    def made(family, pooling="last_token"):
        torch.manual_seed(0)
        path = tiny_decoder(family)
        return Classifier(load_backbone(path), "softmax", 3, pooling).eval(), load_tokenizer(path)

    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_on_two_devices_predict_as_on_one(family, make):
    """Both are the CPU: each part asks for its inputs on its own device, and the output comes back to the first."""
    model, tokenizer = make(family)
    examples = Examples(tokenize(TEXTS, tokenizer, 32), tokenizer.pad_token_id)
    whole = predict(model, examples, "fp32")
    split = copy.deepcopy(model)
    spread(split, find_layers(split.backbone), [torch.device("cpu"), torch.device("cpu")])
    assert predict(split, examples, "fp32").tolist() == whole.tolist()


@pytest.mark.parametrize("pooling", ["last_token", "weighted_layers"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_second_half_of_the_layers_and_what_follows_are_on_the_second_device(family, pooling, make):
    """ "meta" is the second: it computes shapes. What comes back to the CPU from there has no numbers, an error."""
    model, _ = make(family, pooling)
    layers, seen = find_layers(model.backbone), []
    spread(model, layers, [torch.device("cpu"), torch.device("meta")])
    assert [next(layer.parameters()).device.type for layer in layers] == ["cpu", "meta"]
    assert model.get_input_embeddings().weight.device.type == model.head.weight.device.type == "cpu"
    norm = getattr(model.backbone, "norm", None) or model.backbone.ln_f
    assert norm.weight.device.type == "meta"
    norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].device.type))
    with pytest.raises(NotImplementedError, match="meta"):
        model(torch.ones(2, 4).long(), input_ids=torch.ones(2, 4).long())
    assert seen == ["meta"]


@pytest.mark.parametrize(
    ("needed", "free", "count"),
    [(10, [15.8, 15.8], 1), (15, [15.8, 15.8], 2), (26.5, [15.8, 15.8], 2), (10, [15.8], 1), (10, [3, 15.8], 2)],
)
def test_a_second_gpu_is_taken_where_the_first_is_too_small(needed, free, count):
    assert len(choose_gpus(needed, free)) == count


@pytest.mark.parametrize(("needed", "free"), [(27, [15.8, 15.8]), (14, [15.8])])
def test_weights_that_fit_nowhere_are_refused_with_the_figures(needed, free):
    with pytest.raises(MemoryError, match=rf"the weights take {needed}.0 GB, .* 15.8.* GB are free: set pre"):
        choose_gpus(needed, free)


def test_on_a_cpu_nothing_changes(make):
    model, _ = make("llama")
    assert place(model, find_layers, torch.device("cpu"), "bf16") is model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
