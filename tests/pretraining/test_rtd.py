import math

import pytest
import torch
from scipy.stats import chisquare
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForMaskedLM, ElectraForPreTraining

from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.surgery import find_layers
from kagglekit.pretraining.masking import DynamicMasking
from kagglekit.pretraining.rtd import Detection, detection_auc, detection_loss, draw_tokens, mark_replaced

WORDS = ("good", "bad", "fine", "poor")
TEXTS = [f"the {a} film was {b} !" for a in ("good", "old", "new", "fun", "sad") for b in WORDS]


@pytest.fixture
def make(prepare):
    """make(model type, **options): replaced-token detection with a tiny model."""

    def prepared(kind="electra", texts=TEXTS, **options):
        return prepare("rtd", kind, options, texts, TEXTS[:4])

    return prepared


def test_tokens_are_drawn_with_the_probability_of_their_logits():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    drawn = draw_tokens(logits.expand(4000, 4))
    expected = 4000 * logits.double().softmax(dim=0).numpy()
    assert chisquare(torch.bincount(drawn, minlength=4).numpy(), expected).pvalue > 1e-4
    assert draw_tokens(torch.zeros(0, 4)).shape == (0,)


def test_a_token_is_replaced_where_another_one_was_drawn():
    chosen = torch.tensor([[True, False, True], [False, True, False]])
    marked = mark_replaced(chosen, torch.tensor([5, 6, 7]), torch.tensor([5, 9, 8]))
    assert marked.tolist() == [[0, 0, 1], [0, 1, 0]]


def test_the_detection_loss_is_the_mean_over_real_tokens():
    scores, replaced = torch.randn(2, 4), torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    p = scores.sigmoid()
    expected = -(replaced * p.log() + (1 - replaced) * (1 - p).log())[mask.bool()].mean()
    assert torch.allclose(detection_loss(scores, replaced, mask), expected, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 50.0])
def test_the_losses_are_added_with_the_weight_and_zero_leaves_the_generator(make, batch, weight, compute_loss):
    prepared = make(weight=weight)
    masking, trick = prepared.tricks
    prepared.model.eval()
    torch.manual_seed(1)
    inputs = masking.hide({name: batch[name] for name in ("input_ids", "attention_mask")})
    loss, outputs = trick.compute_loss(compute_loss(prepared), prepared.model, inputs)
    replaced = mark_replaced(inputs["chosen"], outputs["drawn"], inputs["labels"])
    detection = detection_loss(outputs["scores"], replaced, inputs["attention_mask"])
    assert torch.allclose(loss, F.cross_entropy(outputs["logits"], inputs["labels"]) + weight * detection, atol=1e-5)
    assert isinstance(trick, Detection)
    assert trick.receipt(None)["mean detection loss"] == pytest.approx(detection.item())
    loss.backward()
    learned = {p for p in prepared.model.head.parameters() if p.grad.abs().sum() > 0}
    assert bool(learned) == (weight > 0)


def test_the_discriminator_sees_what_was_drawn_and_the_rest_as_it_is(make, batch):
    prepared, seen = make(), []
    model = prepared.model.eval()
    model.backbone.register_forward_pre_hook(lambda m, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True)
    inputs = DynamicMasking(4, 30, [0, 1, 2, 3, 4], 0.5).hide({k: batch[k] for k in ("input_ids", "attention_mask")})
    labels = inputs.pop("labels")
    with torch.no_grad():
        drawn = model(**inputs)["drawn"]
    chosen = inputs["chosen"]
    assert torch.equal(seen[0][chosen], drawn) and torch.equal(seen[0][~chosen], batch["input_ids"][~chosen])
    assert len(labels) == len(drawn)


@pytest.mark.parametrize("kind", ["electra", "deberta-v2"])
def test_the_generator_is_made_of_the_lowest_layers_of_the_backbone(make, backbones, kind, same):
    model = make(kind, layers=1).model
    ours, theirs = find_layers(model.backbone), find_layers(model.generator.backbone)
    assert len(ours) == 2 and len(theirs) == 1
    assert same(ours[0].state_dict(), theirs[0].state_dict())
    assert len(find_layers(make(kind).model.generator.backbone)) == 1  # a third
    assert len(find_layers(make(kind, generator=backbones[kind]).model.generator.backbone)) == 2


