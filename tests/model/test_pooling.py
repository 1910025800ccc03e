import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, BertConfig, LlamaConfig, LlamaForSequenceClassification
from transformers.models.bert.modeling_bert import BertPooler

from kagglekit.model.backbones import quiet
from kagglekit.model.pooling import POOLINGS, make_pooling
from kagglekit.model.pooling.over_tokens import LastToken

WIDTH, LAYERS, TOKENS = 6, 5, 7
PARAMETERS = {  # tensors; attention: two linear layers and a norm; pooler: a linear layer; LSTM, GRU: four a direction
    **dict.fromkeys(["cls", "last_token", "mean", "max", "mean_max", "last4_concat", "last4_max", "all_cls"], 0),
    **{"mask": 0, "gem": 1, "weighted_layers": 1, "pooler": 2, "last4_pooler": 2, "all_cls_cnn": 2, "attention": 6},
    **{"all_cls_lstm": 8, "all_cls_gru": 8, "lstm": 8, "gru": 8, "transformer": 12, "transformer2": 24},
}
TIMES = {"mean_max": 2, "last4_concat": 4, "last4_pooler": 5, "all_cls": LAYERS}  # the width of a token vector
BIASED = {"pooler", "last4_pooler", "all_cls_cnn", "all_cls_lstm", "all_cls_gru"}  # zeros in, not zeros out
BIASED |= {"lstm", "gru", "transformer", "transformer2"}
READ = {name: LAYERS if kind.all_layers else 1 for name, kind in POOLINGS.items()}  # the uppermost layers
READ |= dict.fromkeys(["last4_concat", "last4_max", "last4_pooler"], 4)
NAMES = sorted(POOLINGS)
every = pytest.mark.parametrize("name", NAMES)


def build(name, layers=LAYERS, width=WIDTH):
    torch.manual_seed(0)
    kind = POOLINGS[name]
    pooling = kind(width, layers, BertPooler(BertConfig(hidden_size=width)) if kind.own_pooler else None)
    for parameter in pooling.parameters():  # none of the values that it starts with hides a mistake
        parameter.data += 0.3 * torch.randn_like(parameter)
    return pooling


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(4, TOKENS, WIDTH, generator=generator) for _ in range(LAYERS + 1))


@pytest.fixture
def mask():
    """Full, padded on the right, on the left, and one token."""
    return torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [0] * 3 + [1] * 4, [0, 0, 1, 0, 0, 0, 0]])


def test_the_lists_are_complete():
    assert POOLINGS.keys() == PARAMETERS.keys() == REFERENCES.keys()


@every
def test_it_has_the_width_and_the_parameters_it_claims_and_gradients_reach_all_that_is_read(name, states, mask):
    for state in states:
        state.requires_grad_()
    pooling = build(name)
    pooled = pooling(states, mask)
    assert pooled.shape == (4, pooling.width) and pooling.width == WIDTH * TIMES.get(name, 1)
    assert len(list(pooling.parameters())) == PARAMETERS[name]
    pooled.square().sum().backward()
    for parameter_name, parameter in pooling.named_parameters():
        if parameter_name == "score.3.bias":  # adds the same to every score: softmax does not see it
            assert parameter.grad.abs().max() < 1e-5
        else:
            assert parameter.grad.abs().max() > 0
    for state in states[: -READ[name]]:
        assert state.grad is None  # the embeddings' output among them
    reached = torch.stack([state.grad.abs().sum(dim=-1) for state in states[-READ[name] :]])
    assert (reached.sum(dim=(0, 2)) > 0).all()  # every text,
    if "max" not in name and "cnn" not in name:
        assert (reached.sum(dim=(1, 2)) > 0).all()  # and every layer
    assert (reached[:, mask == 0] == 0).all()


def cls(layers, top=LAYERS):
    return torch.stack([layer[0] for layer in layers[-top:]])  # (layers, width)


