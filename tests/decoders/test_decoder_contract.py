"""What holds for encoders holds for decoders: saved and loaded, resumed, layer by layer, and with every trick."""

import pytest
import torch

from kagglekit.data.batches import Examples
from kagglekit.data.tokens import Tokens, tokenize
from kagglekit.device import checkpoint_activations
from kagglekit.losses.catalogue import default_loss
from kagglekit.model.backbones import load_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.surgery import freeze, reinit_layers
from kagglekit.training import build_model
from kagglekit.training.callbacks import SaveEvery
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe
from kagglekit.training.trainer import Trainer, training_arguments
from kagglekit.tricks import TRICKS
from tests.conftest import _Stop
from tests.decoders.families import FAMILIES
from tests.tricks.trick_cases import CASES

TEXTS = ["the good film", "no", "it was a very old plot, and 1234 poor ends: yes?", "", "sad", "fun! fun!"]


def build(path, **dropouts):
    torch.manual_seed(0)
    return Classifier(load_backbone(path, **dropouts), "softmax", 3, "last_token")


@pytest.fixture
def train(tmp_path, tiny_decoder, examples):
    """train(tricks, folder, stop, family): a trainer of a tiny decoder, before its 6 steps; it stops behind one."""

    def make(tricks, folder, stop=None, family="llama"):
        model, rows = build(tiny_decoder(family), attention_dropout=0.1), examples()
        model.mask_id, model.special_ids = 4, (0, 1, 2)
        options = {"epochs": 1, "batch_size": 4, "precision": "fp32", "seed": 0, "log_every": 1, "evaluate_every": 3}
        return Trainer(
            model,
            training_arguments(tmp_path / folder, **options),
            rows,
            default_loss("multiclass"),
            adamw(parameter_groups(model, 1e-2, layer_decay=0.9)),
            tricks,
            lambda model: {"score": float(predict(model, rows, "fp32").max())},
            [SaveEvery(1e9), *([_Stop(stop)] if stop else [])],
        )

    return make


@pytest.mark.parametrize(
    ("name", "family"), [*((name, "llama") for name in TRICKS), *((None, family) for family in FAMILIES)]
)
def test_every_trick_and_every_family_trains_and_goes_on_after_a_stop(name, family, train, weights, same):
    def make(folder, stop=None):
        return train([TRICKS[name](**CASES[name].usual)] if name else [], folder, stop, family)

    whole = make("whole")
    before = weights(whole.model)
    receipts = whole.fit()
    assert not name or receipts[name]["steps"]
    make("again", 4).train()
    resumed = make("again")
    resumed.fit()
    with whole.evaluating(), resumed.evaluating():
        found = weights(whole.model)
        assert same(weights(resumed.model), found) and all(x.isfinite().all() for x in found.values())
    assert sum(not torch.equal(before[one], found[one]) for one in found) > len(found) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_decoder_predicts_what_it_predicted(family, tiny_decoder, tmp_path):
    path = tiny_decoder(family, "none")
    model, tokenizer = build(path), load_tokenizer(path)
    examples = Examples(tokenize(TEXTS, tokenizer, 32), tokenizer.pad_token_id)
    model.save(tmp_path / "model", tokenizer)
    again = load_tokenizer(str(tmp_path / "model"))
    reread = Examples(tokenize(TEXTS, again, 32), again.pad_token_id)
    assert reread.tokens.flat.tolist() == examples.tokens.flat.tolist()
    loaded = Classifier.load(tmp_path / "model")
    assert predict(loaded, reread, "fp32").tolist() == predict(model, examples, "fp32").tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_have_their_rates_and_are_frozen_and_made_again_from_the_right_end(family, tiny_decoder):
    model, fresh = build(tiny_decoder(family)), build(tiny_decoder(family))
    rates = {group["name"]: group["lr"] for group in parameter_groups(model, 1.0, layer_decay=0.5)}
    assert rates == {"embeddings": 0.25, "layer 1": 0.5, "layer 2": 1.0, "head": 1.0}
    reinit_layers(fresh.backbone, 1)
    pairs = zip(model.backbone.named_parameters(), fresh.backbone.parameters(), strict=True)
    changed = {name for (name, one), other in pairs if not torch.equal(one, other)}
    assert changed and all(".1." in f".{name}" for name in changed)
    freeze(model.backbone, embeddings=True, layers=1)
    left = {group["name"] for group in parameter_groups(model, 1.0)}
    assert left == {"layer 2", "head"}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_computed_again_have_the_same_gradients(family, tiny_decoder):
    tokens = Tokens(*[torch.tensor([5, 9, 7, 30, 31, 6, 5, 8, 8, 12]).numpy(), torch.tensor([6, 4]).numpy()])
    batch, found = tokens.pad(0), []
    for again in (False, True):
        model = build(tiny_decoder(family)).train()
        if again:
            checkpoint_activations(model.backbone)
        model(**batch)["logits"].square().sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) and all(map(torch.equal, *found))


@pytest.mark.parametrize(
    ("family", "device", "wanted", "computed"),
    [
        *(("llama", "cuda", None, True), ("llama", "cpu", None, False), ("bert", "cuda", None, False)),
        *(("llama", "cuda", False, False), ("bert", "cpu", True, True)),
    ],
)
def test_activations_of_a_decoder_on_a_gpu_are_computed_again_unless_told(
    family, device, wanted, computed, tiny_decoder, backbones, monkeypatch
):
    calls = []
    monkeypatch.setattr(build_model, "choose_device", lambda: torch.device(device))
    monkeypatch.setattr(build_model, "checkpoint_activations", calls.append)
    path = backbones[family] if family in backbones else tiny_decoder(family)
    backbone = build_model.build_backbone(path, load_tokenizer(path), Recipe(checkpointing=wanted, max_length=24))
    assert calls == [backbone] * computed
