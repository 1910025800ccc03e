import pytest
import torch
from transformers import AutoModel, BertConfig, DistilBertConfig, ModernBertConfig

from kagglekit.model.backbones import load_backbone, load_config, quiet
from kagglekit.model.surgery import find_layers, freeze, reinit_layers, split_by_depth, split_dropout


def test_every_parameter_is_at_one_depth(backbones, architecture):
    backbone = load_backbone(backbones[architecture])
    table, *layers = split_by_depth(backbone)
    parts = [id(parameter) for part in (table, *layers) for parameter in part]
    assert sorted(parts) == sorted(map(id, backbone.parameters()))
    assert any(parameter is backbone.get_input_embeddings().weight for parameter in table)
    for part, layer in zip(layers, find_layers(backbone), strict=True):
        assert {id(parameter) for parameter in layer.parameters()} <= set(map(id, part))


def test_parameters_outside_the_layers_go_below_or_on_top(backbones):
    projected = load_backbone(backbones["electra"])
    assert any(parameter is projected.embeddings_project.weight for parameter in split_by_depth(projected)[0])
    normed, relative = load_backbone(backbones["modernbert"]), load_backbone(backbones["deberta-v2"])
    assert any(parameter is normed.final_norm.weight for parameter in split_by_depth(normed)[-1])
    assert any(parameter is relative.encoder.rel_embeddings.weight for parameter in split_by_depth(relative)[-1])


@pytest.mark.parametrize("n", [1, 2])
def test_the_topmost_layers_are_drawn_again_and_nothing_else_changes(backbones, architecture, n, weights):
    backbone = load_backbone(backbones[architecture])
    before = weights(backbone)
    torch.manual_seed(1)
    reinit_layers(backbone, n)
    fresh = {id(tensor) for layer in find_layers(backbone)[2 - n :] for tensor in layer.parameters() if tensor.ndim > 1}
    for key, parameter in backbone.named_parameters():
        assert torch.equal(parameter, before[key]) != (id(parameter) in fresh), key  # new vectors: ones and zeros again


def test_a_layer_drawn_again_is_as_transformers_draws_it(backbones, architecture):
    """Norms are one, biases zero, and matrices have the spread that those of a new model have."""
    config = load_config(backbones[architecture])
    for field in ("hidden_size", "intermediate_size") if architecture != "distilbert" else ("dim", "hidden_dim"):
        setattr(config, field, 128)
    with quiet():
        torch.manual_seed(0)
        backbone, new = AutoModel.from_config(config), AutoModel.from_config(config)
    for parameter in backbone.parameters():
        parameter.data.fill_(9.0)
        parameter._is_hf_initialized = True  # as after from_pretrained
    reinit_layers(backbone, 1)
    ours, theirs = (list(find_layers(model)[-1].named_parameters()) for model in (backbone, new))
    for (key, parameter), (_, reference) in zip(ours, theirs, strict=True):
        assert parameter.mean().item() == pytest.approx(reference.mean().item(), abs=2e-3), key
        assert parameter.std().item() == pytest.approx(reference.std().item(), rel=0.1, abs=1e-6), key


def test_drawing_no_layer_again_changes_nothing_and_draws_nothing(backbone, weights, same):
    model = load_backbone(backbone)
    before, state = weights(model), torch.get_rng_state()
    reinit_layers(model, 0)
    assert same(weights(model), before) and torch.equal(torch.get_rng_state(), state)


def test_new_layers_depend_on_the_seed_alone(backbone, weights, same):
    drawn = []
    for seed in (1, 1, 2):
        model = load_backbone(backbone)
        torch.manual_seed(seed)
        reinit_layers(model, 1)
        drawn.append(weights(model))
    assert same(drawn[0], drawn[1]) and not same(drawn[0], drawn[2])


def test_new_layers_learn(trainer, logged):
    run = trainer(epochs=5)
    reinit_layers(run.model.backbone, 2)
    run.fit()
    losses = logged(run, "loss")
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