def convolved(pooling, layers):
    padded = F.pad(cls(layers).T, (1, 1))
    found = [torch.einsum("oik,ik->o", pooling.cnn.weight, padded[:, k : k + 3]) for k in range(LAYERS)]
    return (torch.stack(found) + pooling.cnn.bias).relu().amax(dim=0)


def both_ends(pooling, layers):
    outputs = pooling.rnn(cls(layers).unsqueeze(0))[0][0]  # (layers, both directions)
    return torch.cat([outputs[-1, : WIDTH // 2], outputs[0, WIDTH // 2 :]])


def mean_of_both_directions(pooling, layers):
    both = nn.LSTM if pooling.kind is nn.LSTM else nn.GRU
    both = both(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)
    for name, theirs in both.named_parameters():
        own = pooling.back if name.endswith("_reverse") else pooling.onward
        theirs.data.copy_(getattr(own, name.removesuffix("_reverse")))
    return both(layers[-1].unsqueeze(0))[0][0].mean(dim=0)


def encoded(pooling, layers):
    """Attention of one head written out, and the feed-forward layer; the norms come first."""
    x = layers[-1]
    for layer in pooling.layers:
        q, k, v = layer.self_attn.in_proj_weight.chunk(3)
        bq, bk, bv = layer.self_attn.in_proj_bias.chunk(3)
        y = layer.norm1(x)
        weights = ((y @ q.T + bq) @ (y @ k.T + bk).T / WIDTH**0.5).softmax(dim=-1)
        x = x + layer.self_attn.out_proj(weights @ (y @ v.T + bv))
        x = x + layer.linear2(F.gelu(layer.linear1(layer.norm2(x))))
    return x.mean(dim=0)


REFERENCES = {  # (the pooling, the real tokens of every layer) -> (width,)
    "cls": lambda pooling, layers: layers[-1][0],
    "mask": lambda pooling, layers: layers[-1][0],  # the first token, unless a pattern says where
    "last_token": lambda pooling, layers: layers[-1][-1],
    "pooler": lambda pooling, layers: pooling.pooler.dense(layers[-1][0]).tanh(),
    "mean": lambda pooling, layers: layers[-1].mean(dim=0),
    "max": lambda pooling, layers: layers[-1].amax(dim=0),
    "mean_max": lambda pooling, layers: torch.cat([layers[-1].mean(dim=0), layers[-1].amax(dim=0)]),
    "attention": lambda pooling, layers: (pooling.score(layers[-1]).softmax(dim=0) * layers[-1]).sum(dim=0),
    "gem": lambda pooling, layers: layers[-1].clamp_min(1e-6).pow(pooling.p).mean(dim=0).pow(1 / pooling.p),
    "weighted_layers": lambda pooling, layers: sum(
        w * x for w, x in zip(pooling.weights.softmax(dim=0), layers, strict=True)
    ).mean(dim=0),
    "last4_concat": lambda pooling, layers: cls(layers, 4).flatten(),
    "last4_max": lambda pooling, layers: cls(layers, 4).amax(dim=0),
    "last4_pooler": lambda pooling, layers: torch.cat(
        [cls(layers, 4).flatten(), pooling.pooler.dense(layers[-1][0]).tanh()]
    ),
    "all_cls": lambda pooling, layers: cls(layers).flatten(),
    "all_cls_cnn": convolved,
    "all_cls_lstm": both_ends,
    "all_cls_gru": both_ends,
    **dict.fromkeys(["lstm", "gru"], mean_of_both_directions),
    **dict.fromkeys(["transformer", "transformer2"], encoded),
}


@every
def test_it_is_what_its_name_says_over_real_tokens(name, states, mask):
    pooling = build(name)
    for row, vector in enumerate(pooling(states, mask)):
        expected = REFERENCES[name](pooling, [state[row, mask[row] == 1] for state in states[1:]])
        assert torch.allclose(vector, expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if not POOLINGS[name].own_pooler])
def test_a_width_is_enough_to_build_it_and_then_one_layer_is_read(name, states, mask):
    pooling = POOLINGS[name](WIDTH)
    assert pooling((states[-1],), mask).shape == (4, pooling.width)
    assert torch.equal(pooling((states[-1],), mask), pooling(states, mask))


@every
@pytest.mark.parametrize("filling", [100.0, torch.nan])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_neither_result_nor_gradient(name, states, side, filling):
    pooling, mask = build(name), torch.ones(4, TOKENS, dtype=torch.long)
    expected = pooling(states, mask)
    more = [(state, torch.full((4, 3, WIDTH), filling)) for state in states]
    masks = [mask, torch.zeros(4, 3, dtype=torch.long)]
    turn = 1 if side == "right" else -1
    padded = pooling(tuple(torch.cat(pair[::turn], dim=1) for pair in more), torch.cat(masks[::turn], dim=1))
    assert torch.allclose(padded, expected, atol=1e-6)
    for parameter in pooling.parameters():
        gradients = [torch.autograd.grad(x.square().sum(), parameter, retain_graph=True)[0] for x in (expected, padded)]
        assert torch.allclose(*gradients, atol=1e-4)


@every
def test_a_batch_of_one_is_its_row_the_mask_has_any_dtype_and_it_is_saved_and_loaded(name, states, mask, tmp_path):
    pooling = build(name)
    pooled = pooling(states, mask)
    for row in range(4):
        alone = pooling(tuple(state[row : row + 1] for state in states), mask[row : row + 1])
        assert torch.allclose(alone[0], pooled[row], atol=1e-6)
    for dtype in (torch.bool, torch.int32, torch.float32):
        assert torch.equal(pooling(states, mask.to(dtype)), pooled)
    save_file(
        {key: value.contiguous() for key, value in pooling.state_dict().items()}, tmp_path / "pooling.safetensors"
    )
    for parameter in pooling.parameters():
        parameter.data.zero_()
    pooling.load_state_dict(load_file(tmp_path / "pooling.safetensors"))
    assert torch.equal(pooling(states, mask), pooled)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("last", ["weights", "normed", "half"])  # a last norm gives float32 on some machines
def test_half_precision_and_autocast_stay_finite_and_close(name, states, mask, dtype, last):
    expected, pooling = build(name)(states, mask), build(name)
    if last == "weights":
        pooled = pooling.to(dtype)(tuple(state.to(dtype) for state in states), mask)
    else:
        mixed = (
            *(state.to(dtype) for state in states[:-1]),
            states[-1].to(torch.float32 if last == "normed" else dtype),
        )
        with torch.autocast("cpu", dtype):
            pooled = pooling(mixed, mask)
    assert pooled.dtype == (torch.float32 if last == "normed" else dtype)
    assert torch.allclose(pooled.float(), expected, atol=0.05)
    pooled.float().square().sum().backward() if PARAMETERS[name] else None
    assert all(torch.isfinite(parameter.grad).all() for parameter in pooling.parameters())


@pytest.mark.parametrize("name", ["mean", "mean_max", "gem", "weighted_layers", "attention"])
def test_many_large_half_precision_numbers_do_not_overflow(name):
    states = tuple(torch.full((1, 512, WIDTH), 300.0, dtype=torch.float16) for _ in range(LAYERS + 1))
    pooled = build(name).half()(states, torch.ones(1, 512))
    assert torch.allclose(pooled.float(), torch.tensor(300.0), rtol=0.01)


@every
@pytest.mark.parametrize("filling", [100.0, torch.nan])
def test_a_text_of_zero_tokens_is_that_of_zeros_with_finite_gradients(name, states, mask, filling):
    pooling = build(name)
    expected = pooling(states, mask)
    mask[1] = 0
    for state in states:
        state[1] = filling
        state.requires_grad_()
    pooled = pooling(states, mask)
    one_zero = tuple(torch.zeros(1, 1, WIDTH) for _ in states)
    of_zeros = pooling(one_zero, torch.ones(1, 1))[0] if name != "gem" else torch.zeros(WIDTH)
    assert torch.allclose(pooled[1], of_zeros, atol=1e-6)
    assert name in BIASED or (pooled[1] == 0).all()
    assert torch.allclose(pooled[[0, 2, 3]], expected[[0, 2, 3]], atol=1e-6)
    pooled.square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in pooling.parameters())
    for state in states[-READ[name] :]:
        assert torch.isfinite(state.grad).all() and (state.grad[1] == 0).all()


@every
def test_a_batch_of_nothing_but_zero_tokens_has_finite_gradients(name, states):
    pooling = build(name)
    states[-1].requires_grad_()
    pooled = pooling(states, torch.zeros(4, TOKENS))
    (pooled - 1).square().sum().backward()
    gradients = [states[-1].grad, *(parameter.grad for parameter in pooling.parameters())]
    assert torch.isfinite(pooled).all() and all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", ["transformer", "transformer2"])
def test_a_new_transformer_starts_as_the_mean(name, states, mask):
    assert torch.allclose(POOLINGS[name](WIDTH)(states, mask), build("mean")(states, mask), atol=1e-6)


def test_the_heads_of_a_transformer_are_64_wide_where_the_width_allows_it():
    heads = [POOLINGS["transformer"](width).layers[0].self_attn.num_heads for width in (768, 384, 312, 16)]
    assert heads == [12, 6, 4, 1]


@pytest.mark.parametrize("name", ["lstm", "gru", "transformer"])
def test_what_predicts_is_what_was_trained_whatever_way_torch_takes_without_gradients(name, mask):
    pooling, mask = build(name, width=128), torch.cat([mask, torch.zeros(1, TOKENS, dtype=torch.long)])
    states = torch.randn(5, TOKENS, 128).masked_fill(
        (mask == 0).unsqueeze(-1), torch.nan
    )  # two heads: torch's fast path
    trained = pooling((states,), mask)
    with torch.inference_mode():
        assert torch.allclose(pooling.eval()((states,), mask), trained, atol=1e-4)


def test_attention_without_scores_is_the_mean(states, mask):
    pooling = build("attention")
    torch.nn.init.zeros_(pooling.score[3].weight)
    assert torch.allclose(pooling(states, mask), build("mean")(states, mask), atol=1e-6)


def test_masks_are_found_from_either_end_wherever_padding_stands(states, mask):
    pooling, last = POOLINGS["mask"](WIDTH, places=[1, -2, 9]), states[-1]
    expected = [[1, 5, 6], [1, 2, 3], [4, 5, 6], [2, 2, 2]]  # of one token all are that one
    assert pooling.width == 3 * WIDTH
    assert torch.equal(pooling(states, mask), torch.stack([last[row, at].flatten() for row, at in enumerate(expected)]))
    assert pooling(states, torch.zeros_like(mask)).eq(0).all()


def test_gem_starts_at_3_and_goes_from_the_mean_to_the_maximum(states, mask):
    pooling = POOLINGS["gem"](WIDTH)
    assert pooling.p.tolist() == [3.0]
    states = tuple(20 * state.abs() for state in states)  # to the power of 200: not in float32, but its logarithm is
    for p, other, rtol in [(1.0, "mean", 1e-4), (200.0, "max", 0.02)]:
        pooling.p.data.fill_(p)
        assert torch.allclose(pooling(states, mask), build(other)(states, mask), rtol=rtol)
    pooling.p.data.fill_(-1.0)  # kept above 0, where the power has no root
    assert torch.isfinite(pooling(states, mask)).all()


def test_weighted_layers_start_as_the_mean_of_all_layers(states, mask):
    layers = torch.stack([build("mean")((state,), mask) for state in states[1:]])
    assert torch.allclose(POOLINGS["weighted_layers"](WIDTH, LAYERS)(states, mask), layers.mean(dim=0), atol=1e-6)


def test_with_fewer_than_four_layers_those_there_are_count(states, mask):
    few = states[:3]
    assert torch.equal(build("last4_concat", layers=2)(few, mask), build("all_cls", layers=2)(few, mask))
    assert build("last4_pooler", layers=2).width == 3 * WIDTH
    assert torch.equal(build("last4_max", layers=2)(few, mask), build("last4_max", layers=2)(few[1:], mask))


def load(folder):
    with quiet():
        return AutoModel.from_pretrained(folder).eval()


@pytest.fixture
def ids():
    return torch.randint(5, 30, (4, TOKENS), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "big_bird"])  # the last two: a bare linear layer
