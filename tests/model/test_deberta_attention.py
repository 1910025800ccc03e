"""The attention of DeBERTa equals that of transformers: outputs, gradients, masks, and what it falls back to."""

import copy
import warnings

import pytest
import torch
from transformers import AutoModel, DebertaV2Config, DebertaV2Model
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta

from kagglekit.device import checkpoint_activations
from kagglekit.model import deberta_attention
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.model.deberta_attention import FastAttention, FastEncoder, _attend, _Chunked, distances, fast_deberta
from kagglekit.model.verbalizer import load_language_model

TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "type_vocab_size": 0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "position_biased_input": False,
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
}
SEPARATE = {"share_att_key": False}
VARIANTS = {  # what differs from the published models
    "published": {},
    "separate keys": SEPARATE,
    "c2p": {"pos_att_type": ["c2p"]},
    "p2c, separate": {"pos_att_type": ["p2c"], **SEPARATE},
    "content alone": {"pos_att_type": []},
    "no buckets": {"position_buckets": -1},
    "few distances": {"position_buckets": -1, "max_relative_positions": 5, **SEPARATE},
    "few buckets": {"position_buckets": 4, "max_relative_positions": 9},
    "no norm": {"norm_rel_ebd": "none"},
    "convolution": {"conv_kernel_size": 3, "conv_act": "gelu"},
    "not relative": {"relative_attention": False, "position_biased_input": True},
    "a string": {"pos_att_type": "p2c|c2p"},
}
SHAPES = {"right": (3, 13), "left": (3, 13), "one text": (1, 9), "one token": (2, 1), "longer than positions": (2, 40)}


@pytest.fixture(params=["cpu", "gpu"])
def ours(request, monkeypatch):
    """The attention of a CPU, and that of a GPU, run on the CPU."""
    monkeypatch.setattr(deberta_attention, "CHUNK", 4000)  # several chunks, the last one smaller
    if request.param == "gpu":
        monkeypatch.setattr(deberta_attention, "_attend_on_cpu", _attend)


def make_pair(seed=0, **options):
    """A model of transformers with weights that are all drawn, and the same one with our attention."""
    torch.manual_seed(seed)
    theirs = DebertaV2Model(DebertaV2Config(**{**TINY, **options})).train()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return theirs, fast_deberta(copy.deepcopy(theirs))


