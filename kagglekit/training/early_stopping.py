"""Early stopping: keep the weights of the best evaluation, and stop when none is better any more (Prechelt, 1998)."""

import math
from contextlib import contextmanager

import numpy as np
import torch

from kagglekit.scoring.metrics import is_better
from kagglekit.tricks.trick import Trick, knob, share, trick
from kagglekit.tricks.weights import changeable, restored


@trick
class KeepBest(Trick):
    """After training the model has the weights of the evaluation with the best score; of equal ones, the earliest.

    The score is `eval_score`, and `args.greater_is_better` says which is better. It keeps what was evaluated: with EMA,
    the average. The last step is always evaluated. Stopping early does not change the learning-rate schedule. Costs one
    copy of the weights, also in each checkpoint.

    The score of a model that was chosen this way is too good: the more evaluations and the fewer rows, the more so.
    That holds for the out-of-fold score when the rows of a fold choose the fold's model; `runs.best_epoch` gives the
    score when the other folds choose.
    """

    chooses = True
    finished = False  # training is over: the best weights are the ones to save
    best_ = ()
    best_score_ = math.nan
    best_step_ = 0
    stale_ = 0  # evaluations since the best one

    patience: int = knob(0, "evaluations in a row without a better score before training ends; 0: never", least=0)
    start: float = share()

    def on_train_begin(self, args, state, control, **kwargs):
        if args.eval_strategy == "no":
            raise ValueError("KeepBest chooses by the scores of evaluations, and there are none: set evaluate_every")
        self.finished = False

    def on_step_end(self, args, state, control, **kwargs):
        control.should_evaluate |= state.global_step == state.max_steps

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        """Called while the evaluated weights are in the model."""
        if not self.started(state):
            return
        self.steps_ += 1
        if is_better(metrics["eval_score"], float(self.best_score_), args.greater_is_better):
            weights = changeable(model)
            self.best_ = self.best_ or [torch.empty_like(weight) for weight in weights]
            torch._foreach_copy_(self.best_, weights)
            self.best_score_ = torch.tensor(metrics["eval_score"], dtype=torch.float64)
            self.best_step_, self.stale_ = state.global_step, 0
            return
        self.stale_ += 1
        if self.stale_ == self.patience:
            control.should_training_stop = True
            control.should_save = False  # a run resumed from there would make one step too many

    def on_train_end(self, args, state, control, **kwargs):
        self.finished = True

    @contextmanager
    def evaluating(self, model):
        if not (self.finished and self.best_):
            yield
            return
        weights = changeable(model)
        with restored(weights):
            torch._foreach_copy_(weights, self.best_)
            yield

    def receipt(self, model):
        best = {"best step": int(self.best_step_), "best score": float(self.best_score_)}
        return {**super().receipt(model), **best}


class RecordEvaluations(Trick):
    """Keeps the predictions of each evaluation, so that rows of other folds can choose among them afterwards.

    latest: a dict in which each evaluation leaves its `predictions`, (rows, columns). `evaluations`: step -> these as
    float32. Costs rows x columns x 4 bytes of main memory for each evaluation, also in each checkpoint.
    """

    def __init__(self, latest: dict):
        self.latest = latest
        self.evaluations: dict[int, np.ndarray] = {}

    def on_evaluate(self, args, state, control, **kwargs):
        self.evaluations[state.global_step] = np.array(self.latest["predictions"], dtype=np.float32, order="C")
        self.steps_ = len(self.evaluations)

    def state_dict(self):
        recorded = {str(step): torch.from_numpy(predictions) for step, predictions in self.evaluations.items()}
        return {"steps_": torch.tensor(self.steps_), **recorded}

    def load_state_dict(self, state):
        steps = sorted(int(name) for name in state if name != "steps_")
        self.evaluations = {step: state[str(step)].cpu().numpy() for step in steps}
        self.steps_ = len(steps)
