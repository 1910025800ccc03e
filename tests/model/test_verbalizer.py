import copy

import pytest
import torch
from safetensors.torch import load_model, save_model
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from kagglekit.data.patterns import fill_pattern, find_words, make_pattern
from kagglekit.model.backbones import find_backbone, load_backbone, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.model.verbalizer import load_language_model
from kagglekit.model.weight_averages import average_models
from kagglekit.training.build_model import load_encoder
from kagglekit.training.learning_rates import parameter_groups

PATTERN, WORDS = "{text} it was {mask} .", {"no": ["bad", "poor"], "yes": ["good"]}
TEXTS = ["the good film !", "no", "the old plot is very bad " * 9, "a fun end"]


@pytest.fixture
def verbal(backbones, tokenizer):
    """verbal(name): a classifier of a tiny masked-language model, and batches as it reads them."""

    def make(name="bert", folder=None, pattern=PATTERN, words=WORDS, texts=TEXTS, **options):
        torch.manual_seed(0)
        prompt = make_pattern(pattern, tokenizer)
        found = find_words(words, list(words), prompt, tokenizer)
        options = {"mask_places": prompt.masks, "label_words": found, **options}
        masked_lm = load_language_model(folder or backbones[name], 0.0, "eager")
        model = Classifier(masked_lm, "softmax", len(words), "mask", head="verbalizer", **options)
        model.mask_id, model.special_ids = 4, (0, 1, 2, 3, 4)
        return model, fill_pattern(texts, tokenizer, prompt, 24).pad(0)

    return make


def at_masks(folder, batch):
    """What the masked-language model in a folder itself says at the masks: (batch, masks, vocabulary)."""
    with quiet(), torch.no_grad():
        whole = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()(**batch).logits
    return torch.stack([row[ids == 4] for row, ids in zip(whole, batch["input_ids"], strict=True)])


def test_a_logit_is_the_mean_of_what_the_whole_model_says_of_the_words(
    verbal, backbones, tokenizer, logits, architecture
):
    model, batch = verbal(architecture)
    bad, poor, good = tokenizer.convert_tokens_to_ids(["bad", "poor", "good"])
    said = at_masks(backbones[architecture], batch)[:, 0]
    expected = torch.stack([said[:, [bad, poor]].mean(dim=1), said[:, good]], dim=1)
    assert torch.allclose(logits(model, batch), expected, atol=1e-5)


def test_words_of_several_tokens_are_read_at_as_many_masks(verbal, backbone, tokenizer, logits):
    words = {"no": ["very bad"], "yes": ["very good", "no bad"]}
    model, batch = verbal(pattern="{mask} {mask} ! {text}", words=words)
    said = at_masks(backbone, batch)
    means = [
        [said[:, [0, 1], tokenizer.convert_tokens_to_ids(word.split())].mean(dim=1) for word in of_class]
        for of_class in words.values()
    ]
    expected = torch.stack([torch.stack(of_class).mean(dim=0) for of_class in means], dim=1)
    assert torch.allclose(logits(model, batch), expected, atol=1e-5)
    assert model.pooling.width == 32


def test_a_head_that_asks_for_the_word_embeddings_finds_them(verbal, tmp_path, tokenizer, logits):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model("deberta-v2", **sizes, vocab_size=30, legacy=False)
    try:
        with quiet():
            AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
            AutoModelForMaskedLM.from_pretrained(tmp_path)
    except AttributeError:
        pytest.skip("transformers 5.0 cannot read it")
    model, batch = verbal(folder=str(tmp_path))
    expected = at_masks(tmp_path, batch)[:, 0, tokenizer.convert_tokens_to_ids("good")]
    assert torch.allclose(logits(model, batch)[:, 1], expected, atol=1e-5)


def test_padding_and_other_rows_change_no_logit(verbal, logits, architecture):
    model, batch = verbal(architecture)
    together = logits(model, batch)
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        alone = {key: values[[row], :length] for key, values in batch.items()}
        assert torch.allclose(logits(model, alone), together[[row]], atol=1e-5)