def words(module):
    return module.get_input_embeddings().weight


def test_shared_embeddings_are_one_table_that_the_generators_head_is_tied_to(make):
    model = make().model
    assert words(model.backbone) is words(model.generator.backbone)
    assert model.generator.model.get_output_embeddings().weight is words(model.backbone)
    positions = [m.backbone.embeddings.position_embeddings.weight for m in (model, model.generator)]
    assert positions[0] is positions[1]
    apart = make(sharing="none").model
    assert words(apart.backbone) is not words(apart.generator.backbone)


@pytest.mark.parametrize("kind", ["electra", "deberta-v2", "bert"])
def test_disentangled_embeddings_are_the_generators_and_a_difference(make, kind, batch, backbones, tmp_path):
    prepared, text = make(kind, sharing="disentangled"), {k: batch[k] for k in ("input_ids", "attention_mask")}
    model, before = prepared.model.eval(), AutoModel.from_pretrained(backbones[kind]).eval()
    assert words(model.backbone).abs().max() == 0
    real = text["attention_mask"].bool()
    with torch.no_grad():
        assert torch.allclose(model.backbone(**text)[0][real], before(**text)[0][real], atol=1e-5)
    model.backbone(**text)[0].square().sum().backward()  # the discriminator's loss leaves the generator's table alone
    assert words(model.generator.backbone).grad is None and words(model.backbone).grad.abs().sum() > 0
    with torch.no_grad():
        words(model.backbone).add_(0.1)
        words(model.generator.backbone).mul_(2)
        prepared.save(tmp_path)
        saved = AutoModel.from_pretrained(tmp_path).eval()
        assert torch.allclose(words(saved), 2 * words(before) + 0.1, atol=1e-6)
        assert torch.allclose(model.backbone(**text)[0][real], saved(**text)[0][real], atol=1e-5)


def test_electra_is_saved_with_its_head_and_others_as_an_encoder(make, tmp_path):
    prepared = make()
    with torch.no_grad():
        prepared.model.head.dense.weight.add_(1)
    prepared.save(tmp_path / "electra")
    saved = ElectraForPreTraining.from_pretrained(tmp_path / "electra")
    assert torch.equal(saved.discriminator_predictions.dense.weight, prepared.model.head.dense.weight)
    make("bert").save(tmp_path / "bert")
    assert AutoModel.from_pretrained(tmp_path / "bert").config.architectures == ["BertModel"]


def test_the_auc_of_a_discriminator_that_knows_nothing_is_one_half(make, tokenizer):
    prepared = make(texts=TEXTS * 3)
    masking = DynamicMasking(4, 30, tokenizer.all_special_ids, 0.3)
    with torch.no_grad():
        prepared.model.head.dense_prediction.weight.zero_()
    assert detection_auc(prepared.model, prepared.examples, masking, "fp32") == 0.5
    masking.probability = 0
    assert math.isnan(detection_auc(prepared.model, prepared.examples, masking, "fp32"))


def test_a_generator_with_other_tokens_or_sizes_is_an_error(make, backbones, tmp_path):
    other = load_tokenizer(backbones["bert"])
    other.add_tokens(["covid"])
    AutoModelForMaskedLM.from_pretrained(backbones["bert"]).save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has other tokens than the backbone"):
        make("bert", generator=str(tmp_path))
    with pytest.raises(ValueError, match="the generator's embeddings have other sizes"):
        make("bert", generator=backbones["electra"], sharing="shared")  # 8 wide, not 16
    assert make("bert", generator=backbones["electra"]).measure()["generator_perplexity"] > 1


@pytest.mark.parametrize("options", [{"layers": 3}, {"sharing": "both"}, {"weight": -1}])
def test_options_out_of_range_are_errors(make, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* is out of range"):
        make(**options)
