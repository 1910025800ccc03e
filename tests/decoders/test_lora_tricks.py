"""Every trick of the catalogue works on adapters: it acts, leaves frozen weights alone, and goes on after a stop."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.decoders.lora import adapters_of
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.training.callbacks import SaveEvery, last_checkpoint
from kagglekit.training.early_stopping import KeepBest
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.trainer import Trainer, history, training_arguments
from kagglekit.tricks import TRICKS
from kagglekit.tricks.mixout import mixed, trained_linears
from tests.conftest import _Stop

SETTINGS = {  # at work from the first step or two on
    "AWP": {"start": 0.2}, "EMA": {"start": 0.2}, "SWA": {"start": 0.3}, "CheckpointSoup": {"start": 0.0, "keep": 2},
    "GradualUnfreezing": {"until": 0.5}, "Mixup": {"alpha": 0.5}, "TokenMasking": {"probability": 0.3},
    "FGM": {"epsilon": 0.5},
}  # fmt: skip


@pytest.fixture
def run(tmp_path, tiny_decoder, examples):
    """run(tricks, folder, stop, precision, family, **options): a trainer of a tiny model with adapters, 8 steps."""

    def make(tricks=(), folder="run", stop=None, precision="fp32", family="llama", checkpointing=False, **options):
        source = tiny_decoder(family)  # made with random numbers
        torch.manual_seed(0)
        backbone = load_backbone(source, 0.0, attention="eager")
        model = Classifier(backbone, "softmax", 3, "last_token", adapters={"r": 4, "dropout": 0.1, **options})
        model.mask_id, model.special_ids = 4, (0, 1, 2)
        if checkpointing:
            model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        trainer = Trainer(
            model,
            training_arguments(
                tmp_path / folder, epochs=4, batch_size=12, precision=precision, seed=0, log_every=1, evaluate_every=2
            ),
            examples(),
            F.cross_entropy,
            adamw(parameter_groups(model, 1e-2)),
            tricks,
            lambda _: {"score": float(trainer.state.global_step * 3 % 5)},
            [SaveEvery(1e9), *([_Stop(stop)] if stop else [])],
        )
        return trainer

    return make


def frozen(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("name", [*TRICKS, "KeepBest"])
def test_every_trick_acts_leaves_frozen_weights_alone_and_goes_on_after_a_stop(run, weights, same, name):
    def tricks():
        return [KeepBest() if name == "KeepBest" else TRICKS[name](**SETTINGS.get(name, {}))]

    straight = run(tricks())
    before, begin = frozen(straight.model), weights(straight.model)
    receipt = straight.fit()[name]
    assert receipt["steps"] > 0 and all(value == value for value in receipt.values())
    assert same(frozen(straight.model), before) and frozen(straight.model).keys() == before.keys()
    assert all(not torch.equal(begin[key], x) for key, x in weights(straight.model).items() if key.endswith("lora_b"))
    run(tricks(), "stopped", stop=5).train()
    resumed = run(tricks(), "stopped")
    again = resumed.fit()[name]
    assert same(weights(resumed.model), weights(straight.model))
    assert again == receipt
    assert history(resumed.state.log_history) == history(straight.state.log_history)
    with straight.evaluating(), resumed.evaluating():
        assert same(weights(resumed.model), weights(straight.model)) and same(frozen(straight.model), before)


@pytest.mark.parametrize("name", ["FGM", "PGD", "FreeLB", "AWP"])
def test_an_attack_on_a_model_with_adapters_is_one(run, name):
    """The first pass is a plain one: the loss of the last is higher."""
    knobs = {"epsilon": 0.005} if name == "FGM" else {}
    trainer, losses = run([TRICKS[name](start=0.0, **knobs)]), []
    for layer in adapters_of(trainer.model).values():
        nn.init.normal_(layer.lora_b, std=0.1)
        layer.lora_dropout = 0.0
    inner = trainer.loss
    trainer.loss = lambda logits, labels: losses.append((value := inner(logits, labels)).item()) or value
    trainer.args.max_steps = 1
    trainer.train()
    assert losses[-1] > losses[0]
    assert trainer.model.get_input_embeddings().weight.grad is None


def test_a_checkpoint_has_no_weight_of_the_frozen_backbone(run):
    trainer = run([TRICKS["Mixout"](), TRICKS["EMA"](), KeepBest()], stop=3)
    trainer.train()
    place = last_checkpoint(Path(trainer.args.output_dir))
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad) * 4
    whole = sum(p.numel() for p in trainer.model.parameters()) * 4
    assert trained < whole / 2
    for file in place.glob("*.safetensors"):
        assert file.stat().st_size < trained + 8000, file


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_checkpointed_activations_give_the_same_gradients_though_the_embeddings_are_frozen(run, family):
    found = []
    for checkpointing in (False, True):
        for precision in ("fp32", "bf16"):
            trainer = run(family=family, checkpointing=checkpointing, dropout=0.0, precision=precision)
            losses = [
                row["loss"] for row in (trainer.fit() and []) or history(trainer.state.log_history) if "loss" in row
            ]
            found.append((losses, trainer.model.state_dict()))
    assert found[0][0] == pytest.approx(found[2][0], rel=1e-5) and found[1][0] == pytest.approx(found[3][0], rel=1e-2)
    for name, x in found[0][1].items():
        assert torch.allclose(x, found[2][1][name], atol=1e-4)


def test_mixout_of_an_adapter_goes_back_to_the_weights_without_it(run):
    model = run().model.train()
    linears, adapters = trained_linears(model.backbone)
    assert not linears and len(adapters) == 14
    layer, x = adapters[0], torch.randn(5, 32)
    nn.init.normal_(layer.lora_b)
    with mixed([], [], 0.999999, [layer]):
        assert torch.allclose(layer(x), layer.frozen(x), atol=1e-4)
    layer.lora_dropout = 0.0
    plain = layer(x)
    with mixed([], [], 0.0, [layer]):
        assert torch.allclose(layer(x), plain, atol=1e-5)
    with mixed([], [], 0.5, [layer]):
        mean = torch.stack([layer(x) for _ in range(4000)]).mean(0)
    assert torch.allclose(mean, plain, atol=1.0) and "forward" not in vars(layer)


def test_layers_below_have_lower_rates_and_frozen_weights_none(run):
    model = run().model
    groups = {group["name"]: group["lr"] for group in parameter_groups(model, 1e-3, layer_decay=0.5)}
    assert groups == {"layer 1": 5e-4, "layer 2": 1e-3, "head": 1e-3}
    grouped = [p for group in parameter_groups(model, 1e-3) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p.requires_grad}
