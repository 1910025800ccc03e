"""Longformer and BigBird read a batch as their own heads of transformers do."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BigBirdConfig,
    BigBirdForSequenceClassification,
    LongformerConfig,
    LongformerForQuestionAnswering,
    LongformerForSequenceClassification,
)

from kagglekit.data.chunks import Chunks
from kagglekit.data.tokens import join_tokens
from kagglekit.device import checkpoint_activations
from kagglekit.model.backbones import load_backbone, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.model.long_attention import attention_options, global_tokens
from kagglekit.model.shallow import embed

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
SIZES |= {"initializer_range": 0.3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LONG = {
    **SIZES,
    "type_vocab_size": 1,
    "attention_window": [4, 4],
    "max_position_embeddings": 90,
    "pad_token_id": 1,
    "sep_token_id": 2,
}
SPARSE = {**SIZES, "block_size": 4, "num_random_blocks": 1, "max_position_embeddings": 90, "use_bias": True}


def folder_of(model, place):
    with quiet():
        model.eval().save_pretrained(place)
    return str(place)


def longformer(kind, place):
    torch.manual_seed(0)
    model = kind(LongformerConfig(**LONG))
    for name, x in model.named_parameters():  # those of global attention begin as copies in a real checkpoint
        if "global" in name and "weight" in name:
            torch.nn.init.normal_(x, std=0.3)
    return model, folder_of(model, place)


def classify(folder, **options):
    return Classifier(load_backbone(folder), "softmax", 2, "cls", **options).eval()


def batch(lengths, pairs=False, side="right"):
    """ids and mask (texts, longest): 0 text 2, or 0 question 2 2 text 2; padding is 1."""
    random, rows = np.random.default_rng(0), []
    for n in lengths:
        row = [0, *random.integers(4, 50, n - 2), 2]
        if pairs:
            row[3:5] = [2, 2]
        rows.append(np.array(row))
    longest = max(lengths)
    ids, mask = torch.ones(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        ids[number, where], mask[number, where] = torch.tensor(row), 1
    return ids, mask


def columns_of(ids, mask):
    """The text column of each token: a separator belongs to the one before it, padding to none."""
    return ((ids == 2).cumsum(dim=1) - (ids == 2).long()).clamp(max=2) // 2 * mask


def test_longformer_has_the_logits_of_its_own_head_for_classes(tmp_path):
    own, folder = longformer(LongformerForSequenceClassification, tmp_path / "long")
    ids, mask = batch([40, 23, 5])
    model = classify(folder)
    with torch.no_grad():
        states = model._states(ids, mask)[-1]
        logits = own(input_ids=ids, attention_mask=mask).logits
        assert torch.allclose(own.classifier(states), logits, atol=1e-5)
        local = own.longformer(input_ids=ids, attention_mask=mask).last_hidden_state
        assert (own.classifier(local) - logits).abs().max() > 0.05  # what local attention alone would give
        assert torch.allclose(model(mask, ids)["pooled"], states[:, 0])
        tokens = join_tokens(row[keep == 1].numpy().astype(np.int32) for row, keep in zip(ids, mask, strict=True))
        frozen = embed(load_backbone(folder), tokens, 1, pooling="cls")
        assert np.allclose(frozen, states[:, 0].numpy(), atol=1e-5)


def test_the_tokens_of_a_question_attend_to_all_as_in_the_head_for_questions(tmp_path):
    own, folder = longformer(LongformerForQuestionAnswering, tmp_path / "long")
    ids, mask = batch([40, 23, 9], pairs=True)
    with torch.no_grad():
        states, found = classify(folder)._states(ids, mask, columns_of(ids, mask))[-1], own(ids, mask)
        starts, ends = own.qa_outputs(states).unbind(-1)
    assert torch.allclose(starts, found.start_logits, atol=1e-5) and torch.allclose(ends, found.end_logits, atol=1e-5)


@pytest.mark.parametrize("pairs", [False, True])
def test_padding_on_the_left_chooses_the_same_tokens_and_gives_the_same_states(pairs, tmp_path):
    _, folder = longformer(LongformerForSequenceClassification, tmp_path / "long")
    model, found = classify(folder), []
    for side in ("right", "left"):
        ids, mask = batch([40, 24, 8], pairs, side)
        columns = columns_of(ids, mask) if pairs else None
        (chosen,) = attention_options(model.backbone, ids, mask, columns).values()
        assert chosen.sum(dim=1).tolist() == ([3, 3, 3] if pairs else [1, 1, 1])
        assert ids[chosen == 1].tolist()[0] == 0 and not (chosen * (1 - mask)).any()
        with torch.no_grad():
            found.append(model._states(ids, mask, columns)[-1][mask == 1])
    assert torch.allclose(*found, atol=1e-4)


def test_a_first_column_longer_than_the_window_is_no_question():
    columns, mask = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]), torch.ones(3, 5)
    assert global_tokens(mask, columns, most=3).sum(dim=1).tolist() == [3, 1, 1]


def test_every_chunk_has_a_first_token_that_attends_to_all(tmp_path):
    own, folder = longformer(LongformerForSequenceClassification, tmp_path / "long")
    ids, mask = batch([20, 20, 12])
    pieces = join_tokens(row[keep == 1].numpy().astype(np.int32) for row, keep in zip(ids, mask, strict=True))
    chunks = Chunks(pieces, np.array([2, 1])).pad(1)
    with torch.no_grad():
        pooled = classify(folder, chunk_pooling="max")(**chunks)["pooled"]
        first = own.longformer(ids, mask, global_attention_mask=global_tokens(mask, None, 4).long()).last_hidden_state[
            :, 0
        ]
    assert torch.allclose(pooled, torch.stack([first[:2].amax(dim=0), first[2]]), atol=1e-5)


def long_and_sparse(place):
    torch.manual_seed(0)
    sparse = BigBirdForSequenceClassification(BigBirdConfig(**SPARSE))
    return {
        "longformer": longformer(LongformerForSequenceClassification, place / "longformer")[1],
        "big_bird": folder_of(sparse, place / "big_bird"),
    }


@pytest.mark.parametrize("kind", ["longformer", "big_bird"])
def test_training_reaches_all_weights_and_checkpoints_change_no_gradient(kind, tmp_path):
    folder, found = long_and_sparse(tmp_path)[kind], []
    ids, mask = batch([60, 44])
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = classify(folder).train()
        if checkpointed:
            checkpoint_activations(model.backbone)
        model(mask, ids)["logits"][:, 0].sum().backward()
        found.append({name: x.grad for name, x in model.backbone.named_parameters()})
    missing = {name for name, x in found[0].items() if x is None}
    assert not {name for name in missing if "pooler" not in name}
    assert kind == "big_bird" or any("query_global" in name and x.abs().max() > 0 for name, x in found[0].items())
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0] if name not in missing)


def test_big_bird_reads_a_long_text_the_same_before_and_after_a_short_one(tmp_path):
    """transformers changes to full attention for a short batch, and stays there."""
    folder = long_and_sparse(tmp_path)["big_bird"]
    with quiet():
        own, model = AutoModel.from_pretrained(folder).eval(), classify(folder)
    (long, whole), (short, some) = batch([80, 64]), batch([20, 9])
    state = torch.get_rng_state()
    with torch.no_grad():
        expected = own(long, whole).last_hidden_state
        assert torch.equal(model._states(long, whole)[-1], expected)
        assert torch.equal(model._states(short, some)[-1], own(short, some).last_hidden_state)
        full = own(long, whole).last_hidden_state
        assert (full - expected).abs().max() > 0.01 and own.attention_type == "original_full"
        state = torch.get_rng_state()
        assert torch.equal(model._states(long, whole)[-1], expected)  # as if there had been no short one
    assert torch.equal(torch.get_rng_state(), state)  # modules made new for it leave no trace


def test_other_backbones_are_told_nothing(backbones):
    ids, mask = batch([9, 5])
    assert all(attention_options(load_backbone(folder), ids, mask) == {} for folder in backbones.values())
