from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import AutoConfig, GPT2Model, masking_utils

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import tokenize
from kagglekit.decoders.causal import Prefix, is_causal, move_left, shared_prefix
from kagglekit.decoders.packed_weights import missing_package
from kagglekit.device import not_a_number, padding_known
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.pooling import POOLINGS, choose_pooling
from kagglekit.training.predict import predict
from tests.decoders.families import FAMILIES, make_bpe

REAL = pytest.param("smollm2", marks=pytest.mark.skipif(bool(missing_package("smollm2-135m")), reason="not installed"))
BOTH = [*FAMILIES, REAL]
TEXTS = ["the good film", "no", "it was a very old plot, and 1234 poor ends: yes?", "", "sad", "fun! fun!", "B", "C D"]


@pytest.fixture
def make(tiny_decoder):
    """make(family, pad): a classifier around a decoder, in float32, and its tokenizer."""

    def made(family, pad="own", pooling="last_token", attention=None, **options):
        path = find_backbone("smollm2-135m") if family == "smollm2" else tiny_decoder(family, pad)
        torch.manual_seed(0)
        model = Classifier(load_backbone(path, attention=attention), "softmax", 3, pooling, **options)
        for weight in (one for one in model.head.parameters() if one.dim() > 1):
            torch.nn.init.normal_(weight, std=0.05)
        return model.eval(), load_tokenizer(path)

    return made


@torch.inference_mode()
def logits(model, tokens, pad_id, side="right", room=0):
    """Of a batch that is padded on a side, by `room` more columns than it needs."""
    batch = tokens.pad(pad_id)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    extra = ids.new_full((len(ids), room), pad_id), mask.new_zeros(len(ids), room)
    ids, mask = torch.cat([ids, extra[0]], 1), torch.cat([mask, extra[1]], 1)
    if side == "left":
        rows = [(row[seen == 1], row[seen == 0]) for row, seen in zip(ids, mask, strict=True)]
        ids, mask = torch.stack([torch.cat([pad, text]) for text, pad in rows]), mask.flip(1)
    return model(mask, input_ids=ids)["logits"]


@pytest.mark.parametrize("family", BOTH)
def test_a_text_is_read_the_same_alone_in_a_batch_and_with_padding_on_either_side(family, make):
    model, tokenizer = make(family)
    tokens = tokenize(TEXTS, tokenizer, 32)
    alone = torch.cat([logits(model, tokens[[row]], tokenizer.pad_token_id) for row in range(len(TEXTS))])
    assert alone.std(dim=0).min() > 1e-3 and alone.isfinite().all()
    for side, room in (("right", 0), ("right", 3), ("left", 0), ("left", 3)):
        together = logits(model, tokens, tokenizer.pad_token_id, side, room)
        torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_token_is_that_of_the_family_own_model_on_the_text_alone(family, attention, make):
    """Whatever its attention; transformers is given no padding."""
    model, tokenizer = make(family, attention=attention)
    tokens = tokenize(TEXTS, tokenizer, 32)
    ours = logits(model, tokens, tokenizer.pad_token_id, "left")
    for row, ids in enumerate(tokens):
        with torch.inference_mode():
            last = model.backbone(input_ids=torch.tensor(ids[None].astype(np.int64))).last_hidden_state[:, -1]
            torch.testing.assert_close(ours[[row]], model.head(last, None, None, model.dropout), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "pad"),
    [
        *((family, "eos") for family in FAMILIES),
        *((family, pad) for family in ("llama", "qwen3") for pad in ("own", "none")),
        pytest.param("smollm2", "eos", marks=REAL.marks),
    ],
)
def test_a_text_that_ends_in_the_pad_token_is_read_to_its_end(family, pad, make):
    model, tokenizer = make(family, pad)
    texts = [f"the good film{tokenizer.pad_token}", "the good film", "it was a very old plot"]
    tokens = tokenize(texts, tokenizer, 32)
    assert next(iter(tokens))[-1] == tokenizer.pad_token_id
    found = logits(model, tokens, tokenizer.pad_token_id)
    with torch.inference_mode():
        states = model.backbone(input_ids=tokens[[0]].pad(0)["input_ids"]).last_hidden_state
        torch.testing.assert_close(found[[0]], model.head(states[:, -1], None, None, model.dropout))
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_text_has_a_token_of_its_own_and_finite_gradients(family, make):
    model, tokenizer = make(family)
    tokens = tokenize(["", "the good film", ""], tokenizer, 32)
    assert tokens.lengths.tolist()[::2] == [1, 1]
    assert {int(tokens.flat[0]), int(tokens.flat[-1])} == {tokenizer.bos_token_id}
    batch = tokens.pad(tokenizer.pad_token_id)
    model.train()(batch["attention_mask"], input_ids=batch["input_ids"])["logits"].sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_what_a_tokenizer_adds_is_kept_and_no_end_is_added(make):
    """Llama and Gemma begin a text with a token of their own, Qwen and SmolLM2 add nothing."""
    for family, first in (("llama", True), ("gemma3_text", True), ("qwen3", False), ("qwen2", False)):
        _, tokenizer = make(family)
        ids = tokenize(["the good film"], tokenizer, 32).flat
        assert (ids[0] == tokenizer.bos_token_id) == first and ids[-1] != tokenizer.eos_token_id


