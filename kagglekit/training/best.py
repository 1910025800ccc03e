"""Keep the weights of the best evaluation, and stop when none is better any more (Prechelt, 1998).

What every evaluation predicted, kept, so that the choice among them can be made again by rows of other folds.
"""

import math
from contextlib import contextmanager

import numpy as np
import torch

from kagglekit.options import check_range
from kagglekit.scoring.metrics import is_better
from kagglekit.tricks.trick import Trick
from kagglekit.tricks.weights import restored


class KeepBest(Trick):
    """After training the model has the weights that had the best score of all evaluations; of equal ones, the earlier.

    The score is `eval_score`, and `args.greater_is_better` says which is better. What is kept is what was evaluated:
    with EMA, the average. The last step is always evaluated, so that it is among those to choose from.

    patience: stop after so many evaluations in a row without a better score; 1 stops at the first, 0 never. The
    schedule is that of the full run all the same. start: evaluations before it do not count. Costs one copy of the
    weights, also in each checkpoint. The score of a model that was chosen by it is too good: the more so, the more
    evaluations there were and the fewer rows they had. That holds for the out-of-fold score of a run in which each
    fold's model is chosen by the fold's own rows; `runs.best_epoch` tells what it is when the other folds choose.
    """

    finished = False  # training is over: the best weights are the ones to save
    chooses = True

    def __init__(self, patience: int = 0, start: float = 0.0):
        self.patience = patience
        self.start = start
        self.best_: list[torch.Tensor] = []
        self.best_score_ = math.nan
        self.best_step_ = 0
        self.stale_ = 0  # evaluations since the best one

    def check(self):
        super().check()
        check_range("KeepBest: patience", self.patience, self.patience >= 0, "a number of evaluations, or 0")

    def on_train_begin(self, args, state, control, **kwargs):
        if args.eval_strategy == "no":
            raise ValueError("KeepBest chooses by the scores of evaluations, and there are none: set evaluate_every")
        self.finished = False

    def on_step_end(self, args, state, control, **kwargs):
        control.should_evaluate |= state.global_step == state.max_steps

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        """While the evaluated weights are still in the model."""
        if not self.started(state):
            return
        self.steps_ += 1
        score = metrics["eval_score"]
        if is_better(score, self.best_score_, args.greater_is_better):
            weights = [parameter.detach() for parameter in model.parameters()]
            self.best_ = self.best_ or [torch.empty_like(weight) for weight in weights]
            torch._foreach_copy_(self.best_, weights)
            self.best_score_, self.best_step_, self.stale_ = score, state.global_step, 0
            return
        self.stale_ += 1
        if self.stale_ == self.patience:
            control.should_training_stop = True
            control.should_save = False  # one who goes on from there would make a step too many

    def on_train_end(self, args, state, control, **kwargs):
        self.finished = True

    @contextmanager
    def evaluating(self, model):
        if not (self.finished and self.best_):
            yield
            return
        weights = [parameter.detach() for parameter in model.parameters()]
        with restored(weights):
            torch._foreach_copy_(weights, self.best_)
            yield

    def receipt(self, model):
        return {**super().receipt(model), "best step": self.best_step_, "best score": self.best_score_}

    def state_dict(self):
        score = torch.tensor(self.best_score_, dtype=torch.float64)
        counts = {name: torch.tensor(getattr(self, name)) for name in ("steps_", "best_step_", "stale_")}
        return {"best_score_": score, **counts, **{f"best_.{i}": tensor for i, tensor in enumerate(self.best_)}}

    def load_state_dict(self, state):
        self.best_ = [state[f"best_.{i}"] for i in range(len(state) - 4)]
        for name in ("best_score_", "steps_", "best_step_", "stale_"):
            setattr(self, name, state[name].item())


class RecordEvaluations(Trick):
    """Keeps the predictions of each evaluation in training: as weights are chosen by the scores of these, the score of
    the chosen ones is too good, and what others would have been chosen can only be told while all are known.

    latest: a dict in which each evaluation leaves its `predictions`, (rows, columns). Costs rows x columns x 4 bytes of
    main memory for each evaluation, also in each checkpoint, so that nothing is lost or told twice when a run stops.
    """

    def __init__(self, latest: dict):
        self.latest = latest
        self.at_: list[int] = []  # the steps of the evaluations
        self.predictions_: list[np.ndarray] = []

    def on_evaluate(self, args, state, control, **kwargs):
        self.steps_ += 1
        self.at_.append(state.global_step)
        self.predictions_.append(np.array(self.latest["predictions"], dtype=np.float32, order="C"))

    @property
    def evaluations(self) -> dict[int, np.ndarray]:
        """Step -> predictions (rows, columns) float32, in their order."""
        return dict(zip(self.at_, self.predictions_, strict=True))

    def state_dict(self):
        made = {str(step): torch.from_numpy(predictions) for step, predictions in self.evaluations.items()}
        return {"steps_": torch.tensor(self.steps_), **made}

    def load_state_dict(self, state):
        state = {name: tensor.cpu() for name, tensor in state.items()}
        self.steps_ = state.pop("steps_").item()
        self.at_ = sorted(map(int, state))
        self.predictions_ = [state[str(step)].numpy() for step in self.at_]
