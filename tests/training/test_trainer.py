import ast
import inspect
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F
from transformers import TrainerCallback, get_linear_schedule_with_warmup

from kagglekit.data.batches import training_batches
from kagglekit.training.learning_rates import learning_rates, parameter_groups
from kagglekit.training.predict import predict
from kagglekit.training.recipe import SCHEDULES
from kagglekit.training.trainer import Trainer, history
from kagglekit.tricks import EMA, FGM
from kagglekit.tricks.trick import Trick

PRIVATE = {"_load_from_checkpoint"}  # names of transformers.Trainer that ours rests on


def test_the_private_names_of_transformers_that_the_loop_rests_on_are_these():
    nodes = list(ast.walk(ast.parse(Path(inspect.getsourcefile(Trainer)).read_text(encoding="utf-8"))))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names} | defined
    theirs = set(dir(transformers.Trainer))
    assert {name for name in used - (defined - theirs) if name.startswith("_") and name[1] != "_"} == PRIVATE
    assert theirs >= PRIVATE


class Spy(Trick):
    """Writes down when it is entered and left."""

    def __init__(self, name, diary, start=0.0):
        self.name, self.diary, self.start = name, diary, start

    def compute_loss(self, compute, model, inputs):
        self.diary.append(f"{self.name} loss")
        self.steps_ += 1
        return compute(inputs)

    def training_step(self, step, model, inputs):
        self.diary.append(f"{self.name} step")
        loss = step(inputs)
        self.diary.append(f"{self.name} stepped")
        return loss

    @contextmanager
    def evaluating(self, model):
        self.diary.append(f"{self.name} evaluates")
        yield
        self.diary.append(f"{self.name} evaluated")


class Rates(TrainerCallback):
    """Writes down the rate of every group with which each step is made."""

    def __init__(self):
        self.rows = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rows.append({group["name"]: group["lr"] for group in optimizer.param_groups})