def make_batch(rows, tokens, left=False):
    """Texts that are each three tokens shorter than the one before; the last of three is a text of one token."""
    ids = torch.randint(5, 50, (rows, tokens), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([max(1, tokens - 6 * row) for row in range(rows)])[:, None]
    places = torch.arange(tokens)
    return ids, ((places >= tokens - lengths) if left else (places < lengths)).long()


def run(model, ids, mask, **options):
    """States of real tokens, and the gradient of every weight."""
    states = model(ids, attention_mask=mask, **options).last_hidden_state * mask[..., None]
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    return {"states": states.detach()} | {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_alike(found, wanted, tolerance=1e-5):
    for name, tensor in wanted.items():
        if tensor is None:
            assert found[name] is None, name
        else:
            assert (found[name] - tensor).abs().max() <= tolerance * (1 + tensor.abs().max()), name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_equal_those_of_transformers(ours, variant, shape):
    if variant in ("no buckets", "few distances", "not relative") and shape == "longer than positions":
        shape = "right"  # position embeddings end there
    theirs, fast = make_pair(**VARIANTS[variant])
    assert {type(module) for module in fast.modules()} >= {FastAttention, FastEncoder}
    assert list(fast.state_dict()) == list(theirs.state_dict())
    ids, mask = make_batch(*SHAPES[shape], left=shape == "left")
    assert_alike(run(fast, ids, mask), run(theirs, ids, mask))


def test_a_text_without_tokens_has_numbers_and_changes_no_other(ours):
    _, fast = make_pair()
    ids, mask = make_batch(2, 9)
    empty = torch.cat([mask, torch.zeros(1, 9, dtype=torch.long)])
    states = fast(torch.cat([ids, ids[:1]]), attention_mask=empty).last_hidden_state
    assert states.isfinite().all()
    torch.testing.assert_close(states[:2], fast(ids, attention_mask=mask).last_hidden_state)


def test_gradient_checkpointing_and_frozen_parts_give_the_same_gradients(ours):
    theirs, fast = make_pair()
    checkpoint_activations(fast)
    ids, mask = make_batch(3, 13)
    for model in (theirs, fast):
        for name in ("embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.key_proj.weight"):
            model.get_parameter(name).requires_grad_(False)
    assert_alike(run(fast, ids, mask), run(theirs, ids, mask))


def test_attentions_that_are_asked_for_are_those_of_transformers():
    theirs, fast = make_pair()
    ids, mask = make_batch(3, 13)
    wanted, found = (model(ids, attention_mask=mask, output_attentions=True) for model in (theirs, fast))
    for ours, other in zip(found.attentions, wanted.attentions, strict=True):
        assert torch.equal(ours, other)
    states, pairs = torch.randn(3, 13, 16), torch.ones(3, 13, 13).tril()  # a mask of pairs: what is to the left
    assert torch.equal(fast.encoder(states, pairs)[0], theirs.encoder(states, pairs)[0])


@pytest.mark.parametrize("hidden", [False, True])
def test_dropout_has_the_right_gradient(hidden):
    torch.manual_seed(0)
    tokens, keys, queries = (torch.randn(*shape, dtype=torch.double) for shape in [(3, 2, 2, 4, 3), *2 * [(2, 16, 3)]])
    padding = torch.tensor([[False] * 4, [False, False, True, True]]) if hidden else None

    def attend(*inputs):
        torch.manual_seed(1)
        return _Chunked.apply(*inputs, padding, 0.5, 0.3)

    inputs = [x.requires_grad_() for x in (tokens, keys, queries)]
    assert torch.autograd.gradcheck(attend, inputs, atol=1e-4)


def test_dropout_keeps_the_mean(ours):
    tokens, keys = torch.randn(3, 1, 4000, 3, 2), torch.randn(1, 16, 2)
    tokens[:] = tokens[:, :, :1]  # 4,000 draws of one text
    attend, mask = deberta_attention._attend_on_cpu, torch.ones(4000, 3, dtype=torch.bool)
    plain, dropped = (attend(tokens, (keys, None), mask, 0.5, p).squeeze(0) for p in (0.0, 0.4))
    assert not torch.equal(plain, dropped)
    assert (dropped.mean(dim=0) - plain[0]).abs().max() < 0.1


@pytest.mark.parametrize("buckets, most, span", [(256, 512, 256), (-1, 512, 512), (8, 32, 8), (4, 9, 4)])
@pytest.mark.parametrize("length", [1, 2, 31, 129, 300, 512, 700])
def test_positions_of_distances_are_those_of_transformers(length, buckets, most, span):
    found = distances(length, buckets, most, span, torch.device("cpu"))
    wanted = deberta.build_relative_position(*2 * [torch.empty(length, 1)], buckets, most)[0]
    places = torch.arange(length)
    apart = places[:, None] - places
    assert torch.equal(found.falling[length - 1 - apart] + found.first, (wanted + span).clamp(0, 2 * span - 1))
    assert torch.equal(found.rising[length - 1 + apart] + found.first, (-wanted.T + span).clamp(0, 2 * span - 1))


def test_distances_that_a_prediction_made_can_be_trained_with():
    distances.cache_clear()
    theirs, fast = make_pair()
    ids, mask = make_batch(3, 13)
    with torch.inference_mode():
        fast(ids, attention_mask=mask)
    assert_alike(run(fast, ids, mask), run(theirs, ids, mask))


def test_every_way_to_load_a_model_has_the_fast_attention(backbones, tmp_path):
    folder = backbones["deberta-v2"]
    model = Classifier(load_backbone(folder), "softmax", 3, "mean")
    model.save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    plain = Classifier(AutoModel.from_config(loaded.backbone.config), "softmax", 3, "mean")
    plain.load_state_dict(loaded.state_dict())  # strict: the same names
    for each in (model, loaded, load_language_model(folder)):
        assert sum(type(module) is FastAttention for module in each.modules()) == 2
    ids, mask = make_batch(3, 13)
    found, wanted = (each.eval()(input_ids=ids % 30, attention_mask=mask)["logits"] for each in (loaded, plain))
    torch.testing.assert_close(found, wanted)


class Other(deberta.DisentangledSelfAttention):
    """Attention that somebody else changed."""


@pytest.mark.parametrize("change", ["class", "arguments"])
def test_attention_that_is_not_known_stays_and_a_warning_says_so(monkeypatch, change):
    model = make_pair()[0]
    attention = model.encoder.layer[1].attention.self
    if change == "class":
        attention.__class__ = Other
    else:
        monkeypatch.setattr(deberta.DebertaV2Encoder, "get_rel_pos", lambda self, states: None)
    with pytest.warns(UserWarning, match="slower attention of transformers: .*(Other|get_rel_pos)"):
        fast_deberta(model)
    assert FastAttention not in {type(module) for module in model.modules()}


def test_other_models_are_left_alone_and_twice_is_once(backbones):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bert = load_backbone(backbones["bert"])
        before = [type(module) for module in bert.modules()]
        assert [type(module) for module in fast_deberta(bert).modules()] == before
        _, fast = make_pair()
        before = [type(module) for module in fast.modules()]
        assert [type(module) for module in fast_deberta(fast).modules()] == before


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_float32(ours, precision):
    _, fast = make_pair()
    ids, mask = make_batch(3, 13)
    wanted = run(copy.deepcopy(fast), ids, mask)["states"]
    with torch.autocast("cpu", precision):
        found = run(fast, ids, mask)
    assert (found["states"] - wanted).abs().max() < 0.1 * wanted.abs().max()
    assert all(gradient.isfinite().all() for gradient in found.values() if gradient is not None)