@pytest.mark.parametrize("pooling", sorted(set(POOLINGS) - {"mask"}))
def test_each_pooling_of_a_decoder_reads_past_the_first_token_or_is_refused(pooling, make):
    config = AutoConfig.for_model("llama")
    if POOLINGS[pooling].reads_first:
        with pytest.raises(ValueError, match=f"pooling='{pooling}' reads the first token, .*llama.*: use last_token"):
            choose_pooling(pooling, config)
        return
    model, tokenizer = make("qwen3", pooling=choose_pooling(pooling, config))
    one, other = logits(model, tokenize(["the good film", "the good plot"], tokenizer, 32), tokenizer.pad_token_id)
    assert (one - other).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("family", "options", "causal"),
    [
        *((family, {}, True) for family in (*FAMILIES, "mistral", "mamba", "falcon", "smollm3")),
        *((family, {}, False) for family in ("bert", "roberta", "deberta-v2", "modernbert", "xlnet", "electra", "t5")),
        ("gemma3_text", {"use_bidirectional_attention": True}, False),  # EmbeddingGemma
    ],
)
def test_decoders_are_told_from_encoders(family, options, causal):
    config = AutoConfig.for_model(family, **options)
    assert is_causal(config) == causal
    assert choose_pooling("auto", config) == ("last_token" if causal else "mean")
    assert choose_pooling("max", config) == "max"


def test_moving_left_keeps_the_order_and_moves_what_belongs_to_a_token():
    mask = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    ids, vectors = torch.arange(12).view(3, 4), torch.arange(24.0).view(3, 4, 2)
    seen, moved, wide, none = move_left(mask, ids, vectors, None)
    assert seen.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]] and none is None
    assert moved[0].tolist() == [1, 3, 0, 2] and wide[0].tolist() == vectors[0][[1, 3, 0, 2]].tolist()
    assert moved[1:].equal(ids[1:])
    assert move_left(mask[1:2], ids)[1] is ids


@pytest.mark.parametrize(
    ("rows", "prefix"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 5]], [1, 2, 3]),
        ([[1, 2, 3], [1, 2, 3]], [1, 2]),  # a token of each row is left
        ([[1, 2], [1, 2, 3, 4]], [1]),
        ([[1, 2], [3, 2]], []),
        ([[1], []], []),
        ([], []),
    ],
)
def test_the_shared_prefix_leaves_each_row_a_token(rows, prefix):
    assert shared_prefix(np.array(row) for row in rows).tolist() == prefix
    few = max(min(map(len, rows), default=0) - 3, 0)
    assert shared_prefix((np.array(row) for row in rows), 3).tolist() == prefix[:few]


@pytest.mark.parametrize("family", BOTH)
def test_a_prefix_that_is_read_once_gives_the_states_of_reading_it_again(family, make):
    """Gemma's sliding window of 8 tokens is shorter than the prefix."""
    model, tokenizer = make(family)
    start = "it was the good film, and the plot is: "
    tokens = tokenize([f"{start}{text}" for text in TEXTS if text], tokenizer, 64)
    ids = shared_prefix(list(tokens))
    prefix, batch = Prefix.encode(model.backbone, ids), tokens.pad(tokenizer.pad_token_id)
    rest = batch["input_ids"][:, len(ids) :]
    with torch.inference_mode():
        whole = model.backbone(input_ids=batch["input_ids"], use_cache=False).last_hidden_state[:, len(ids) :]
        for _ in range(2):  # the cache is as it was
            found = model.backbone(input_ids=rest, **prefix.options(len(rest))).last_hidden_state
            torch.testing.assert_close(found, whole, atol=2e-5, rtol=1e-4)
    assert len(ids) >= 8 and Prefix.encode(model.backbone, ids[:7]) is None


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3_text"])
def test_numbers_that_exceed_fp16_are_named_with_what_to_do(family, make):
    """As of Gemma 3 and Qwen2.5, whose states exceed 65,504."""
    model, tokenizer = make(family)
    examples = Examples(tokenize(TEXTS, tokenizer, 32), tokenizer.pad_token_id)
    model.backbone.layers[0].mlp.up_proj.weight.data *= 1e7
    with pytest.raises(
        FloatingPointError, match=r"predictions of \d of 8 texts are no numbers in fp16: .* 65,504: set"
    ):
        predict(model, examples, "fp16")
    assert np.isfinite(predict(model, examples, "fp32")).all()
    assert np.isfinite(predict(model, examples, "bf16")).all()


