import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.pretraining.masking import MASKINGS, make_masking
from kagglekit.pretraining.mlm import MaskedLM, exp_of_mean, masked_cross_entropy, perplexity
from kagglekit.pretraining.stage_knobs import SCORED, Stage
from kagglekit.pretraining.stages import pretrain

ARCHITECTURES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]
CORPUS = [
    f"the {a} film was {b} !" for a in ("good", "old", "new", "fun", "sad") for b in ("good", "bad", "fine", "poor")
]
QUICK = {"max_length": 12, "batch_size": 8, "learning_rate": 1e-2, "held_out": 0.2, "pack": False}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_at_the_chosen_positions_are_those_of_the_full_model(backbones, name, batch):
    full = AutoModelForMaskedLM.from_pretrained(backbones[name]).eval()
    masked = MaskedLM(AutoModelForMaskedLM.from_pretrained(backbones[name])).eval()
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    chosen = (torch.rand(batch["input_ids"].shape, generator=torch.Generator().manual_seed(0)) < 0.3) & (
        batch["attention_mask"] > 0
    )
    with torch.no_grad():
        ours = masked(**inputs, chosen=chosen)["logits"]
        assert ours.shape == (chosen.sum(), full.config.vocab_size)
        assert torch.allclose(ours, full(**inputs).logits[chosen], atol=1e-5)
        assert masked(**inputs, chosen=torch.zeros_like(chosen))["logits"].shape == (0, full.config.vocab_size)
        whole = masked.backbone(**inputs)[0]  # by itself, as a probe calls it
        assert torch.allclose(whole, full.base_model(**inputs)[0], atol=1e-5)


def test_the_loss_is_the_mean_over_chosen_tokens_and_zero_for_none():
    logits, labels = torch.randn(4, 9), torch.tensor([1, 2, 3, 4])
    assert torch.allclose(masked_cross_entropy(logits, labels), F.cross_entropy(logits, labels))
    none = torch.zeros(0, 9, requires_grad=True)
    loss = masked_cross_entropy(none, labels[:0])
    loss.backward()
    assert loss == 0


def test_perplexity_of_an_undecided_model_is_its_vocabulary_and_hides_the_same_tokens_at_every_call(
    backbone, tokenizer
):
    model, masking = (
        MaskedLM(AutoModelForMaskedLM.from_pretrained(backbone)).train(),
        make_masking("dynamic", tokenizer),
    )
    rows, state = Examples(tokenize(CORPUS, tokenizer, 12), 0), torch.get_rng_state()
    first, again, other = (perplexity(model, rows, masking, "fp32", seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    for parameter in model.parameters():
        parameter.data.zero_()
    assert perplexity(model, rows, masking, "fp32") == pytest.approx(30, rel=1e-4)
    assert torch.equal(torch.get_rng_state(), state) and model.training


def test_a_model_that_went_astray_is_infinitely_perplexed_and_none_is_of_no_token():
    assert exp_of_mean([(2.0, 1), (4.0, 2)]) == pytest.approx(np.exp(2)) and exp_of_mean([(1e6, 2)]) == np.inf
    assert np.isnan(exp_of_mean([(0.0, 0)])) and np.isnan(exp_of_mean([]))


def test_perplexity_falls_and_the_saved_model_is_a_backbone_with_its_head(backbone, tokenizer, tmp_path, same, weights):
    """What the next stage begins with is what the first one ended with, head and all."""
    result = pretrain(Stage(**QUICK, epochs=20), backbone, tokenizer, CORPUS, tmp_path / "mlm")
    before, after = (figures["perplexity"] for figures in (result.before, result.after))
    assert after < 0.5 * before and 15 < before < 60
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.tokens == 16 * 8  # each of 20 texts is 8 tokens, four are held out
    second = pretrain(Stage(**QUICK, steps=1), str(tmp_path / "mlm" / "model"), tokenizer, CORPUS, tmp_path / "two")
    assert second.before == pytest.approx(result.after, rel=1e-3)
    folder = str(tmp_path / "mlm" / "model")
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(backbone).get_vocab()
    assert not same(weights(load_backbone(folder)), weights(load_backbone(backbone)))
    assert sorted(path.name for path in (tmp_path / "mlm").iterdir()) == ["model", "pretraining.json"]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "bert"])
def test_every_architecture_is_pretrained_and_comes_back_whole(backbones, tokenizer, name, tmp_path, batch):
    result = pretrain(Stage(**QUICK, epochs=5), backbones[name], tokenizer, CORPUS, tmp_path / "mlm")
    assert result.after["perplexity"] < 0.9 * result.before["perplexity"]
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    full = AutoModelForMaskedLM.from_pretrained(tmp_path / "mlm" / "model").eval()
    backbone = load_backbone(str(tmp_path / "mlm" / "model")).eval()
    with torch.no_grad():
        states = [model(**inputs)[0][inputs["attention_mask"] > 0] for model in (full.base_model, backbone)]
    assert torch.allclose(*states, atol=1e-5)  # nothing reads what stands at padding


def test_packed_texts_are_all_read(backbone, tokenizer, tmp_path):
    stage = Stage(**{**QUICK, "epochs": 20, "pack": True, "max_length": 32, "batch_size": 4})
    result = pretrain(stage, backbone, tokenizer, CORPUS, tmp_path)
    assert result.tokens == 16 * 6 + 4 * (2 + 3)  # four texts of six tokens each in a piece of 29
    assert result.after["perplexity"] < 0.5 * result.before["perplexity"]


@pytest.mark.parametrize("name", [name for name in MASKINGS if name not in ("dynamic", *SCORED)])  # these: elsewhere
def test_every_masking_is_measured_and_trained_with(backbone, tokenizer, tmp_path, name):
    options = {"max_span": 2} if name == "span" else {}
    stage = Stage(**QUICK, masking=name, masking_options=options, mask_probability=0.3, steps=10)
    result = pretrain(stage, backbone, tokenizer, CORPUS, tmp_path / name)
    assert result.after["perplexity"] < result.before["perplexity"]
    (receipt,) = result.receipts.values()
    assert receipt["steps"] == 10


def test_a_backbone_without_a_mask_token_is_an_error(prepare, backbone):
    tokenizer = load_tokenizer(backbone)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="has no mask token: it cannot be pretrained by masking"):
        prepare("mlm", tokenizer=tokenizer)
