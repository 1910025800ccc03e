"""Vectors of chunks: the same in slices as in one batch, with gradients, and in the memory of one slice."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kagglekit.model.backbones import load_backbone
from kagglekit.model.pooling.over_chunks import encode_chunks

LENGTHS = torch.tensor([[9, 9, 9, 4], [7, 0, 0, 0], [9, 2, 0, 0], [9, 9, 9, 9]])  # tokens of (texts, chunks)


def make_batch(lengths=LENGTHS):
    """Ids and mask (texts, chunks, tokens) of chunks of these lengths."""
    mask = (torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)).long()
    ids = torch.randint(5, 30, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    return ids, mask


@pytest.fixture
def make_encoder(backbones):
    """make_encoder(dropout, name): a function from chunks to mean vectors, and the backbone in it."""

    def make(dropout=0.0, name="bert"):
        backbone = load_backbone(backbones[name], dropout, "eager").train()

        def encode(ids, mask):
            name = "input_ids" if ids.dim() == 2 else "inputs_embeds"
            hidden = backbone(**{name: ids}, attention_mask=mask).last_hidden_state  # (chunks, tokens, width)
            return (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)

        return encode, backbone

    return make


def gradients(backbone, loss):
    backbone.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


def test_vectors_are_those_of_each_chunk_alone_and_zero_where_there_is_none(make_encoder):
    encode, _ = make_encoder()
    ids, mask = make_batch()
    vectors, chunk_mask = encode_chunks(encode, ids, mask, 10_000)
    assert torch.equal(chunk_mask, (LENGTHS > 0).long())
    for row, counts in enumerate(LENGTHS.tolist()):
        for number, n in enumerate(counts):
            expected = encode(ids[row, number, :n][None], mask[row, number, :n][None])[0] if n else torch.zeros(16)
            torch.testing.assert_close(vectors[row, number], expected, atol=1e-6, rtol=0)


def test_texts_of_one_chunk_are_plain_encoding_bit_for_bit(make_encoder):
    encode, _ = make_encoder(dropout=0.1)
    ids, mask = make_batch(torch.tensor([[9], [3], [6]]))
    torch.manual_seed(1)
    plain = encode(ids[:, 0], mask[:, 0])
    torch.manual_seed(1)
    vectors, _ = encode_chunks(encode, ids, mask, 27)
    assert torch.equal(vectors[:, 0], plain)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "modernbert", "distilbert"])
@pytest.mark.parametrize("budget", [1, 20, 40])
def test_slices_give_the_vectors_and_gradients_of_one_batch(make_encoder, name, budget):
    encode, backbone = make_encoder(name=name)
    ids, mask = make_batch()
    whole, _ = encode_chunks(encode, ids, mask, 10_000)
    expected = gradients(backbone, whole.square().sum())
    sliced, _ = encode_chunks(encode, ids, mask, budget)
    torch.testing.assert_close(sliced, whole, atol=1e-6, rtol=0)
    found = gradients(backbone, sliced.square().sum())
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(found[key], expected[key], atol=1e-5, rtol=1e-5)


def test_every_chunk_has_a_gradient_also_with_frozen_embeddings(make_encoder):
    encode, backbone = make_encoder()
    backbone.get_input_embeddings().requires_grad_(False)
    ids, mask = make_batch()
    embedded = backbone.get_input_embeddings()(ids).requires_grad_()  # (texts, chunks, tokens, width)
    vectors, _ = encode_chunks(encode, embedded, mask, 20)
    weights = torch.arange(16.0)  # a layer norm's output has no gradient under equal weights
    gradients(backbone, (vectors * weights).sum())
    reached = embedded.grad.abs().sum(dim=-1) > 0  # (texts, chunks, tokens)
    assert torch.equal(reached, mask.bool())
    assert torch.equal(vectors, encode_chunks(encode, backbone.get_input_embeddings()(ids), mask, 20)[0])


def test_dropout_is_the_same_in_the_forward_and_the_backward_pass(make_encoder, monkeypatch):
    encode, backbone = make_encoder(dropout=0.3)
    found = []
    for again in (True, False):  # encoded again in the backward pass, or remembered
        if not again:
            monkeypatch.setattr("kagglekit.model.pooling.over_chunks.checkpoint", lambda f, *args, **_: f(*args))
        torch.manual_seed(0)
        vectors, _ = encode_chunks(encode, *make_batch(), 20)
        state = torch.get_rng_state()
        found.append({"vectors": vectors.detach(), **gradients(backbone, vectors.square().sum())})
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[1])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_encoded_twice(make_encoder, context):
    encode, _ = make_encoder()
    ids, mask = make_batch()
    sizes = []

    def counted(*part):
        sizes.append(part[0].numel())
        return encode(*part)

    with context():
        vectors, _ = encode_chunks(counted, ids, mask, 20)
    assert not vectors.requires_grad
    assert max(sizes) <= 20 and sum(sizes) < ids.numel()  # empty chunks and what is padded are not encoded


def test_slices_hold_chunks_of_like_length_and_are_trimmed(make_encoder):
    encode, _ = make_encoder()
    shapes = []

    def counted(*part):
        shapes.append(tuple(part[0].shape))
        return encode(*part)

    encode_chunks(counted, *make_batch(), 27)
    assert shapes == [(2, 4), (3, 9), (3, 9), (3, 9)]


def test_a_hole_in_the_mask_and_padding_on_the_left_lose_no_token(make_encoder):
    encode, _ = make_encoder()
    ids, mask = make_batch(torch.tensor([[6, 6]]))
    mask[0, 0, 2], mask[0, 1, :2] = 0, 0
    vectors, _ = encode_chunks(encode, ids, mask, 6)
    torch.testing.assert_close(vectors[0], encode(ids[0], mask[0]), atol=1e-6, rtol=0)


def test_a_batch_of_empty_texts_is_zero(make_encoder):
    encode, _ = make_encoder()
    vectors, chunk_mask = encode_chunks(
        encode, *make_batch(torch.tensor([[1, 1], [1, 1]]))[:1], torch.zeros(2, 2, 1), 9
    )
    assert torch.equal(vectors, torch.zeros(2, 2, 16)) and torch.equal(chunk_mask, torch.zeros(2, 2))


def test_vectors_in_mixed_precision_have_their_gradients(make_encoder):
    encode, backbone = make_encoder()
    ids, mask = make_batch()
    found = []
    for budget in (10_000, 20):
        with torch.autocast("cpu", torch.bfloat16):
            vectors, _ = encode_chunks(encode, ids, mask, budget)
        found.append(gradients(backbone, vectors.float().square().sum()))
    largest = max(grad.abs().max() for grad in found[0].values())
    for key in found[0]:
        torch.testing.assert_close(found[1][key], found[0][key], atol=0.02 * float(largest), rtol=0.05)


class Memory(TorchDispatchMode):
    """The most bytes that tensors made while it is active held at once."""

    def __init__(self):
        super().__init__()
        self.held, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known:
                    self.known.add(key)
                    self.held += size
                    weakref.finalize(storage, self.free, key, size)
        self.peak = max(self.peak, self.held)
        return result

    def free(self, key, size):
        self.known.discard(key)
        self.held -= size


def step_memory(encode, backbone, texts, budget):
    ids, mask = make_batch(torch.full((texts, 4), 32))
    backbone.zero_grad()
    with Memory() as memory:
        encode_chunks(encode, ids, mask, budget)[0].square().sum().backward()
    return memory.peak


def test_memory_is_that_of_one_slice_however_many_chunks_there_are(make_encoder):
    encode, backbone = make_encoder()
    one = step_memory(encode, backbone, 1, 10_000)
    assert step_memory(encode, backbone, 8, 10_000) > 6 * one
    assert step_memory(encode, backbone, 8, 4 * 32) < 1.3 * one