def test_the_own_pooler_moves_from_the_backbone_and_gives_the_same(architecture, ids):
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    options = {**sizes, "vocab_size": 70, "embedding_size": 8, "attention_type": "original_full"}
    torch.manual_seed(0)
    with quiet():
        backbone = AutoModel.from_config(AutoConfig.for_model(architecture, **options)).eval()
    mask, module = torch.ones(4, TOKENS), backbone.pooler
    expected = backbone(input_ids=ids, attention_mask=mask).pooler_output
    pooling = make_pooling("last4_pooler", backbone)
    assert backbone.pooler is None and pooling.pooler is module and pooling.width == 4 * 16
    output = backbone(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    assert torch.allclose(pooling(output.hidden_states, mask)[:, 3 * 16 :], expected, atol=1e-6)
    backbone.pooler = module
    alone = make_pooling("pooler", backbone)
    assert torch.allclose(alone((output.last_hidden_state,), mask), expected, atol=1e-6)


def test_a_backbone_keeps_its_pooler_when_another_pooling_is_made(backbone):
    model = load(backbone)
    make_pooling("mean", model)
    assert model.pooler is not None


def test_layers_of_a_backbone_that_pads_its_tokens_on_count_by_the_mask(ids):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model("big_bird", **sizes, vocab_size=70, block_size=4, num_random_blocks=1)
    with quiet():
        backbone = AutoModel.from_config(config).eval()
    mask = torch.ones(2, 30)
    ids = ids.flatten().repeat(3)[:60].view(2, 30)
    output = backbone(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    assert output.hidden_states[1].shape[1] == 32
    means = torch.stack([state[:, :30].mean(dim=1) for state in output.hidden_states[1:]]).mean(dim=0)
    assert torch.allclose(make_pooling("weighted_layers", backbone)(output.hidden_states, mask), means, atol=1e-6)


def test_an_unknown_pooling_is_an_error_with_those_there_are(backbone):
    with pytest.raises(ValueError, match=r"pooling='sum' must be one of cls, mean, max, attention"):
        make_pooling("sum", load(backbone))


def test_the_last_token_is_the_last_of_the_mask_also_where_it_is_the_pad_token():
    """A decoder whose pad token ends texts too; `LlamaForSequenceClassification` reads the token before it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    own = LlamaForSequenceClassification(LlamaConfig(**sizes, vocab_size=30, pad_token_id=2, eos_token_id=2)).eval()
    ids, mask = torch.tensor([[5, 6, 7, 2], [5, 6, 2, 2]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        states = own.model(ids, mask).last_hidden_state
        assert torch.equal(LastToken(16)((states,), mask), states[[0, 1], [3, 2]])
        logits = own(ids, mask).logits
    assert torch.allclose(logits, own.score(states[[0, 1], [2, 1]]))  # one place early in both rows
    assert (logits - own.score(states[[0, 1], [3, 2]])).abs().min() > 1e-4
    left = torch.tensor([[0, 1, 1, 1]])
    assert torch.equal(LastToken(16)((states[1:],), left), states[1:, 3])
