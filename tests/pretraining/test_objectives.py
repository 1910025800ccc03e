"""What every objective of the catalogue has to keep; each one's own computations have a file of their own."""

import random
from dataclasses import fields

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from kagglekit.model.backbones import quiet
from kagglekit.pretraining.masking import MASKINGS, Masking
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import OBJECTIVES
from kagglekit.training.callbacks import SaveEvery
from kagglekit.training.learning_rates import adamw, parameter_groups
from kagglekit.training.trainer import Trainer, training_arguments

ARCHITECTURES = ["bert", "roberta", "electra", "deberta-v2", "distilbert", "modernbert"]
ALIKE = ("mlm", "mlm_nsp", "simcse_supervised")  # trained on every architecture in test_mlm, or as another one is
EVERY = pytest.mark.parametrize("name", OBJECTIVES)


class Stop(SaveEvery):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.seconds:
            control.should_save = control.should_training_stop = True


@pytest.fixture
def train(tmp_path):
    """train(prepared, folder, stop): a trainer after 12 steps, two epochs or more, or after `stop` of them."""

    def fit(prepared, folder="run", stop=None):
        args = training_arguments(tmp_path / folder, epochs=3, batch_size=4, precision="fp32", seed=0, log_every=1)
        args.max_steps = 12
        groups = parameter_groups(prepared.model, 1e-2)
        parts = (prepared.examples, prepared.loss, adamw(groups), prepared.tricks)
        callbacks = [Stop(stop) if stop else SaveEvery(1e9)]
        trainer = Trainer(prepared.model, args, *parts, callbacks=callbacks)
        trainer.fit()
        return trainer

    return fit


@EVERY
def test_the_loss_falls_and_resumed_is_never_stopped(name, prepare, train, logged, weights, same):
    straight, first, second = prepare(name), prepare(name), prepare(name)
    losses = logged(train(straight), "loss")
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    train(first, "stopped", stop=5)
    train(second, "stopped")
    assert not same(weights(first.model), weights(second.model))
    assert same(weights(straight.model), weights(second.model))


@EVERY
def test_measuring_twice_gives_the_same_figures_and_leaves_no_trace(name, prepare, weights, same):
    prepared = prepare(name)
    prepared.model.train()
    before, states = weights(prepared.model), [torch.get_rng_state(), np.random.get_state()[1], random.getstate()]
    figures = prepared.measure()
    assert np.isfinite(list(figures.values())).all()
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert (np.random.get_state()[1] == states[1]).all()
    assert all(module.training for module in prepared.model.modules()) and same(weights(prepared.model), before)
    torch.rand(3)
    assert prepared.measure() == figures


@pytest.fixture
def learn(compute_loss):
    """learn(prepared): one step on the first eight rows, with all tricks, at a high rate."""

    def step(prepared):
        optimizer = adamw(parameter_groups(prepared.model, 1e-2))
        prepared.model.train()
        compute_loss(prepared, prepared.tricks)(prepared.examples.__getitems__(list(range(8))))[0].backward()
        optimizer.step()

    return step


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in OBJECTIVES for kind in ARCHITECTURES if kind == "bert" or name not in ALIKE],
)
def test_every_weight_has_a_gradient_and_the_encoder_comes_back(name, kind, prepare, learn, batch, backbones, tmp_path):
    prepared = prepare(name, kind)
    learn(prepared)
    assert all(p.grad is not None for p in prepared.model.parameters() if p.requires_grad)  # else DDP waits for them
    prepared.save(tmp_path)
    text, real = {key: batch[key] for key in ("input_ids", "attention_mask")}, batch["attention_mask"].bool()
    classes = [AutoModel] if name == "rtd" else [AutoModel, AutoModelForMaskedLM]
    with torch.no_grad(), quiet():
        ours = prepared.model.backbone.eval()(**text)[0][real]
        for theirs in classes:
            assert torch.allclose(ours, theirs.from_pretrained(tmp_path).eval().base_model(**text)[0][real], atol=1e-5)
        assert not torch.allclose(ours, AutoModel.from_pretrained(backbones[kind]).eval()(**text)[0][real], atol=1e-3)


@EVERY
def test_new_tokens_have_rows_that_are_trained_and_saved(name, prepare, learn, tmp_path):
    prepared = prepare(name, words=["funny", "plots"])
    learn(prepared)
    prepared.save(tmp_path)
    with quiet():
        assert AutoModel.from_pretrained(tmp_path).get_input_embeddings().weight.shape[0] == 30 + 2


@EVERY
def test_an_option_that_an_objective_does_not_have_is_an_error(name, prepare):
    known = ", ".join(OBJECTIVES[name].options) or "none"
    with pytest.raises(ValueError, match=rf"{name} has no knob 'zzz'; it has {known}$"):
        prepare(name, options={"zzz": 0.1})


def test_a_stage_knows_every_objective_and_every_masking_and_no_other():
    knobs = {one.name: one.metadata["choices"] for one in fields(Stage) if one.metadata.get("choices")}
    assert knobs == {"objective": tuple(OBJECTIVES), "masking": tuple(MASKINGS)}


@EVERY
def test_the_catalogue_says_what_an_objective_needs(name, prepare):
    made, objective = prepare(name), OBJECTIVES[name]
    assert any(isinstance(trick, Masking) for trick in made.tricks) == objective.hides_tokens
    if objective.needs_labels or objective.needs_images:
        with pytest.raises(ValueError, match=f"{name} needs (labels|pairs)"):
            prepare(name, labels=None)
    else:
        prepare(name, labels=None)