def test_shared_weights_are_one_parameter_and_each_has_a_gradient_and_one_group(verbal, architecture):
    model, batch = verbal(architecture)
    model.train()(**batch)["logits"].square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    output = model.head.model.get_output_embeddings().weight
    assert output is model.get_input_embeddings().weight
    grouped = [id(parameter) for group in parameter_groups(model, 1e-3, 1e-2) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    (group,) = [g for g in parameter_groups(model, 1e-3, 1e-2) if any(p is output for p in g["params"])]
    assert group["name"] == "embeddings" and group["lr"] == 1e-3


def test_it_is_saved_once_and_loaded_with_shared_weights_shared_and_a_plain_run_loads_the_encoder(
    verbal, backbones, tmp_path, weights, same, logits, drawn, architecture
):
    model, batch = verbal(architecture)
    drawn(model).save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    assert same(weights(loaded), weights(model))
    assert len({tensor.data_ptr() for tensor in model.state_dict().values()}) == len(model.state_dict())
    assert torch.allclose(logits(loaded, batch), logits(model, batch), atol=1e-5)
    assert loaded.head.model.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    save_model(model, str(tmp_path / "checkpoint.safetensors"))  # as a trainer's checkpoint
    assert load_model(loaded, str(tmp_path / "checkpoint.safetensors")) == (set(), [])
    plain = load_backbone(backbones[architecture])
    load_encoder(plain, tmp_path / "model")
    assert same(weights(plain), weights(model.backbone))


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_another_verbalizer_loads_encoder_and_head(verbal, backbones, tmp_path, logits, drawn, name):
    model, batch = verbal(name)
    drawn(model).save(tmp_path / "model")
    bare = AutoModel.from_config(AutoConfig.from_pretrained(backbones[name]))
    bare.save_pretrained(tmp_path / "bare")
    start = load_language_model(str(tmp_path / "bare"), 0.0, "eager", start=tmp_path / "model")
    load_encoder(start.base_model, tmp_path / "model")
    again = Classifier(start, **model.options)
    assert torch.allclose(logits(again, batch), logits(model, batch), atol=1e-5)


def test_a_copy_has_shared_weights_of_its_own(verbal, logits):
    model, batch = verbal()
    before, other = logits(model, batch), copy.deepcopy(model)
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(2)
    assert other.head.model.get_output_embeddings().weight is other.get_input_embeddings().weight
    assert torch.equal(logits(model, batch), before) and not torch.allclose(logits(other, batch), before)


def test_models_are_averaged_with_shared_weights_shared(verbal, tmp_path, drawn):
    for seed in (0, 1):
        drawn(verbal()[0], seed).save(tmp_path / str(seed))
    soup = average_models([tmp_path / "0", tmp_path / "1"])
    weights = [Classifier.load(tmp_path / name).get_input_embeddings().weight for name in "01"]
    assert torch.allclose(soup.head.model.get_output_embeddings().weight, sum(weights) / 2)


def test_logits_are_of_full_precision_in_half_precision(verbal, logits):
    model, batch = verbal()
    full = logits(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = logits(model, batch)
    assert half.dtype == torch.float32 and torch.allclose(half, full, atol=0.05)


def test_dropout_is_before_the_head(verbal, logits):
    model, batch = verbal(head_dropout=0.5, dropout_samples=3)
    assert torch.equal(logits(model, batch), logits(verbal()[0], batch))
    model.train()
    draws = [model(**batch)["logits"] for _ in range(2)]
    assert not torch.equal(*draws)


# What cannot be


def test_a_backbone_without_a_head_for_words_is_an_error(backbone, tmp_path):
    load_backbone(backbone).save_pretrained(tmp_path)
    for folder in (tmp_path, find_backbone("minilm")):
        with pytest.raises(ValueError, match=r"no pretrained head for words \(cls.*start from a run of 2_pretrain"):
            load_language_model(str(folder))
    assert load_language_model(str(tmp_path), untrained=True).get_output_embeddings() is not None
    AutoConfig.for_model("vit").save_pretrained(tmp_path / "pictures")
    with pytest.raises(ValueError, match="cannot predict words: Unrecognized configuration"):
        load_language_model(str(tmp_path / "pictures"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"auxiliary": [["softmax", 3]]}, r"reads 1 masks and knows 2 classes, and nothing else: .* \[2, 3\] logits"),
        ({"features": {"numbers": 2}}, "was given vectors of"),
        ({"mask_places": [0, 1]}, "was given vectors of 32 numbers"),
    ],
)
def test_a_head_that_is_asked_for_more_than_words_is_an_error(verbal, options, words):
    with pytest.raises(ValueError, match=words):
        verbal(**options)


def test_an_encoder_alone_is_an_error(backbone):
    with pytest.raises(ValueError, match="needs a model with a head for words, not a BertModel"):
        Classifier(load_backbone(backbone), "softmax", 1, "mask", head="verbalizer", label_words=[[[5]]])