def test_a_loss_that_is_no_number_ends_training_with_the_fold_and_the_step(trainer):
    run = trainer([], "fold3/checkpoints", precision="fp32", log_every=2)
    run.loss = lambda logits, labels: logits.sum() * (float("nan") if run.state.global_step else 1.0)
    words = "the loss of fold 3 is nan at step 2 in fp32: set a lower learning_rate"
    with pytest.raises(FloatingPointError, match=words):
        run.fit()
    assert "65,504: set precision='bf16'" in str(not_a_number("the loss", "fp16"))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
@pytest.mark.parametrize(
    ("knobs", "ends"),
    [
        ({}, True),
        ({"pooling": "mask", "mask_places": (-1, -3)}, True),
        ({"pooling": "mask", "mask_places": (0,)}, False),
        ({"pooling": "mean"}, False),
        ({"head": "queries"}, False),
        ({"head": "separate"}, True),
    ],
)
def test_predictions_read_the_prompt_of_all_texts_once(family, knobs, ends, make, monkeypatch):
    """Where the end of a text is all that is read after the layers; others read it again."""
    model, tokenizer = make(family, **knobs)
    examples = Examples(
        tokenize([f"it was the good film, and the plot is: {text}" for text in TEXTS], tokenizer, 64), 0
    )
    seen, forward = [], model.backbone.forward
    note = lambda *args, **given: seen.append(given["input_ids"].shape[1]) or forward(*args, **given)  # noqa: E731
    monkeypatch.setattr(model.backbone, "forward", note)
    once = predict(model, examples, "fp32", tokens=128)
    monkeypatch.setattr(Classifier, "prefix_read_once", lambda self, tokens: nullcontext())
    at_once, seen[:] = list(seen), []
    np.testing.assert_allclose(predict(model, examples, "fp32", tokens=128), once, atol=1e-5)
    assert (sum(at_once) < sum(seen)) == ends and model.prefix is None


def test_nobody_is_warned_of_a_mask_that_is_not_needed(make, monkeypatch):
    monkeypatch.setattr(GPT2Model, "warn_if_padding_and_no_attention_mask", lambda *_: pytest.fail("warned"))
    model, tokenizer = make("gpt2", "eos")
    assert logits(model, tokenize(TEXTS, tokenizer, 32), tokenizer.pad_token_id).isfinite().all()


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_digits_and_words_are_split_as_the_saved_tokenizer_says(family, tiny_decoder):
    """transformers' class of Qwen2 has a pattern of its own."""
    text, plain = "it's 1234 the good-film 2 5", make_bpe("own")
    assert load_tokenizer(tiny_decoder(family))(text)["input_ids"] == plain(text)["input_ids"]


def test_a_dropout_that_a_decoder_lacks_is_an_error_with_those_that_it_has(tiny_decoder):
    with pytest.raises(
        ValueError, match=r"dropout=0.1 is of hidden states, .*llama.* set attention_dropout=0.1 or head_"
    ):
        load_backbone(tiny_decoder("llama"), dropout=0.1)
    assert load_backbone(tiny_decoder("llama"), 0.0, attention_dropout=0.1).config.attention_dropout == 0.1
    assert load_backbone(tiny_decoder("gpt2"), 0.1, attention_dropout=0.0).config.resid_pdrop == 0.1


def test_on_a_gpu_transformers_does_not_look_for_several_texts_in_a_row():
    """It would wait for the GPU in each step: batches have no mask, and their rows one text each."""
    places = torch.tensor([[0, 1, 0, 1]])
    before = masking_utils.find_packed_sequence_indices(places)
    with padding_known(torch.device("cuda"), padded=True):
        assert masking_utils.find_packed_sequence_indices(places) is None
    with padding_known(torch.device("cpu"), padded=True):
        assert masking_utils.find_packed_sequence_indices(places).equal(before)
    assert masking_utils.find_packed_sequence_indices(places).tolist() == [[0, 0, 1, 1]]
