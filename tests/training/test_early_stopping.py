import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kagglekit.scoring.metrics import is_better, score
from kagglekit.training.callbacks import last_checkpoint
from kagglekit.training.early_stopping import KeepBest, RecordEvaluations
from kagglekit.tricks import EMA, FGM
from kagglekit.tricks.trick import Trick

TRAIN, VALID = np.arange(6, 24), np.arange(6)
SCORES = [0.2, 0.5, 0.9, 0.4, 0.9, 0.3]  # of the evaluations at steps 2, 4, ... 12: the best is that of step 6


class Judge:
    """Gives the evaluations these scores, by the step, and remembers which weights it saw."""

    def __init__(self, scores=SCORES, every=2):
        self.scores, self.every, self.seen = scores, every, {}

    def __call__(self, model):
        step = self.run.state.global_step
        self.seen[step] = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return {"score": self.scores[step // self.every - 1]}


class Thaw(Trick):
    """Trains the backbone from step 8 on."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.backbone.requires_grad_(False)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.steps_ += 1
        model.backbone.requires_grad_(state.global_step >= 7)


@pytest.fixture
def judged(trainer):
    """judged(tricks, folder, judge, **options): a trainer that is evaluated every 2 steps, 6 times in all."""

    def make(tricks, folder="run", judge=None, **options):
        judge = judge or Judge()
        judge.run = trainer(tricks, folder, evaluation=judge, **{"evaluate_every": judge.every, **options})
        return judge.run, judge

    return make


@pytest.mark.parametrize("scores", [SCORES, [3.0, -1.0], [math.nan, 0.1, math.nan], [1.0, 1.0], [math.inf, 2.0]])
@pytest.mark.parametrize("higher", [True, False])
def test_one_score_after_the_other_finds_the_first_best(scores, higher):
    best = math.nan
    for new in scores:
        best = new if is_better(new, best, higher) else best
    assert best == (np.nanmax if higher else np.nanmin)(scores)
    assert not is_better(best, best, higher) and not is_better(math.nan, math.nan, higher)


BATTERY = {  # name -> tricks, scores, options; how many evaluations count, the best step, and the last step of training
    "highest": (lambda: [KeepBest()], SCORES, {}, 6, 6, 12),
    "lowest": (lambda: [KeepBest()], SCORES, {"higher_is_better": False}, 6, 2, 12),
    "each better than the last": (lambda: [KeepBest(patience=1)], [1, 2, 3, 4, 5, 6], {}, 6, 12, 12),
    "after EMA": (lambda: [EMA(0.8, start=0.0), KeepBest()], SCORES, {}, 6, 6, 12),
    "before EMA": (lambda: [KeepBest(), EMA(0.8, start=0.0)], SCORES, {}, 6, 6, 12),
    "weights that are thawed later": (lambda: [Thaw(), KeepBest()], SCORES, {}, 6, 6, 12),
    "evaluations before its start do not count": (lambda: [KeepBest(start=0.6)], SCORES, {}, 3, 10, 12),
    "patience 1": (lambda: [KeepBest(1)], SCORES, {}, 4, 6, 8),
    "patience 2": (lambda: [KeepBest(2)], SCORES, {}, 5, 6, 10),
    "patience 3": (lambda: [KeepBest(3)], SCORES, {}, 6, 6, 12),
    "patience 4": (lambda: [KeepBest(4)], SCORES, {}, 6, 6, 12),
}


@pytest.mark.parametrize("case", BATTERY)
def test_after_training_the_best_weights_are_the_ones_to_save_and_inside_evaluating_alone(judged, weights, same, case):
    tricks, scores, options, steps, best, last = BATTERY[case]
    run, judge = judged(tricks(), judge=Judge(scores), dropout=0.1, **options)
    assert run.fit()["KeepBest"] == {"steps": steps, "best step": best, "best score": scores[best // 2 - 1]}
    assert run.state.global_step == last == max(judge.seen) and run.state.max_steps == 12
    live = weights(run.model)
    with pytest.raises(KeyError), run.evaluating():
        assert same(weights(run.model), judge.seen[best]) and (best == 12 or not same(weights(run.model), live))
        raise KeyError
    assert same(weights(run.model), live) and ("EMA" in case or same(live, judge.seen[last]))


def test_with_ema_it_keeps_the_average(judged, same):
    (_, average), (_, live) = judged([EMA(0.8, start=0.0), KeepBest()]), judged([KeepBest()], "plain")
    average.run.fit(), live.run.fit()
    assert not same(average.seen[6], live.seen[6])


def test_training_itself_is_not_touched(judged, fitted, weights, same):
    run, judge = judged([KeepBest()], dropout=0.1)
    run.fit()
    plain = fitted(folder="plain", dropout=0.1)
    assert same(weights(run.model), weights(plain.model)) and same(judge.seen[12], weights(plain.model))


def test_a_run_that_is_stopped_early_has_the_rates_of_the_full_one(judged, fitted, logged):
    run, _ = judged([KeepBest(1)])
    run.fit()
    rates = logged(fitted(folder="plain"), "learning_rate")
    assert logged(run, "learning_rate") == rates[:8]


def test_the_last_step_is_always_evaluated(judged):
    run, judge = judged([KeepBest()], judge=Judge(every=5, scores=[0.1, 0.3, 0.2]), batch_size=3)  # 16 steps
    run.fit()
    assert sorted(judge.seen) == [5, 10, 15, 16]


@pytest.mark.parametrize("others", [list, lambda: [EMA(0.8, start=0.3), FGM()]], ids=["alone", "beside others"])
def test_stopped_and_resumed_is_never_stopped(alike, others):
    alike(lambda: [*others(), KeepBest()], [3, 6, 7, 10], scores=SCORES, evaluate_every=2)


def test_its_patience_survives_a_stop(alike):
    straight, _ = alike(lambda: [KeepBest(2)], [3, 8, 9], scores=SCORES, evaluate_every=2)
    assert straight.state.global_step == 10


def test_every_evaluation_is_recorded_once_also_of_a_run_that_was_stopped(alike):
    make = lambda: [EMA(0.8, start=0.0), KeepBest(), RecordEvaluations({})]  # noqa: E731
    found = alike(make, [3, 4, (1, 7), (6, 9)], evaluate_every=2)[0].tricks[-1].evaluations
    assert list(found) == [2, 4, 6, 8, 10, 12] and not np.array_equal(found[2], found[4])


def test_there_is_no_checkpoint_of_the_step_at_which_patience_ended(judged, tmp_path):
    first, _ = judged([KeepBest(2)], save_seconds=0)
    receipts = first.fit()
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-9"
    again, _ = judged([KeepBest(2)], save_seconds=0)  # as after a kill, before the model was written
    assert again.fit() == receipts and again.state.global_step == 10


def test_a_checkpoint_holds_the_live_weights_and_the_best(judged, tmp_path, same):
    run, judge = judged([KeepBest()], stop=9)
    run.train()
    folder = last_checkpoint(tmp_path / "run")
    live, best = load_file(folder / "model.safetensors"), load_file(folder / "trick-0.safetensors")
    assert all(torch.equal(live[name], tensor) for name, tensor in run.model.state_dict().items())
    names = [name for name, _ in run.model.named_parameters()]
    assert all(torch.equal(best[f"best_.{i}"], judge.seen[6][name]) for i, name in enumerate(names))
    assert best["best_score_"] == torch.tensor(0.9, dtype=torch.float64) and best["best_step_"] == 6


def test_its_state_survives_saving_also_before_the_first_evaluation():
    for made in (KeepBest(), KeepBest(3)):
        if made.patience:
            made.best_, made.best_score_, made.best_step_ = [torch.randn(3), torch.randn(2, 2)], torch.tensor(1 / 3), 40
            made.steps_, made.stale_ = 5, 2
        other = KeepBest()
        other.load_state_dict(made.state_dict())
        assert all(map(torch.equal, other.best_, made.best_)) and len(other.best_) == len(made.best_)
        assert (other.steps_, other.best_step_, other.stale_) == (made.steps_, made.best_step_, made.stale_)
        assert other.best_score_ == made.best_score_ or math.isnan(made.best_score_)


def test_without_an_evaluation_it_is_an_error(trainer):
    with pytest.raises(ValueError, match="KeepBest chooses by the scores of evaluations, and there are none"):
        trainer([KeepBest()]).fit()


@pytest.mark.parametrize(("knobs", "words"), [({"patience": -1}, "KeepBest: patience=-1"), ({"start": 1}, "start=1")])
def test_a_knob_out_of_range_is_an_error(knobs, words):
    KeepBest().check()
    with pytest.raises(ValueError, match=words):
        KeepBest(**knobs).check()


def test_its_repr_is_the_line_that_builds_it():
    assert repr(eval(repr(KeepBest(3, start=0.5)))) == "KeepBest(patience=3, start=0.5)"


def test_recorded_evaluations_survive_saving_also_before_the_first_one():
    made, other = RecordEvaluations({}), RecordEvaluations({})
    other.load_state_dict(made.state_dict())
    assert other.evaluations == {} and other.steps_ == 0
    made.evaluations, made.steps_ = {100: np.zeros((2, 3)), 20: np.ones((2, 3))}, 2
    other.load_state_dict(made.state_dict())
    assert list(other.evaluations) == [20, 100] and other.steps_ == 2
    assert all(np.array_equal(other.evaluations[step], made.evaluations[step]) for step in (20, 100))


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_the_evaluation_that_was_kept_is_among_those_that_come_back(tuner, tmp_path, kind):
    for keep_best in (True, False):
        fine = tuner(kind, epochs=3, keep_best=keep_best)
        fitted = fine.fit(TRAIN, VALID, tmp_path / str(keep_best), 0)
        if not keep_best:
            assert fitted.evaluations == {}
            continue
        best = fitted.receipts["KeepBest"]["best step"]
        assert list(fitted.evaluations) == [row["step"] for row in fitted.history if "score" in row]
        assert np.allclose(fitted.evaluations[best], fitted.oof, atol=1e-6)
        for row in fitted.history:
            if "score" in row:
                again = score(fine.task.metric, fine.labels[VALID], fitted.evaluations[row["step"]])
                assert again == pytest.approx(row["score"])
                loss = "log_loss" if kind == "multiclass" else "mse"
                known = score(loss, fine.labels[VALID], fitted.evaluations[row["step"]])
                assert known == pytest.approx(row["valid_loss"])