@pytest.mark.parametrize("change", [reinit_layers, lambda backbone, n: freeze(backbone, layers=n)])
@pytest.mark.parametrize("n", [3, -1])
def test_more_layers_than_there_are_is_an_error(backbone, change, n):
    with pytest.raises(ValueError, match=f"_layers={n} is out of range: it must be from 0 to 2, the layers of this"):
        change(load_backbone(backbone), n)


@pytest.mark.parametrize(("embeddings", "layers"), [(False, 0), (True, 0), (False, 1), (True, 1), (True, 2)])
def test_what_is_frozen_has_no_gradient_and_the_rest_has_one(
    classifier, backbones, batch, architecture, embeddings, layers
):
    model = classifier(folder=backbones[architecture])
    torch.nn.init.normal_(model.get_parameter(next(n for n, _ in model.named_parameters() if n.startswith("head"))))
    freeze(model.backbone, embeddings, layers)
    model(batch["attention_mask"], input_ids=batch["input_ids"])["logits"].square().sum().backward()
    for depth, part in enumerate(split_by_depth(model.backbone)):
        frozen = embeddings if depth == 0 else depth <= layers
        assert all((parameter.grad is None) == frozen for parameter in part)
    assert all(parameter.grad is not None for parameter in model.head.parameters())


def test_freezing_nothing_is_plain_training(trainer, weights, same):
    frozen, plain = trainer(folder="frozen"), trainer(folder="plain")
    freeze(frozen.model.backbone)
    frozen.fit(), plain.fit()
    assert same(weights(frozen.model), weights(plain.model))


def test_frozen_weights_stay_in_training_and_the_others_move(classifier, trainer, weights):
    run = trainer()
    before = weights(run.model)
    freeze(run.model.backbone, embeddings=True, layers=1)
    run.fit()
    table, first, _ = ({id(p) for p in part} for part in split_by_depth(run.model.backbone))
    for key, parameter in run.model.named_parameters():
        assert torch.equal(parameter, before[key]) == (id(parameter) in table | first), key


@pytest.mark.parametrize(("hidden", "attention"), [(0.3, 0.2), (0.0, 0.2), (0.3, 0.0), (0.0, None), (None, 0.0)])
def test_hidden_and_attention_dropout_are_set_apart(backbones, architecture, hidden, attention):
    config = load_config(backbones[architecture])
    before = config.to_dict()
    split_dropout(config, hidden, attention)
    with quiet():
        AutoModel.from_config(config)
    for field, value in config.to_dict().items():
        if "drop" not in field or before[field] is None:
            assert value == before[field]
        else:
            expected = attention if "attention" in field else hidden
            assert value == (before[field] if expected is None else expected), field


def test_the_fields_are_those_of_each_configuration():
    bert, distilbert, modernbert = BertConfig(), DistilBertConfig(), ModernBertConfig(mlp_dropout=0)
    for config in (bert, distilbert, modernbert):
        split_dropout(config, 0.3, 0.2)
    assert (bert.hidden_dropout_prob, bert.attention_probs_dropout_prob) == (0.3, 0.2)
    assert (distilbert.dropout, distilbert.attention_dropout) == (0.3, 0.2)
    assert (modernbert.embedding_dropout, modernbert.mlp_dropout, modernbert.attention_dropout) == (0.3, 0.3, 0.2)


def test_layerdrop_and_switches_are_no_dropouts():
    config = BertConfig(encoder_layerdrop=0.05, token_dropout=True)
    split_dropout(config, 0.3, 0.2)
    assert (config.encoder_layerdrop, config.token_dropout, config.classifier_dropout) == (0.05, True, None)


def test_a_model_without_layers_is_an_error():
    with pytest.raises(ValueError, match="Linear has no list of layers"):
        find_layers(torch.nn.Linear(2, 2))
