import math

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForMaskedLM

from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.pretraining.masking_catalogue import DynamicMasking
from kagglekit.pretraining.objective import Stage
from kagglekit.pretraining.sentence_pairs import PairLoss, measure_pairs, prepare_mlm_nsp, prepare_mlm_sop

TEXTS = [f"{a} film. it was {b}!" for a in ("good", "bad", "old") for b in ("fun", "sad", "fine", "poor")]


@pytest.fixture
def make(backbones):
    """make(prepare, model type, texts, **options): an objective of a tiny model."""

    def prepared(prepare, kind="bert", texts=TEXTS, max_length=20, **options):
        torch.manual_seed(0)
        path, stage = backbones[kind], Stage(objective_options=options, max_length=max_length)
        return prepare(path, load_tokenizer(path), texts, TEXTS[:4], stage)

    return prepared


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"])
def test_tokens_and_pairs_are_read_from_the_states_of_one_pass(kind, backbones, make):
    prepared = make(prepare_mlm_sop, kind)
    batch = prepared.examples.__getitems__([0, 1, 2])
    chosen, types = batch["input_ids"] > 9, {k: batch[k] for k in ("token_type_ids",) if k in batch}
    assert bool(types) == (kind in ("bert", "electra", "roberta"))  # of the tiny ones
    model, full = prepared.model.eval(), AutoModelForMaskedLM.from_pretrained(backbones[kind]).eval()
    text = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        ours = model(**text, chosen=chosen, **types)
        assert torch.allclose(ours["logits"], full(**text, **types).logits[chosen], atol=1e-4)
        first = full.base_model(**text, **types)[0][:, 0]
        pooled = model.pooler(first[:, None]) if kind in ("bert", "roberta") else model.pooler(first).tanh()
        assert torch.allclose(ours["pair"], model.head(pooled), atol=1e-4)
        assert torch.allclose(model.backbone(**text)[0], full.base_model(**text)[0], atol=1e-4)  # by itself, as it was


def test_types_change_what_is_computed(make):
    model = make(prepare_mlm_sop).model.eval()
    ids = torch.tensor([[2, 7, 3, 8, 9, 3]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "chosen": ids > 3}
    with torch.no_grad():
        zeros = model(**inputs, token_type_ids=torch.zeros_like(ids))["logits"]
        assert torch.equal(zeros, model(**inputs)["logits"])
        assert not torch.allclose(zeros, model(**inputs, token_type_ids=torch.tensor([[0, 0, 0, 1, 1, 1]]))["logits"])


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_the_pair_loss_is_added_with_its_weight_and_zero_is_the_loss_of_the_tokens(weight):
    trick, pair, order = PairLoss(weight), torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    given = {"order": order, "labels": torch.tensor([1])}

    def compute(inputs):
        assert set(inputs) == {"labels"}
        return torch.tensor(2.0), {"pair": pair}

    loss, _ = trick.compute_loss(compute, None, given)
    assert torch.allclose(loss, 2 + weight * F.cross_entropy(pair, order)) and "order" in given
    assert trick.receipt(None) == {"steps": 1, "mean pair loss": pytest.approx(float(F.cross_entropy(pair, order)))}


def test_an_undecided_model_is_right_by_half_and_as_perplexed_as_its_vocabulary(make, tokenizer):
    prepared = make(prepare_mlm_nsp)
    for parameter in prepared.model.parameters():
        parameter.data.zero_()
    masking = DynamicMasking(tokenizer.mask_token_id, len(tokenizer), tokenizer.all_special_ids)
    examples = prepared.examples
    figures = measure_pairs(prepared.model, examples, masking, "fp32")
    order = examples.__getitems__(list(range(len(examples))))["order"]
    assert figures["perplexity"] == pytest.approx(30, rel=1e-4)
    assert figures["pair_accuracy"] == pytest.approx(float((order == 0).float().mean()))
    masking.probability = 0
    assert math.isnan(measure_pairs(prepared.model, examples, masking, "fp32")["perplexity"])


def test_the_pooler_is_trained_and_saved_and_the_next_stage_begins_with_it(make, tokenizer, tmp_path):
    prepared = make(prepare_mlm_sop)
    pooler = prepared.model.pooler
    with torch.no_grad():
        pooler.dense.weight.add_(1)
    prepared.save(tmp_path)
    assert torch.equal(load_backbone(str(tmp_path), pooler=True).pooler.dense.weight, pooler.dense.weight)
    second = prepare_mlm_nsp(str(tmp_path), tokenizer, TEXTS, TEXTS[:4], Stage(max_length=20))
    assert torch.equal(second.model.pooler.dense.weight, pooler.dense.weight)


def test_a_backbone_without_a_pooler_is_saved_without_one(make, tmp_path):
    prepared = make(prepare_mlm_sop, "distilbert")
    assert isinstance(prepared.model.pooler, torch.nn.Linear)
    prepared.save(tmp_path)
    assert not hasattr(AutoModel.from_pretrained(tmp_path), "pooler")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_length": 6}, "max_length=6 is out of range: it must be 7 or more"),
        ({"weight": -1}, "weight=-1 is out of range"),
        ({"texts": ["bad", "good"]}, "0 texts of two tokens or more are too few"),
    ],
)
def test_what_cannot_be_learned_from_is_an_error(make, options, said):
    with pytest.raises(ValueError, match=said):
        make(prepare_mlm_sop, **options)
