"""When to stop: a probe scores the backbone at chosen steps, and the best step goes on, not the last."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_model, save_model
from transformers import TrainerCallback

from kagglekit.paths import read_json, remove, replacing, write_json
from kagglekit.pretraining.probe import Probe
from kagglekit.training.best import is_better
from kagglekit.training.seeds import random_state_kept

OVERALL = "overall"


class KeepCandidates(TrainerCallback):
    """Ask `probe` before the first step, every `probe.every` steps and after the last, and keep the weights that count.

    model: what is trained, `model.backbone` is what is scored. folds: those that go on from this training. For each of
    them the best step is the one with the best score when all its rows are left out (`ProbeScore.by_fold`), so that no
    label of a fold chose the model that it begins from; overall is that of all labels. Of equal ones the earlier.
    Scores and weights are files in `folder`: they outlive a kill, and a run that goes on from a checkpoint asks again
    only for the steps behind it. At most a copy of the weights for each fold and one more, and those since the last
    checkpoint. Training is left as it was: weights, mode and random state.
    """

    def __init__(self, probe: Probe, model: torch.nn.Module, folder: Path, folds: Sequence[int]):
        self.probe = probe
        self.model = model
        self.folder = folder
        self.names = [OVERALL, *map(str, folds)]
        self.scores: list[dict[str, float]] = []

    def on_train_begin(self, args, state, control, **kwargs):
        file = self.folder / "scores.json"
        known = read_json(file) if file.is_file() else []
        self.scores = [row for row in known if row["step"] <= state.global_step]
        if not self.scores:
            self._ask(args, 0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.probe.every == 0 or state.global_step == state.max_steps:
            self._ask(args, state.global_step)

    def on_save(self, args, state, control, **kwargs):
        """What is not the best by now will never be; before, a resumed run might have needed it."""
        kept = {self.file(self.best(name)) for name in self.names}
        if args.should_save:
            for file in set(self.folder.glob("*.safetensors")) - kept:
                remove(file)

    def _ask(self, args, step: int) -> None:
        with random_state_kept():
            found = self.probe.evaluate(self.model.backbone)
        row = {"step": step, **dict.fromkeys(self.names, found.overall)}  # a fold of which no row is asked has this one
        row |= {str(fold): value for fold, value in found.by_fold.items()}
        (row,) = broadcast_object_list([row])  # all processes go by the same scores
        self.scores = [*self.scores, row]
        if args.should_save:
            if any(self.best(name) == step for name in self.names):
                with replacing(self.file(step)) as part:
                    save_model(self.model, str(part))
            write_json(self.folder / "scores.json", self.scores)

    def best(self, name: str) -> int:
        """The step to go on from: for a fold, or overall."""
        step, value = self.scores[0]["step"], math.nan
        for row in self.scores:
            if is_better(row[name], value, self.probe.higher_is_better):
                step, value = row["step"], row[name]
        return step

    def file(self, step: int) -> Path:
        """Where the weights of a step are, while they may still be the best."""
        return self.folder / f"step{step}.safetensors"

    def put_back(self, step: int) -> None:
        """Give the model the weights that it had at `step`."""
        load_model(self.model, str(self.file(step)))
