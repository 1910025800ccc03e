import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, TrainerCallback

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import tokenize
from kagglekit.model.backbones import find_backbone, load_backbone, load_tokenizer
from kagglekit.paths import write_json
from kagglekit.pretraining import mlm
from kagglekit.pretraining.masking import DynamicMasking
from kagglekit.pretraining.mlm import MaskedLM, masked_cross_entropy, perplexity, pretrain_mlm, show_masking
from kagglekit.training.trainer import Trainer, last_checkpoint

NAMES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]
CORPUS = [
    f"the {a} film was {b} !" for a in ("good", "old", "new", "fun", "sad") for b in ("good", "bad", "fine", "poor")
]
QUICK = {"epochs": 20, "max_length": 12, "batch_size": 8, "learning_rate": 1e-2, "held_out": 0.2}


@pytest.mark.parametrize("name", NAMES)
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


def test_the_loss_is_the_mean_over_chosen_tokens_and_zero_for_none():
    logits, labels = torch.randn(4, 9), torch.tensor([1, 2, 3, 4])
    assert torch.allclose(masked_cross_entropy(logits, labels), F.cross_entropy(logits, labels))
    none = torch.zeros(0, 9, requires_grad=True)
    loss = masked_cross_entropy(none, labels[:0])
    loss.backward()
    assert loss == 0


@pytest.fixture
def masking(tokenizer):
    return DynamicMasking(tokenizer.mask_token_id, len(tokenizer), tokenizer.all_special_ids)


def test_perplexity_of_an_undecided_model_is_its_vocabulary(backbone, tokenizer, masking):
    model = MaskedLM(AutoModelForMaskedLM.from_pretrained(backbone)).train()
    for parameter in model.parameters():
        parameter.data.zero_()
    rows = Examples(tokenize(CORPUS * 5, tokenizer, 12), 0)
    state = torch.get_rng_state()
    assert perplexity(model, rows, masking, "fp32") == pytest.approx(30, rel=1e-4)
    assert torch.equal(torch.get_rng_state(), state) and model.training


def test_perplexity_hides_the_same_tokens_at_every_call(backbone, tokenizer, masking):
    model = MaskedLM(AutoModelForMaskedLM.from_pretrained(backbone))
    rows = Examples(tokenize(CORPUS, tokenizer, 12), 0)
    assert perplexity(model, rows, masking, "fp32") == perplexity(model, rows, masking, "fp32")
    assert perplexity(model, rows, masking, "fp32") != perplexity(model, rows, masking, "fp32", seed=1)


def test_perplexity_falls_and_the_saved_model_is_a_backbone(backbone, tmp_path, same, weights):
    result = pretrain_mlm(CORPUS, backbone, tmp_path / "mlm", **QUICK)
    assert result.after < 0.5 * result.before and 15 < result.before < 60
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.tokens == 16 * 8  # each of 20 texts is 8 tokens, four are held out
    write_json(tmp_path / "mlm" / "params.json", {"recipe": {"backbone": backbone}})
    folder = find_backbone(backbone, tmp_path / "mlm")
    assert load_tokenizer(folder).get_vocab() == load_tokenizer(backbone).get_vocab()
    assert not same(weights(load_backbone(folder)), weights(load_backbone(backbone)))
    assert sorted(path.name for path in (tmp_path / "mlm").iterdir()) == ["model", "params.json", "pretraining.json"]


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_architecture_is_pretrained_and_comes_back_whole(backbones, name, tmp_path, batch):
    result = pretrain_mlm(CORPUS, backbones[name], tmp_path / "mlm", **{**QUICK, "epochs": 10})
    assert result.after < 0.9 * result.before
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    full = AutoModelForMaskedLM.from_pretrained(tmp_path / "mlm" / "model").eval()
    backbone = load_backbone(str(tmp_path / "mlm" / "model")).eval()
    with torch.no_grad():
        assert torch.allclose(full.base_model(**inputs)[0], backbone(**inputs)[0], atol=1e-5)


def test_what_is_done_is_read_back(backbone, tmp_path, monkeypatch):
    first = pretrain_mlm(CORPUS, backbone, tmp_path, **{**QUICK, "epochs": 1})
    monkeypatch.setattr(mlm, "load_tokenizer", None)
    assert pretrain_mlm(CORPUS, backbone, tmp_path, **{**QUICK, "epochs": 1}) == first


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 25:
            raise KeyboardInterrupt


def test_stopped_and_resumed_is_never_stopped(backbone, tmp_path, monkeypatch, weights, same):
    straight = pretrain_mlm(CORPUS, backbone, tmp_path / "straight", **QUICK)
    with monkeypatch.context() as patch:

        def stopping(*args, callbacks, **kwargs):
            return Trainer(*args, callbacks=[*callbacks, Stop()], **kwargs)

        patch.setattr(mlm, "Trainer", stopping)
        with pytest.raises(KeyboardInterrupt):
            pretrain_mlm(CORPUS, backbone, tmp_path / "stopped", **QUICK, save_seconds=0)
    assert last_checkpoint(tmp_path / "stopped" / "checkpoints").name == "checkpoint-24"
    assert not (tmp_path / "stopped" / "model").exists()
    assert pretrain_mlm(CORPUS, backbone, tmp_path / "stopped", **QUICK) == straight
    models = [AutoModelForMaskedLM.from_pretrained(tmp_path / name / "model") for name in ("straight", "stopped")]
    assert same(*map(weights, models))


def test_long_texts_are_read_in_pieces_and_equal_ones_once(backbone, tmp_path):
    texts = ["good film " * 50, "bad plot", "bad plot", "", "   "]
    result = pretrain_mlm(texts, backbone, tmp_path, epochs=1, max_length=12, held_out=0.5)
    assert result.tokens in (100 + 2 * 10, 4) and np.isfinite(result.after)  # one of the two texts is held out


def test_too_little_text_is_an_error(backbone, tmp_path):
    with pytest.raises(ValueError, match="at least two different texts"):
        pretrain_mlm(["good", "good", ""], backbone, tmp_path, max_length=12)


def test_a_backbone_without_a_mask_token_is_an_error(backbone, tmp_path, monkeypatch):
    tokenizer = load_tokenizer(backbone)
    tokenizer.mask_token = None
    monkeypatch.setattr(mlm, "load_tokenizer", lambda path: tokenizer)
    with pytest.raises(ValueError, match="has no mask token: it cannot be pretrained by masking"):
        pretrain_mlm(CORPUS, backbone, tmp_path, max_length=12)


def test_masking_is_shown_token_by_token(backbone):
    state = torch.get_rng_state()
    shown = show_masking(["the good film", "bad"], backbone, probability=1.0)["as the model sees it"]
    assert shown[1].startswith("[CLS] [bad -> ") and shown[1].endswith(" [SEP]")
    assert shown[0].count("->") == 3
    assert show_masking(["the good film"], backbone, probability=0.0).iloc[0, 0] == "[CLS] the good film [SEP]"
    assert torch.equal(torch.get_rng_state(), state)