@pytest.mark.parametrize("accumulation", [1, 4])  # 6 batches: the last step of an epoch has 2 of 4
def test_without_tricks_it_is_the_loop_one_would_write(trainer, classifier, examples, accumulation, logged):
    ours = trainer(accumulation=accumulation, max_grad_norm=0.5, warmup=0.25)
    ours.fit()

    model, rows = classifier(), examples()
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2))
    steps = 2 * (6 // accumulation + (6 % accumulation > 0))
    schedule = get_linear_schedule_with_warmup(optimizer, -(-steps // 4), steps)
    model.train()
    norms = []
    for epoch in range(2):
        batches = training_batches(rows.tokens.lengths, 4, seed=0, epoch=epoch)
        for start in range(0, len(batches), accumulation):
            group = batches[start : start + accumulation]
            for batch in map(rows.__getitems__, group):
                labels = batch.pop("labels")
                (F.cross_entropy(model(**batch)["logits"], labels) / len(group)).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    assert np.allclose(logged(ours, "grad_norm"), norms, rtol=1e-4)
    for one, other in zip(ours.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_training_learns(fitted, logged):
    losses = logged(fitted(epochs=15), "loss")
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])


def test_the_first_trick_is_the_outermost(trainer):
    diary = []
    run = trainer([Spy("a", diary), Spy("b", diary)], epochs=1, batch_size=24)  # one step
    run.fit()
    assert diary == ["a step", "b step", "a loss", "b loss", "b stepped", "a stepped"]
    diary.clear()
    with run.evaluating():
        diary.append("now")
    assert diary == ["a evaluates", "b evaluates", "now", "b evaluated", "a evaluated"]


@pytest.mark.parametrize(("start", "steps"), [(0.0, 12), (0.25, 9), (0.5, 6), (0.51, 5), (0.99, 0)])
def test_a_late_start_acts_on_exactly_the_steps_after_it(trainer, start, steps):
    diary = []
    run = trainer([Spy("a", diary, start)])
    if steps:
        assert run.fit()["Spy"] == {"steps": steps}
    else:
        with pytest.raises(RuntimeError, match="Spy never acted in 12 steps: let it start earlier, or leave it out"):
            run.fit()
    assert diary.count("a step") == diary.count("a loss") == steps


def test_evaluation_happens_at_its_steps_and_changes_nothing(trainer, fitted, weights, same, logged):
    seen = []

    def evaluation(model):
        seen.append(run.state.global_step)
        predict(model, run.train_dataset, "fp32")
        return {"score": 0.5 + len(seen)}

    run = trainer(evaluation=evaluation, evaluate_every=6, dropout=0.1)
    run.fit()
    plain = fitted(folder="plain", dropout=0.1)
    assert seen == [6, 12] and logged(run, "eval_score") == [1.5, 2.5]
    assert same(weights(run.model), weights(plain.model))


def test_the_history_has_one_row_a_logged_step_and_no_clock(fitted):
    run = fitted(evaluation=lambda model: {"score": 1.0}, evaluate_every=6, log_every=4)
    rows = history(run.state.log_history)
    assert [row["step"] for row in rows] == [1, 4, 6, 8, 12]
    assert [row.get("score") for row in rows] == [None, None, 1.0, None, 1.0]
    assert all(set(row) <= {"step", "epoch", "loss", "grad_norm", "learning_rate", "score"} for row in rows)
    assert [row["epoch"] for row in rows] == pytest.approx([step / 6 for step in (1, 4, 6, 8, 12)])
    every = history(fitted(folder="every").state.log_history)
    assert rows[1]["loss"] == pytest.approx(np.mean([row["loss"] for row in every[1:4]]), abs=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(fitted, weights, same):
    first, second, other = (fitted(folder=f, seed=s, dropout=0.1).model for f, s in (("a", 0), ("b", 0), ("c", 1)))
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_every_kind_of_loss_falls(fitted, kind, logged):
    losses = logged(fitted(kind=kind, epochs=8), "loss")
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


@pytest.mark.parametrize("epochs", [0.5, 1.5])
def test_a_fraction_of_an_epoch_is_a_fraction_of_its_steps(fitted, epochs):
    assert fitted(epochs=epochs).state.global_step == 6 * epochs


def test_bf16_trains_close_to_fp32(fitted, logged):
    half, full = (fitted(folder=p, precision=p) for p in ("bf16", "fp32"))
    assert np.allclose(logged(half, "loss"), logged(full, "loss"), atol=0.05)
    assert half.model.head.weight.dtype == torch.float32


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("options", [{}, {"accumulation": 4, "epochs": 3.5, "warmup": 0.0}], ids=["plain", "other"])
def test_the_rates_are_those_of_the_table(trainer, schedule, options):
    rates, cycles = Rates(), {"cycles": 2, "cycle_growth": 2}
    run = trainer(callbacks=[rates], schedule=schedule, **cycles, **options)
    groups = [{"name": group["name"], "lr": group["lr"]} for group in run.optimizer.param_groups]
    run.fit()
    table = learning_rates(groups, schedule, options.get("warmup", 0.1), 2, run.state.max_steps, 2)
    assert rates.rows == table.to_dict("records")


def test_clipping_can_be_turned_off(fitted, logged):
    losses = {limit: logged(fitted(folder=f"{limit}", max_grad_norm=limit), "loss") for limit in (0, 1e9, 0.01)}
    assert losses[0] == losses[1e9] and losses[0][0] == losses[0.01][0] and losses[0][3:] != losses[0.01][3:]


def test_the_weights_to_save_are_there_in_an_evaluation_and_inside_evaluating_alone(trainer, weights, same):
    seen = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
            seen.append((metrics["eval_score"], weights(model)))

    ema = EMA(decay=0.9, start=0)
    run = trainer([ema, FGM()], evaluation=lambda model: {"score": 1.5}, evaluate_every=12, callbacks=[Watch()])
    run.fit()
    live = weights(run.model)
    with run.evaluating():
        assert len(seen) == 1 and seen[0][0] == 1.5 and same(seen[0][1], weights(run.model))
        assert all(map(torch.equal, run.model.parameters(), ema.average_)) and not same(weights(run.model), live)
    assert same(weights(run.model), live)
