"""CheckpointSoup: the mean of the best weights of one run (Wortsman et al., 2022, arXiv 2203.05482)."""

import math
from contextlib import contextmanager

import torch

from kagglekit.model.weight_averages import average_weights
from kagglekit.tricks.trick import Trick, knob, share, trick
from kagglekit.tricks.weights import restored, trained


@trick
class CheckpointSoup(Trick):
    """After training the model has the mean of the weights that had the `keep` best scores of all evaluations.

    The score is `eval_score`, and `args.greater_is_better` says which is better; of equal ones the later counts.
    Evaluations in training see the live weights, so that they show how training goes. A member is what was evaluated:
    with EMA or SWA, their averages. The last step is always evaluated. Evaluations before `start` do not count: a model
    that has learned little spoils the mean. Costs `keep` copies of the weights in main memory, also in each checkpoint,
    and one evaluation more. Members are chosen by the fold's own rows: on few of them the score is too good.
    """

    chooses = True
    finished = False  # training is over: the soup is what to save
    members_, scores_ = (), ()  # weights by name, and the score of each

    keep: int = knob(3, "members; 3 to 5 are usual; 1: the best checkpoint; many: the mean of all evaluated", least=1)
    start: float = share(0.5)

    def on_train_begin(self, args, state, control, **kwargs):
        if args.eval_strategy == "no":
            raise ValueError("CheckpointSoup averages the weights of the best evaluations, and there are none")
        self.finished = False

    def on_step_end(self, args, state, control, **kwargs):
        control.should_evaluate |= state.global_step == state.max_steps

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        """While the evaluated weights are still in the model."""
        score = metrics["eval_score"]
        if not self.started(state) or math.isnan(score):
            return
        self.steps_ += 1
        member = {name: tensor.to("cpu", copy=True) for name, tensor in trained(model).items()}
        self.members_, self.scores_ = [*self.members_, member], [*self.scores_, score]
        if len(self.members_) > self.keep:
            worst = self.scores_.index((min if args.greater_is_better else max)(self.scores_))
            del self.members_[worst], self.scores_[worst]

    def on_train_end(self, args, state, control, **kwargs):
        self.finished = True

    @contextmanager
    def evaluating(self, model):
        if not (self.finished and self.members_):
            yield
            return
        weights = trained(model)
        with restored(weights.values()):
            for name, tensor in average_weights(self.members_).items():
                weights[name].copy_(tensor)
            yield

    def receipt(self, model):
        scores = {"members": len(self.scores_), "mean score of members": sum(self.scores_) / max(len(self.scores_), 1)}
        return {**super().receipt(model), **scores}

    def state_dict(self):
        scores = torch.tensor(self.scores_, dtype=torch.float64)
        tensors = {f"{n}.{name}": tensor for n, member in enumerate(self.members_) for name, tensor in member.items()}
        return {"steps_": torch.tensor(self.steps_), "scores_": scores, **tensors}

    def load_state_dict(self, state):
        self.steps_, self.scores_ = int(state["steps_"]), state["scores_"].tolist()
        self.members_ = [{} for _ in self.scores_]
        for key in state.keys() - {"steps_", "scores_"}:
            number, name = key.split(".", 1)
            self.members_[int(number)][name] = state[key].cpu()
