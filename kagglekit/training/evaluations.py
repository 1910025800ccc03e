"""What every evaluation predicted, kept, so that the choice among them can be made again by rows of other folds."""

import numpy as np
import torch

from kagglekit.training.trick import Trick


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
